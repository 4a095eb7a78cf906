"""The views of a training example: `data.views`, or the short form `data.columns`."""

import string
from collections.abc import Sequence
from typing import Any

from simcse_lit.config.schema import DataConfig, ViewConfig
from simcse_lit.errors import UserError

PLACE = "{text}"  # in a template: place of the sentence
STOPPED = "{text.}"  # the same, but a sentence without a punctuation mark at its end gets a full stop
ENDS = string.punctuation + "…。！？」』”’»"  # a sentence that ends in one of these gets none
ROLES = ("anchor", "positive", "hard_negative", "soft_negative", "extra")


def views_of(data: DataConfig, makers: Sequence[Any] = ()) -> list[ViewConfig]:
    """Return the views of an example, in the order of the batch.

    In the short form the columns are the anchor, the positive and the hard negatives; a single column is both anchor and
    positive. `checks/positives.py` has checked that the list `data.template` has one entry for each view.

    Args:
        data: group `data` of `conf/`.
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
    """Return the places in `data.columns` whose cells may be empty."""
    return [place for place, column in enumerate(data.columns) if column in (data.optional or ())]


def has_role(data: DataConfig, role: str) -> bool:
    """Return whether an example has a view with this role."""
    return any(view.role == role for view in views_of(data))


def check_template(template: Any, key: str) -> None:
    """Check that a template is a text with exactly one place for the sentence.

    Raises:
        UserError: it is not.
    """
    if not isinstance(template, str) or places(template) != 1:
        raise UserError(f"{key}={template}: must be a text with {PLACE} exactly once, where the sentence goes.")


def places(template: str) -> int:
    """Count the places for the sentence in a template."""
    return template.count(PLACE) + template.count(STOPPED)


def stopped(text: str) -> str:
    """Return a text with a full stop, unless it ends in a punctuation mark or is empty."""
    text = text.rstrip()
    return text if not text or text.endswith(tuple(ENDS)) else f"{text}."
