"""The views of a training example as the configuration names them: `data.views`, or the short form, `data.columns`."""

from collections.abc import Sequence
from typing import Any

from simcse_lit.config.schema import DataConfig, ViewConfig
from simcse_lit.errors import UserError

PLACE = "{text}"  # in a template, where the sentence goes
ROLES = ("anchor", "positive", "hard_negative", "soft_negative", "extra")


def views_of(data: DataConfig, makers: Sequence[Any] = ()) -> list[ViewConfig]:
    """The views of an example, in the order in which a batch holds them.

    In the short form the columns are anchor, positive and hard negatives; one column is anchor and positive. The list
    `data.template` has as many entries as there are views (`checks/positives.py`).

    Args:
        data: the group `data` of `conf/`.
        makers: `augmentation.makers`, which change the positive of the short form.
    """
    if data.views is not None:
        return data.views
    columns = data.columns * 2 if len(data.columns) == 1 else data.columns
    roles = ["anchor", "positive", *["hard_negative"] * (len(columns) - 2)]
    templates = data.template if isinstance(data.template, list) else [data.template] * len(columns)
    return [
        ViewConfig(column=column, role=role, template=template, makers=list(makers) if role == "positive" else [])
        for column, role, template in zip(columns, roles, templates, strict=True)
    ]


def optional_places(data: DataConfig) -> list[int]:
    """Places in `data.columns` whose cells may be empty."""
    return [place for place, column in enumerate(data.columns) if column in (data.optional or ())]


def has_role(data: DataConfig, role: str) -> bool:
    """Whether an example has a view of this role."""
    return any(view.role == role for view in views_of(data))


def check_template(template: Any, key: str) -> None:
    """Refuse a template that is no text with one place for the sentence.

    Raises:
        UserError: as above.
    """
    if not isinstance(template, str) or template.count(PLACE) != 1:
        raise UserError(f"{key}={template}: must be a text that holds {PLACE} once, where the sentence goes.")
