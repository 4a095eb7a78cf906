"""Encoders beside the one that is trained, for terms that need more than one: `step.passes.encode(ids, mask, encoder=NAME)`.

`loss.beside` of `conf/` names them. Each is of one kind: a moving average of the encoder, a second one that is trained, or a
frozen one (`methods/frozen.py`). What is evaluated and exported is never one of these.
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
    """An encoder beside the one that is trained. A subclass sets `encoder` in `setup`.

    Attributes:
        trained: it has gradients, and is in training mode.
        lr_scale: multiplies the learning rate of its parameters; `lr_scale` of its node sets it.
        sharded: it may be used with FSDP.
    """

    trained: ClassVar[bool] = False
    sharded: ClassVar[bool] = False
    lr_scale: float = 1.0
    encoder: SentenceEncoder

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Make the encoder, once, when the weights of the trained one are loaded.

        Args:
            encoder: the one that is trained.
            tokenizer: its tokenizer.

        Raises:
            UserError: it cannot be made.
        """
        raise NotImplementedError(f"{type(self).__name__} has no setup(encoder, tokenizer)")

    def after_step(self, encoder: SentenceEncoder) -> None:
        """Follow the trained encoder once the optimiser has stepped. Gradients are off."""


class Momentum(Beside):
    """A moving average of the trained encoder: each number becomes `decay` of itself and the rest of the trained one.

    It has no dropout and no gradient, starts as the trained encoder does, and is in the run's checkpoints.

    Args:
        decay: share that stays at each step, from 0 to below 1.

    Raises:
        ValueError: `decay` is no such share.

    Source: He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning, equation 2.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: must be at least 0 and below 1")
        self.decay = decay

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the encoder."""
        self.encoder = deepcopy(encoder).requires_grad_(False).eval()

    def after_step(self, encoder: SentenceEncoder) -> None:
        """Move towards the encoder; buffers, as a head's running statistics, become its own."""
        for ours, theirs in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.decay)
        for copy, buffer in zip(self.encoder.buffers(), encoder.buffers(), strict=True):
            copy.copy_(buffer)

    def train(self, mode: bool = True) -> "Momentum":
        """Stay in evaluation mode."""
        return super().train(False)


class Second(Beside):
    """A copy of the encoder with a fresh head, which is trained too."""

    trained = True

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the encoder."""
        self.encoder = second_encoder(encoder)


def build_beside(nodes: Mapping[str, Any], *, sharded: bool) -> dict[str, Beside]:
    """The encoders of `loss.beside`, which are not set up yet.

    Args:
        nodes: by name; null for none of this name.
        sharded: the run shards its parameters (FSDP).

    Raises:
        UserError: one cannot be built, or not be used with FSDP.
    """
    found: dict[str, Beside] = {}
    for name, node in nodes.items():
        key = f"loss.beside.{name}"
        if node is None:
            continue
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise UserError(f"{key}: an encoder cannot have this name. Choose another of letters, digits and _.")
        if not isinstance(node, Mapping):
            raise UserError(f"{key}={node}: must be a group with a _target_, or null for no such encoder.")
        settings = dict(node)
        scale = lr_scale(settings, key)
        beside = build(settings, key)
        if not isinstance(beside, Beside):
            raise UserError(f"{key}._target_={node['_target_']}: is no simcse_lit.training.beside.Beside.")
        if sharded and not beside.sharded:
            raise UserError(
                f"{key}: trainer=fsdp shards the parameters, and {type(beside).__name__} copies whole ones.\n"
                "Use trainer=ddp."
            )
        beside.lr_scale = scale
        found[name] = beside
    return found


@torch.no_grad()
def follow(beside: Mapping[str, Beside], encoder: SentenceEncoder) -> None:
    """Let each follow the trained encoder, after a step of the optimiser."""
    for one in beside.values():
        one.after_step(encoder)
