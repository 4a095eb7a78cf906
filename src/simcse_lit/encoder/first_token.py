"""Takes the first token alone through the rest of the last layer, for the poolers that read no other token of it.

Past attention a layer treats each token by itself. Of the 12 H^2 weights that a token meets in one of BERT's layers, 9 H^2
come then: the matrix after attention and the feed-forward. A backbone of six layers is spared an eighth of its matrix
products, one of twelve a sixteenth; vectors and gradients are what they were, but that dropout is drawn for fewer tokens.
Called by `encoder.py`.

Shapes: n sentences, l length, H hidden; packed, R rows of W slots.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from simcse_lit.encoder.packing import Packing

# BERT's kinds: attention's output and its residual go into one module, and nothing after it looks at other tokens.
KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


class FirstToken:
    """Stands before the module that follows attention in a backbone's last layer, and while asked to narrows its input.

    Args:
        backbone: any transformers model; those not of `KINDS` are left as they are.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        self._alone = False
        self._packing: Packing | None = None
        self._layers: nn.ModuleList | None = None
        self._last: nn.Module | None = None
        if backbone.config.model_type in KINDS:
            self._layers = cast(Any, backbone).encoder.layer
            self._last = self._layers[-1]
            cast(Any, self._last).attention.output.register_forward_pre_hook(self._narrow)

    @property
    def possible(self) -> bool:
        """Whether it can. Not where the layer is run again when nobody is asking any more: under gradient checkpointing,
        transformers' or, since it wraps the layer as a strategy's may, another's.
        """
        if self._layers is None or self._layers[-1] is not self._last:
            return False
        return not getattr(self._last, "gradient_checkpointing", False)

    @contextmanager
    def alone(self, packing: Packing | None) -> Iterator[None]:
        """While it lasts, the backbone's last hidden state is that of each sentence's first token, (n, 1, H)."""
        self._alone, self._packing = True, packing
        try:
            yield
        finally:
            self._alone, self._packing = False, None

    def _narrow(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """(n, l, H) or (R, W, H) to (n, 1, H)."""
        if not self._alone:
            return None
        if self._packing is None:
            return tuple(hidden_nlH[:, :1] for hidden_nlH in inputs)
        return tuple(self._packing.first_tokens(hidden_RWH) for hidden_RWH in inputs)
