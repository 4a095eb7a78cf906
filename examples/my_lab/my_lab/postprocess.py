"""A post-processing of vectors: their mean and their largest directions are taken off.

Shapes: N sentences that are fitted on, n others, H numbers of a vector, K directions.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class AllButTheTop:
    """Mu and Viswanath 2018, algorithm 1.

    Args:
        directions: how many are taken off, K.
    """

    def __init__(self, directions: int) -> None:
        self.directions = directions

    def __call__(self, fit_NH: Tensor) -> Callable[[Tensor], Tensor]:
        """Fit on vectors, (N, H), and return what moves vectors, (n, H) to (n, H)."""
        mean_H = fit_NH.mean(0)
        top_KH = torch.linalg.svd(fit_NH - mean_H, full_matrices=False).Vh[: self.directions]

        def move(vectors_nH: Tensor) -> Tensor:
            centred_nH = vectors_nH - mean_H
            return centred_nH - centred_nH @ top_KH.T @ top_KH

        return move
