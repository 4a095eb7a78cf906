"""Encoders beside the trained one, for loss terms that need another: `step.passes.encode(ids, mask, encoder=NAME)`.

`loss.beside` names them. An encoder is a moving average of the trained one, a second trained one, or frozen
(`methods/frozen.py`). Evaluation and export never use them.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.extension import build
from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.errors import UserError
from simcse_lit.training.optimisation import lr_scale


class Beside(nn.Module):
    """An encoder beside the trained one. A subclass sets `encoder` in `setup`.

    Attributes:
        trained: whether it has gradients and is in training mode.
        lr_scale: factor of the learning rate of its parameters, from the key `lr_scale` of its node.
        sharded: whether it works with FSDP.
        tokenizer: its tokenizer, set in `setup`, if it cannot read the token ids of the trained encoder. The views are then
            tokenised for it too, and terms call it with `passes.encode_view`.
    """

    trained: ClassVar[bool] = False
    sharded: ClassVar[bool] = False
    lr_scale: float = 1.0
    tokenizer: PreTrainedTokenizerFast | None = None
    encoder: SentenceEncoder

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Create the encoder; called once, after the weights of the trained one are loaded.

        Args:
            encoder: the trained encoder.
            tokenizer: its tokenizer.

        Raises:
            UserError: it cannot be created.
        """
        raise NotImplementedError(f"{type(self).__name__} has no setup(encoder, tokenizer)")

    def after_step(self, encoder: SentenceEncoder) -> None:
        """Follow the trained encoder after a step of the optimiser. Gradients are off."""


class Momentum(Beside):
    """A moving average of the trained encoder: each weight becomes decay * own + (1 - decay) * trained.

    It has no dropout and no gradient, starts equal to the trained encoder, and is stored in the run's checkpoints.

    Args:
        decay: share of its own value that a weight keeps at each step, at least 0 and below 1.
        live_head: use the head of the trained encoder as it is, and average the other weights only, as ESimCSE does.

    Raises:
        ValueError: `decay` is out of range.

    Source: He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning, equation 2.
    """

    def __init__(self, decay: float, live_head: bool = False) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: must be at least 0 and below 1")
        self.decay, self.live_head = decay, live_head

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the encoder."""
        self.encoder = deepcopy(encoder).requires_grad_(False).eval()

    def after_step(self, encoder: SentenceEncoder) -> None:
        """Move towards the trained encoder; buffers, such as a head's running statistics, are copied."""
        for (name, ours), theirs in zip(self.encoder.named_parameters(), encoder.parameters(), strict=True):
            live = self.live_head and name.startswith("projection.")
            ours.lerp_(theirs, 1.0 if live else 1 - self.decay)
        for copy, buffer in zip(self.encoder.buffers(), encoder.buffers(), strict=True):
            copy.copy_(buffer)

    def train(self, mode: bool = True) -> "Momentum":
        """Stay in evaluation mode."""
        return super().train(False)


class Second(Beside):
    """A copy of the encoder with a fresh head, trained as well."""

    trained = True

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the encoder."""
        self.encoder = second_encoder(encoder)


def build_beside(nodes: Mapping[str, Any], *, sharded: bool) -> dict[str, Beside]:
    """Build the encoders of `loss.beside`, without setting them up.

    Args:
        nodes: nodes by name; null removes the encoder of this name.
        sharded: whether the run shards its parameters (FSDP).

    Returns:
        The encoders by name.

    Raises:
        UserError: one cannot be built, or does not work with FSDP.
    """
    found: dict[str, Beside] = {}
    for name, node in nodes.items():
        key = f"loss.beside.{name}"
        if node is None:
            continue
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise UserError(f"{key}: an encoder cannot have this name. Use another name of letters, digits and _.")
        if not isinstance(node, Mapping):
            raise UserError(f"{key}={node}: must be a group with a _target_, or null to remove the encoder.")
        settings = dict(node)
        scale = lr_scale(settings, key)
        beside = build(settings, key)
        if not isinstance(beside, Beside):
            raise UserError(f"{key}._target_={node['_target_']}: is not a subclass of simcse_lit.training.beside.Beside.")
        if sharded and not beside.sharded:
            raise UserError(
                f"{key}: {type(beside).__name__} needs whole parameters, but trainer=fsdp shards them.\nUse trainer=ddp."
            )
        beside.lr_scale = scale
        found[name] = beside
    return found


@torch.no_grad()
def follow(beside: Mapping[str, Beside], encoder: SentenceEncoder) -> None:
    """Let each encoder follow the trained one after a step of the optimiser."""
    for one in beside.values():
        one.after_step(encoder)
