"""Baselines that move finished vectors: mean-centring and whitening. Pure tensor code; `conf/postprocess/` chooses.

Shapes: N sentences, H hidden, D directions kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import collapsed

Transform = Callable[[Tensor], Tensor]

# Variance of a direction below this share of the largest is rounding of float32 vectors.
NEGLIGIBLE = 1e-10


def centring(fit_NH: Tensor) -> Transform:
    """Takes the mean of `fit_NH`, (N, H), off every vector.

    Raises:
        UserError: all rows are the same, so that what is left would be rounding.
    """
    _refuse_collapsed(fit_NH, "centring")
    mean_H = fit_NH.double().mean(0).float()
    return lambda vectors_NH: vectors_NH - mean_H


def whitening(fit_NH: Tensor, dim: int | None) -> Transform:
    """Takes the mean off and turns the covariance of `fit_NH` into the identity, keeping the directions of largest variance.

    Args:
        fit_NH: vectors whose mean and covariance are taken, (N, H).
        dim: how many directions are kept; None for all that have any variance.

    Returns:
        From (n, H) to (n, D).

    Raises:
        UserError: `fit_NH` varies in fewer than `dim` directions, or in none.

    Source: Su et al. 2021, algorithm 1; SimCSE section 6.1 and table C.1.
    """
    _refuse_collapsed(fit_NH, "whitening")
    centred_NH = fit_NH.double() - (mean_H := fit_NH.double().mean(0))
    variance_H, directions_HH = torch.linalg.eigh(centred_NH.T @ centred_NH / len(fit_NH))
    rank = int((variance_H > NEGLIGIBLE * variance_H[-1]).sum())
    if dim is not None and dim > rank:
        raise UserError(
            f"postprocess.dim={dim}: the {len(fit_NH):,} sentences that whitening is fitted on vary in {rank} directions "
            "only.\nLower it, or fit on more sentences: postprocess.fit_on=FILE."
        )
    kept = dim or rank
    scaled_HD = directions_HH[:, -kept:].flip(1) / variance_H[-kept:].flip(0).sqrt()
    return lambda vectors_NH: ((vectors_NH.double() - mean_H) @ scaled_HD).float()


def _refuse_collapsed(fit_NH: Tensor, what: str) -> None:
    if collapsed(fit_NH):
        raise UserError(
            f"postprocess: the {len(fit_NH):,} sentences that {what} is fitted on all have the same vector.\n"
            "Fit on more sentences, postprocess.fit_on=FILE, or choose another pooler: the encoder may give no other vector."
        )
