"""A post-processing that removes the mean and the largest directions of the vectors.

Shapes: N sentences to fit on, n sentences to change, H numbers of a vector, K directions.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class AllButTheTop:
    """Remove the mean and the directions of largest variance.

    Args:
        directions: how many are removed, K.

    Source: Mu and Viswanath 2018, All-but-the-Top, algorithm 1.
    """

    def __init__(self, directions: int) -> None:
        self.directions = directions

    def __call__(self, fit_NH: Tensor) -> Callable[[Tensor], Tensor]:
        """Fit on vectors, (N, H), and return the function that changes vectors, (n, H) to (n, H)."""
        mean_H = fit_NH.mean(0)
        top_KH = torch.linalg.svd(fit_NH - mean_H, full_matrices=False).Vh[: self.directions]

        def move(vectors_nH: Tensor) -> Tensor:
            centred_nH = vectors_nH - mean_H
            return centred_nH - centred_nH @ top_KH.T @ top_KH

        return move
