"""Tensor functions of where sentence vectors lie: cosines of pairs, alignment, uniformity, spectrum.

`cosines` takes vectors of any length. The other functions take unit vectors, which `analyses.py` makes. Nothing here knows
tasks or files.

Shapes: N sentences, B of them, P pairs, H hidden, R singular values (the smaller of N and H).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of the Gram matrix in memory at a time; changes speed and memory, not the result.
BLOCK = 1024

# Tolerances for equal vectors and equal cosines. In float32 the vector of a sentence differs slightly between batches of
# different shapes. Vectors with the relative difference d have a cosine of 1 - d^2 / 2.
SAME_VECTOR = 1e-5
SAME_COSINE = SAME_VECTOR**2


def cosines(first_PH: Tensor, second_PH: Tensor) -> Tensor:
    """Compute the cosine similarity of each pair, in float64.

    In float32, the cosines of a nearly collapsed encoder would fall on a few values close to 1. The ties would then decide
    the rank correlation.

    Args:
        first_PH: vectors, (P, H); a vector of length zero has the cosine 0 with any other.
        second_PH: vectors, (P, H).

    Returns:
        (P,) in float64.
    """
    first_PH, second_PH = (F.normalize(vectors_PH.double(), dim=-1) for vectors_PH in (first_PH, second_PH))
    return (first_PH * second_PH).sum(-1)


def collapsed(vectors_NH: Tensor) -> bool:
    """Tell whether all vectors, (N, H), are equal apart from rounding."""
    widest = (vectors_NH - vectors_NH[0]).abs().max()
    return bool(widest <= SAME_VECTOR * vectors_NH.abs().max())


def alignment(first_PH: Tensor, second_PH: Tensor, alpha: float = 2.0) -> Tensor:
    """Compute the mean distance of positive pairs to the power `alpha`. Lower is more aligned.

    Args:
        first_PH: unit vectors, (P, H), P >= 1.
        second_PH: unit vectors, (P, H); row i is the positive of the first's row i.
        alpha: power of the distance; the paper uses 2.

    Returns:
        Scalar, between 0 and 4 for `alpha=2`.

    Raises:
        ValueError: there is no pair, or the shapes differ.

    Source: Wang and Isola 2020, equation 1; SimCSE equation 2.
    """
    if first_PH.shape != second_PH.shape or not len(first_PH):
        raise ValueError(f"alignment needs pairs, got shapes {tuple(first_PH.shape)} and {tuple(second_PH.shape)}")
    distance_P: Tensor = torch.linalg.vector_norm(first_PH - second_PH, dim=-1)
    return distance_P.pow(alpha).mean()


def uniformity(z_NH: Tensor, t: float = 2.0) -> Tensor:
    """Compute the log of the mean Gaussian potential of all pairs i < j. Lower is more uniform.

    Args:
        z_NH: unit vectors, (N, H), N >= 2.
        t: sharpness of the kernel; the paper uses 2.

    Returns:
        Scalar in float64, in nats, between -4 t and 0.

    Raises:
        ValueError: there are fewer than two rows.

    Source: Wang and Isola 2020, equation 2; SimCSE equation 3.
    """
    count = len(z_NH)
    if count < 2:
        raise ValueError(f"uniformity needs two vectors or more, got {count}")
    total = torch.zeros((), dtype=torch.float64, device=z_NH.device)
    # Autocast would run the matmul in half precision, where close sentences are indistinguishable.
    with torch.autocast(z_NH.device.type, enabled=False):
        squared_N = z_NH.square().sum(-1)
        for start in range(0, count, BLOCK):
            rows_BH, rest_NH, rest_N = z_NH[start : start + BLOCK], z_NH[start:], squared_N[start:]
            # -t |x - y|^2 = 2t xy - t |y|^2 - t |x|^2
            exponent_BN = torch.addmm(rest_N, rows_BH, rest_NH.T, beta=-t, alpha=2 * t).sub_(t * rest_N[:BLOCK, None])
            # Column 0 is the block's own first row, so the pairs i < j stand above the diagonal.
            total += exponent_BN.exp_().triu_(1).sum(dtype=torch.float64)
    return (total / (count * (count - 1) / 2)).log()


def singular_values(z_NH: Tensor) -> Tensor:
    """Compute the singular values of the matrix of sentence vectors, divided by the largest, in descending order.

    Args:
        z_NH: vectors, (N, H), of unit length in the paper. They are not centred.

    Returns:
        (R,) in float64; the first is 1.

    Raises:
        ValueError: every vector is zero.

    Source: SimCSE section 5 and Figure F.1.
    """
    values_R: Tensor = torch.linalg.svdvals(z_NH.double())
    if not values_R[0] > 0:
        raise ValueError("every vector is zero: there is no spectrum")
    return values_R / values_R[0]


def effective_rank(singular_R: Tensor) -> Tensor:
    """Compute how many directions are in use: the exponential of the entropy of the normalised singular values.

    Args:
        singular_R: singular values, (R,), on any scale, not all zero.

    Returns:
        Scalar, between 1 and R.

    Source: Roy and Vetterli 2007, definition 1.
    """
    entropy_R: Tensor = torch.special.entr(singular_R / singular_R.sum())
    return entropy_R.sum().exp()


def random_pair_cosines(z_NH: Tensor, pairs: int, generator: torch.Generator) -> Tensor:
    """Compute the cosines of random pairs of different rows. Their mean is 0 for isotropic and 1 for collapsed vectors.

    Args:
        z_NH: unit vectors, (N, H), N >= 2.
        pairs: P, number of pairs to draw, with replacement.
        generator: CPU generator that draws the pairs.

    Returns:
        Cosines, (P,).

    Raises:
        ValueError: there are fewer than two rows.

    Source: Ethayarajh 2019, section 4.1, for words.
    """
    count = len(z_NH)
    if count < 2:
        raise ValueError(f"pairs need two vectors or more, got {count}")
    first_P = torch.randint(count, (pairs,), generator=generator)
    second_P = (first_P + torch.randint(1, count, (pairs,), generator=generator)) % count
    return (z_NH[first_P] * z_NH[second_P]).sum(-1)
