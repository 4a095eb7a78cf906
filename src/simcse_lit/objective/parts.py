"""Parts of InfoNCE: extra negatives and masks.

`info_nce.py` has the term that takes them. `masks.py`, `queue.py` and `methods/` have parts.

Shapes: B anchors of this process, N = W x B candidates of all processes, K extra negatives, C columns of all candidates,
D numbers of a vector, W processes.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.objective.step import Step, Vocabulary


class Part(nn.Module):
    """Base of the parts of InfoNCE. A part with state changes it in `after_step` only.

    Attributes:
        encoders: see `Term.encoders`.
        needs: see `Term.needs`.
        needs_cosine: the part has no meaning with dot products. A module for `positive` may have this attribute too.
    """

    encoders: Sequence[str] = ()
    needs_cosine: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create what depends on the encoder: see `Term.setup`."""

    def after_step(self, step: Step) -> None:
        """Update state after the step of the optimiser: see `Term.after_step`."""


class Negatives(Part):
    """Extra negatives for the anchors: a queue, noise, mixtures. Write a subclass with `forward`."""

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return vectors that every anchor is contrasted with.

        Args:
            step: the current step.
            anchor_BD: vectors of the anchors, (B, D).
            candidates: from all processes, the views of positives, then those of hard negatives, (N, D) each.

        Returns:
            Vectors (K, D) for all anchors, or (B, K, D) with other vectors for each anchor. Optionally also true for the
            vectors that count, (K,).
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(step, anchor_BD, candidates)")


class Mask(Part):
    """Candidates that do not count as negatives, or how much they count. Write a subclass with `forward`."""

    def forward(self, step: Step) -> Tensor | tuple[Tensor, Tensor]:
        """Return true for a candidate to leave out, or a weight that multiplies its term in the denominator.

        The positives of an anchor always count in full.

        Args:
            step: the current step.

        Returns:
            Booleans or weights for the first columns: the positives, (B, N), or all candidates, (B, N x views). Optionally
            also for the columns that the option `own_view` adds: the other anchors, (B, N), or also the other positives of
            each view, (B, N x (1 + views)). Without these, all of them count.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(step)")


def log_weights(masks: Mapping[str, Mask], step: Step, logits_BC: Tensor, own: int) -> Tensor:
    """Compute what masks add to logits: log w for a weight w, and -inf for a candidate to leave out.

    Args:
        masks: masks by name.
        step: the current step.
        logits_BC: candidates and extra negatives, then the columns of `own_view`, (B, C).
        own: number of the first column of `own_view`.

    Returns:
        (B, C). The positives are not treated differently.

    Raises:
        ValueError: a mask has a wrong shape.
    """
    total_BC = torch.zeros_like(logits_BC)
    for name, part in masks.items():
        given = part(step)
        mask_BN, others_BN = given if isinstance(given, tuple) else (given, None)
        if mask_BN.ndim != 2 or len(mask_BN) != len(logits_BC) or mask_BN.shape[1] > own:
            raise ValueError(f"masks.{name}: must return (B, N) or (B, C), got {tuple(mask_BN.shape)}")
        added_BC = F.pad(_log(mask_BN, logits_BC), (0, own - mask_BN.shape[1]))
        if others_BN is not None:
            added_BC = torch.cat([added_BC, _log(others_BN, logits_BC)], dim=1)
        total_BC = total_BC + F.pad(added_BC, (0, logits_BC.shape[1] - added_BC.shape[1]))  # a negative width crops
    return total_BC


def _log(mask_BN: Tensor, like: Tensor) -> Tensor:
    """Return -inf where a boolean mask is true and 0 elsewhere, or the logarithm of weights."""
    weight_BN = ~mask_BN if mask_BN.dtype == torch.bool else mask_BN
    return weight_BN.to(like.dtype).log()
