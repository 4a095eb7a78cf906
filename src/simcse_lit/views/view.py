"""What a view of an example is, and how the views of a configuration are made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simcse_lit.config.extension import build
from simcse_lit.config.roles import views_of
from simcse_lit.config.schema import DataConfig, ModelConfig
from simcse_lit.errors import UserError
from simcse_lit.views.makers import DeviceMaker, Maker, TextMaker, TokenMaker


@dataclass(frozen=True)
class View:
    """One view of a training example.

    Args:
        column: its text, as a place in `data.columns`.
        role: one of `config/roles.py`.
        template: what stands around it; None for nothing.
        makers: what changes it, in order.
    """

    column: int
    role: str
    template: str | None = None
    makers: tuple[Maker, ...] = ()

    @property
    def changes(self) -> tuple[TextMaker | TokenMaker, ...]:
        """The makers that change it before it is padded."""
        return tuple(maker for maker in self.makers if not isinstance(maker, DeviceMaker))

    @property
    def on_device(self) -> tuple[DeviceMaker, ...]:
        """The makers that change it in the training step."""
        return tuple(maker for maker in self.makers if isinstance(maker, DeviceMaker))


def resolve(data: DataConfig, makers: Sequence[Any] = ()) -> tuple[View, ...]:
    """The views of an example, in the order in which a batch holds them, with their makers built.

    Args:
        data: the group `data` of `conf/`.
        makers: `augmentation.makers`, which change the positive of the short form.

    Raises:
        UserError: a maker cannot be built.
    """
    found = list[View]()
    for number, view in enumerate(views_of(data, makers)):
        key = "augmentation.makers" if data.views is None else f"data.views.{number}.makers"
        # in the short form a column may be named twice
        column = data.columns.index(view.column) if data.views is not None or len(data.columns) == 1 else number
        found.append(View(column, view.role, view.template, built_makers(view.makers, key)))
    return tuple(found)


def built_makers(nodes: Sequence[Any], key: str) -> tuple[Maker, ...]:
    """The makers that a list of nodes names by `_target_`.

    Raises:
        UserError: a node cannot be built, is no maker, or stands behind one of a later level.
    """
    makers = list[Maker]()
    for place, node in enumerate(nodes):
        where = f"{key}.{place}"
        if not isinstance(node, Mapping):
            raise UserError(f"{where}={node}: must be a group with a _target_.")
        maker = build(node, where)
        levels = (TextMaker, TokenMaker, DeviceMaker)
        if not isinstance(maker, levels):
            names = ", ".join(level.__name__ for level in levels)
            raise UserError(f"{where}._target_={node['_target_']}: is none of {names} of simcse_lit.views.makers.")
        earlier = [levels.index(level) for each in makers for level in levels if isinstance(each, level)]
        if earlier and not isinstance(maker, levels[max(earlier) :]):
            raise UserError(
                f"{where}._target_={node['_target_']}: stands behind {type(makers[-1]).__name__}, which changes tokens.\n"
                "The order is: text, token ids, tokens on the device."
            )
        makers.append(maker)
    return tuple(makers)


def set_up(views: Sequence[View], tokenizer: Any, model: ModelConfig, longest: int) -> None:
    """Let the makers of all views note or load what they need.

    Args:
        views: from `resolve`.
        tokenizer: the model's.
        model: the group `model` of `conf/`.
        longest: tokens of the longest sentence, with special tokens.

    Raises:
        UserError: a maker does not fit the model.
    """
    for view in views:
        for maker in view.changes:
            maker.setup(tokenizer)
        for each in view.on_device:
            each.setup(tokenizer, model, longest)


def column_names(views: Sequence[View], columns: int) -> list[str]:
    """What the texts of each of so many columns are, in the plural: of the first view that reads them."""
    if columns == 1:
        return ["texts"]
    names = list[str]()
    for column in range(columns):
        role = next(view.role for view in views if view.column == column)
        plural = f"{role.replace('_', ' ')}s"
        many = sum(name.startswith(plural) for name in names)
        names.append(f"{plural} {many + 1}" if many else plural)
    return names
