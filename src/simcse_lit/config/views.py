"""The views of a training example as the configuration names them: `data.views`, or the short form, `data.columns`."""

from collections.abc import Sequence
from typing import Any

from simcse_lit.config.schema import DataConfig, ViewConfig

ROLES = ("anchor", "positive", "hard_negative", "soft_negative", "extra")


def views_of(data: DataConfig, makers: Sequence[Any] = ()) -> list[ViewConfig]:
    """The views of an example, in the order in which a batch holds them.

    In the short form the columns are anchor, positive and hard negatives; one column is anchor and positive.

    Args:
        data: the group `data` of `conf/`.
        makers: `augmentation.makers`, which change the positive of the short form.
    """
    if data.views is not None:
        return data.views
    columns = data.columns * 2 if len(data.columns) == 1 else data.columns
    roles = ["anchor", "positive", *["hard_negative"] * (len(columns) - 2)]
    return [
        ViewConfig(column=column, role=role, makers=list(makers) if role == "positive" else [])
        for column, role in zip(columns, roles, strict=True)
    ]


def has_role(data: DataConfig, role: str) -> bool:
    """Whether an example has a view of this role."""
    return any(view.role == role for view in views_of(data))
