"""Baselines that move finished vectors: mean-centring and whitening. Pure tensor code; `conf/postprocess/` chooses.

Shapes: N sentences that are fitted on, n others, H hidden, D directions kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import collapsed

Transform = Callable[[Tensor], Tensor]  # vectors (n, H) to (n, D)

# Variance of a direction below this share of the largest is rounding of float32 vectors.
NEGLIGIBLE = 1e-10


class Postprocess(Protocol):
    """What moves vectors: an object, or a function with `_partial_: true` in the configuration."""

    def __call__(self, fit_NH: Tensor, /) -> Transform:
        """Fit on the vectors of all sentences of a task or file, (N, H) float32, and return what moves vectors."""


def fitted(process: Postprocess, fit_NH: Tensor) -> Transform:
    """Fit on vectors, (N, H), and check what is returned.

    Raises:
        UserError: as `process`; it returns no function, or that one no vector for each it is given.
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
                f"postprocess.transform: made {found} of vectors {tuple(vectors_NH.shape)}, and must make a vector of each."
            )
        return moved_ND

    return moved


@dataclass(frozen=True)
class Centring:
    """Takes the mean of the vectors off every vector."""

    def __call__(self, fit_NH: Tensor) -> Transform:
        """Take the mean of `fit_NH`, (N, H).

        Raises:
            UserError: all rows are the same, so that what is left would be rounding.
        """
        _refuse_collapsed(fit_NH, "centring")
        mean_H = fit_NH.double().mean(0).float()
        return lambda vectors_NH: vectors_NH - mean_H


@dataclass(frozen=True)
class Whitening:
    """Takes the mean off and turns the covariance into the identity, keeping the directions of largest variance.

    Args:
        dim: how many directions are kept; None for all that have any variance.

    Source: Su et al. 2021, algorithm 1; SimCSE section 6.1 and table C.1.
    """

    dim: int | None

    def __call__(self, fit_NH: Tensor) -> Transform:
        """Take mean and covariance of `fit_NH`, (N, H).

        Returns:
            From (n, H) to (n, D).

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
            "Fit on more sentences, postprocess.fit_on=FILE, or choose another pooler: the encoder may give no other vector."
        )
