"""Transforms of finished vectors: centring and whitening, the baselines of Table C.1. `conf/postprocess/` chooses one.

This module holds tensor code only. What the transforms are fitted on is decided in `evaluate.py`.

Shapes: N sentences to fit on, n sentences to transform, H hidden, D directions kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import collapsed

Transform = Callable[[Tensor], Tensor]  # vectors (n, H) to (n, D)

# A direction whose variance is below this share of the largest holds only the rounding of float32 vectors.
NEGLIGIBLE = 1e-10


class Postprocess(Protocol):
    """A transform to fit: a callable object, or a function with `_partial_: true` in the configuration."""

    def __call__(self, fit_NH: Tensor, /) -> Transform:
        """Fit on the vectors of all sentences of a task or file.

        Args:
            fit_NH: vectors, (N, H) float32.

        Returns:
            A function from (n, H) to (n, D).
        """


def fitted(process: Postprocess, fit_NH: Tensor) -> Transform:
    """Fit a transform and check it.

    Args:
        process: what is fitted.
        fit_NH: vectors to fit on, (N, H).

    Returns:
        The fitted transform. It checks that it returns one vector for each vector.

    Raises:
        UserError: fitting fails, or does not return a function. The transform raises it for a wrong shape.
    """
    transform = process(fit_NH)
    if not callable(transform):
        raise UserError(
            f"postprocess.transform: fitting returned {type(transform).__name__}, and must return a function of vectors "
            "(docs/extending/analysis.md)."
        )

    def moved(vectors_NH: Tensor) -> Tensor:
        moved_ND = transform(vectors_NH)
        if not isinstance(moved_ND, Tensor) or moved_ND.ndim != 2 or len(moved_ND) != len(vectors_NH):
            found = tuple(moved_ND.shape) if isinstance(moved_ND, Tensor) else type(moved_ND).__name__
            raise UserError(
                f"postprocess.transform: returned {found} for vectors {tuple(vectors_NH.shape)}. "
                "It must return one vector for each."
            )
        return moved_ND

    return moved


@dataclass(frozen=True)
class Centring:
    """Subtracts the mean vector. Source: SimCSE, Table C.1."""

    def __call__(self, fit_NH: Tensor) -> Transform:
        """Compute the mean of `fit_NH`, (N, H).

        Returns:
            A function from (n, H) to (n, H).

        Raises:
            UserError: all rows are equal, so that only rounding would be left.
        """
        _refuse_collapsed(fit_NH, "centring")
        mean_H = fit_NH.double().mean(0).float()
        return lambda vectors_NH: vectors_NH - mean_H


@dataclass(frozen=True)
class Whitening:
    """Subtracts the mean and makes the covariance the identity, in the directions of largest variance.

    Args:
        dim: number of directions to keep, D; None keeps all that have any variance.

    Source: Su et al. 2021, algorithm 1; SimCSE, section 6.1 and Table C.1.
    """

    dim: int | None

    def __call__(self, fit_NH: Tensor) -> Transform:
        """Compute mean and covariance of `fit_NH`, (N, H).

        Returns:
            A function from (n, H) to (n, D).

        Raises:
            UserError: `fit_NH` varies in fewer than `dim` directions, or in none.
        """
        _refuse_collapsed(fit_NH, "whitening")
        centred_NH = fit_NH.double() - (mean_H := fit_NH.double().mean(0))
        variance_H, directions_HH = torch.linalg.eigh(centred_NH.T @ centred_NH / len(fit_NH))
        rank = int((variance_H > NEGLIGIBLE * variance_H[-1]).sum())
        if self.dim is not None and self.dim > rank:
            raise UserError(
                f"postprocess.dim={self.dim}: the {len(fit_NH):,} sentences that whitening is fitted on vary in {rank} "
                "directions only.\nLower it, or fit on more sentences: postprocess.fit_on=FILE."
            )
        kept = self.dim or rank
        scaled_HD = directions_HH[:, -kept:].flip(1) / variance_H[-kept:].flip(0).sqrt()
        return lambda vectors_NH: ((vectors_NH.double() - mean_H) @ scaled_HD).float()


def _refuse_collapsed(fit_NH: Tensor, what: str) -> None:
    if collapsed(fit_NH):
        raise UserError(
            f"postprocess: the {len(fit_NH):,} sentences that {what} is fitted on all have the same vector.\n"
            "Fit on more sentences with postprocess.fit_on=FILE. If that does not help, the encoder gives every sentence\n"
            "the same vector: try another pooler."
        )
