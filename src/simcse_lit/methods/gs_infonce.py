"""GS-InfoNCE: Gaussian noise as extra negatives.

Shapes: B anchors of this process, N candidates of all processes, K extra negatives, D numbers of a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simcse_lit.objective.parts import Negatives
from simcse_lit.objective.step import Step


class Gaussian(Negatives):
    """Contrast every anchor with vectors drawn from a normal distribution, new ones in each step.

    With K draws g_k ~ N(0, I), the denominator of each anchor i gets the terms sum_k e^(cos(h_i, g_k) / tau). Random
    directions are nearly orthogonal to every sentence, so these terms smooth the loss: they bound the denominator from
    below, whatever the batch. Every process draws its own K vectors.

    The standard deviation of the authors' code has no place here, because a cosine does not depend on lengths.

    Use `dclr.Ascent` for noise that moves towards the anchors, and `mixcse.Mixed` for hard negatives made of sentences.

    Args:
        size: number of vectors, K.

    Raises:
        ValueError: the size is not positive.

    Source: Wu et al. 2022, Smoothed Contrastive Learning for Unsupervised Sentence Embedding, and its code.
    """

    needs_cosine = True

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size={size}: must be 1 or more")
        self.size = size

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        """Draw the vectors, (K, D)."""
        return torch.randn(self.size, anchor_BD.shape[1], dtype=anchor_BD.dtype, device=anchor_BD.device)
