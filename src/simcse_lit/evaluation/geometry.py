"""Where sentence vectors lie on the sphere, as tensor functions: alignment, uniformity, spectrum, cosines of pairs.
Only `cosines` takes vectors of any length; the others take unit vectors, which `evaluation/analyses.py` makes.

Shapes: N sentences, B of them, P pairs, H hidden, R singular values (the smaller of N and H).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of the Gram matrix that are in memory at a time; changes speed and memory, not the result.
BLOCK = 1024

# What rounding makes of equal vectors and of equal cosines: an encoder in float32 gives a sentence slightly different
# numbers in batches of different shapes. Vectors that differ by a relative d have a cosine of 1 - d^2 / 2.
SAME_VECTOR = 1e-5
SAME_COSINE = SAME_VECTOR**2


def cosines(first_PH: Tensor, second_PH: Tensor) -> Tensor:
    """Cosine similarity of each pair.

    In float64: in float32 the cosines of a collapsed encoder, all close to 1, would fall on a few values, and ties decide a
    rank correlation.

    Args:
        first_PH: vectors, (P, H); one of length zero has the cosine 0 with any other.
        second_PH: vectors, (P, H).

    Returns:
        (P,) in float64.
    """
    first_PH, second_PH = (F.normalize(vectors_PH.double(), dim=-1) for vectors_PH in (first_PH, second_PH))
    return (first_PH * second_PH).sum(-1)


def collapsed(vectors_NH: Tensor) -> bool:
    """Whether all vectors, (N, H), are the same but for rounding."""
    widest = (vectors_NH - vectors_NH[0]).abs().max()
    return bool(widest <= SAME_VECTOR * vectors_NH.abs().max())


def alignment(first_PH: Tensor, second_PH: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance of positive pairs to the power alpha; lower is more aligned.

    Args:
        first_PH: unit vectors, (P, H), P >= 1.
        second_PH: unit vectors, (P, H); row i is the positive of the first's row i.
        alpha: power of the distance; the paper uses 2.

    Returns:
        Scalar; between 0 and 4 for alpha = 2.

    Raises:
        ValueError: without a pair, or when the shapes differ.

    Source: Wang and Isola 2020, equation 1; SimCSE equation 2.
    """
    if first_PH.shape != second_PH.shape or not len(first_PH):
        raise ValueError(f"alignment needs pairs, got shapes {tuple(first_PH.shape)} and {tuple(second_PH.shape)}")
    distance_P: Tensor = torch.linalg.vector_norm(first_PH - second_PH, dim=-1)
    return distance_P.pow(alpha).mean()


def uniformity(z_NH: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential of all pairs i < j; lower is more uniform.

    Args:
        z_NH: unit vectors, (N, H), N >= 2.
        t: sharpness of the kernel; the paper uses 2.

    Returns:
        Scalar in float64, in nats; between -4t and, but for rounding, 0.

    Raises:
        ValueError: with fewer than two rows.

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
    """Singular values of the matrix of sentence vectors over the largest of them, descending.

    Args:
        z_NH: vectors, (N, H); the paper's are of unit length. Not centred.

    Returns:
        (R,) in float64; the first is 1.

    Raises:
        ValueError: when every vector is zero.

    Source: SimCSE section 5 and Figure F.1.
    """
    values_R: Tensor = torch.linalg.svdvals(z_NH.double())
    if not values_R[0] > 0:
        raise ValueError("every vector is zero: there is no spectrum")
    return values_R / values_R[0]


def effective_rank(singular_R: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values over their sum: how many directions are in use.

    Args:
        singular_R: singular values, (R,), of any scale, not all zero.

    Returns:
        Scalar, between 1 and R.

    Source: Roy and Vetterli 2007, definition 1.
    """
    entropy_R: Tensor = torch.special.entr(singular_R / singular_R.sum())
    return entropy_R.sum().exp()


def random_pair_cosines(z_NH: Tensor, pairs: int, generator: torch.Generator) -> Tensor:
    """Cosines of random pairs of different rows; their mean is 0 for isotropic vectors and 1 for collapsed ones.

    Args:
        z_NH: unit vectors, (N, H), N >= 2.
        pairs: P, how many pairs are drawn, with replacement.
        generator: on the CPU; its state decides the pairs.

    Returns:
        (P,), products of the drawn rows.

    Raises:
        ValueError: with fewer than two rows.

    Source: Ethayarajh 2019, section 4.1, there between words.
    """
    count = len(z_NH)
    if count < 2:
        raise ValueError(f"pairs need two vectors or more, got {count}")
    first_P = torch.randint(count, (pairs,), generator=generator)
    second_P = (first_P + torch.randint(1, count, (pairs,), generator=generator)) % count
    return (z_NH[first_P] * z_NH[second_P]).sum(-1)
