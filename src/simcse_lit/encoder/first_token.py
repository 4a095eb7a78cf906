"""Computes the end of the last layer for the first token alone, for poolers that read no other token.

After attention, a layer treats each token separately. Of the 12 H^2 weights that BERT applies to a token in one layer, 9 H^2
come after attention: the output matrix and the feed-forward layers. A backbone of six layers saves an eighth of its matrix
products, one of twelve layers a sixteenth. Vectors and gradients stay the same, but dropout is drawn for fewer tokens.

Shapes: n sentences, l length, H hidden; packed, R rows of W slots.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from simcse_lit.encoder.kinds import kind_of_model
from simcse_lit.encoder.packing import Packing


class FirstToken:
    """A hook before the module that follows attention in the last layer. Inside `alone`, it keeps only first tokens.

    Args:
        backbone: any transformers model. It gets the hook if `kinds.py` names the module for its type.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        self._alone = False
        self._packing: Packing | None = None
        self._layers: nn.ModuleList | None = None
        self._last: nn.Module | None = None
        kind = kind_of_model(backbone)
        if kind.after_attention is not None:
            self._layers = cast(nn.ModuleList, backbone.get_submodule(kind.layers))
            self._last = self._layers[-1]
            self._last.get_submodule(kind.after_attention).register_forward_pre_hook(self._narrow)

    @property
    def possible(self) -> bool:
        """Whether the hook can be used.

        It cannot with gradient checkpointing, which runs the layer again outside `alone`. Checkpointing by transformers sets
        an attribute, and checkpointing by a strategy replaces the layer by a wrapper.
        """
        if self._layers is None or self._layers[-1] is not self._last:
            return False
        return not getattr(self._last, "gradient_checkpointing", False)

    @contextmanager
    def alone(self, packing: Packing | None) -> Iterator[None]:
        """Keep only the first token of each sentence in the last hidden state, (n, 1, H), inside this context."""
        self._alone, self._packing = True, packing
        try:
            yield
        finally:
            self._alone, self._packing = False, None

    def _narrow(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Keep the first tokens: (n, l, H) or (R, W, H) to (n, 1, H)."""
        if not self._alone:
            return None
        if self._packing is None:
            return tuple(hidden_nlH[:, :1] for hidden_nlH in inputs)
        return tuple(self._packing.first_tokens(hidden_RWH) for hidden_RWH in inputs)
