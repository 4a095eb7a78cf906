"""What a view of an example is, and how the configuration makes views. `makers.py` has the classes that change a view."""

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
        column: place of its text in `data.columns`.
        role: one of the roles of `config/roles.py`.
        template: text around the sentence; None for none.
        makers: makers that change it, in order.
    """

    column: int
    role: str
    template: str | None = None
    makers: tuple[Maker, ...] = ()

    @property
    def changes(self) -> tuple[TextMaker | TokenMaker, ...]:
        """Makers that change it before it is padded."""
        return tuple(maker for maker in self.makers if not isinstance(maker, DeviceMaker))

    @property
    def adds(self) -> int:
        """Number of tokens that its makers may add to `data.max_length`."""
        return sum(maker.adds for maker in self.makers if isinstance(maker, TokenMaker))

    @property
    def on_device(self) -> tuple[DeviceMaker, ...]:
        """Makers that change it in the training step."""
        return tuple(maker for maker in self.makers if isinstance(maker, DeviceMaker))


def resolve(data: DataConfig, makers: Sequence[Any] = ()) -> tuple[View, ...]:
    """Return the views of an example in the order of a batch, with their makers built.

    Args:
        data: the group `data` of the configuration.
        makers: the key `augmentation.makers`. They change the positive of the short form, `data.columns`.

    Raises:
        UserError: a maker cannot be built.
    """
    found = list[View]()
    for number, view in enumerate(views_of(data, makers)):
        key = "augmentation.makers" if data.views is None else f"data.views.{number}.makers"
        # in the short form, a column may occur twice
        column = data.columns.index(view.column) if data.views is not None or len(data.columns) == 1 else number
        found.append(View(column, view.role, view.template, built_makers(view.makers, key)))
    return tuple(found)


def built_makers(nodes: Sequence[Any], key: str) -> tuple[Maker, ...]:
    """Build the makers of a list of nodes.

    Args:
        nodes: nodes with `_target_` and arguments.
        key: where the list is in the configuration, for messages.

    Raises:
        UserError: a node cannot be built, is not a maker, or comes after a maker of a later level.
    """
    makers = list[Maker]()
    for place, node in enumerate(nodes):
        where = f"{key}.{place}"
        if not isinstance(node, Mapping):
            raise UserError(f"{where}={node}: must be a group with a _target_.")
        maker = build(node, where)
        levels = (TextMaker, TokenMaker, DeviceMaker)
        if not isinstance(maker, levels):
            names = " or ".join(level.__name__ for level in levels)
            raise UserError(f"{where}._target_={node['_target_']}: is not a {names} of simcse_lit.views.makers.")
        earlier = [levels.index(level) for each in makers for level in levels if isinstance(each, level)]
        if earlier and not isinstance(maker, levels[max(earlier) :]):
            raise UserError(
                f"{where}._target_={node['_target_']}: comes after {type(makers[-1]).__name__}, which changes tokens.\n"
                "Order the makers: text first, then token ids, then tokens on the device."
            )
        makers.append(maker)
    return tuple(makers)


def set_up(views: Sequence[View], tokenizer: Any, model: ModelConfig, longest: int) -> None:
    """Call `setup` of the makers of all views.

    Args:
        views: the result of `resolve`.
        tokenizer: tokenizer of the model.
        model: the group `model` of the configuration.
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
    """Name the texts of each column in the plural, by the role of the first view that reads them, for messages."""
    if columns == 1:
        return ["texts"]
    names = list[str]()
    for column in range(columns):
        role = next(view.role for view in views if view.column == column)
        plural = f"{role.replace('_', ' ')}s"
        many = sum(name.startswith(plural) for name in names)
        names.append(f"{plural} {many + 1}" if many else plural)
    return names
