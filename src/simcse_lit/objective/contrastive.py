"""The contrastive objective of SimCSE as functions of vectors: anchors, positives and, optionally, hard negatives.

`info_nce.py` has the term that calls these functions and its options.

Shapes: B anchors, N candidates (N = B in one process, W x B gathered from W of them by `gather.py`), H hidden, C columns.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def similarities(anchor_BH: Tensor, *candidates_NH: Tensor, similarity: str) -> Tensor:
    """Compute the similarity of every anchor with every candidate, in float32 or better, under autocast too.

    Args:
        anchor_BH: vectors, (B, H).
        candidates_NH: vectors, (N, H) each. Their columns stand side by side, in this order.
        similarity: `cosine`, or `dot` for the dot product without normalisation.

    Returns:
        (B, sum of N).
    """
    # Autocast would run the matmul in half precision. Divided by 0.05, similarities would lose two digits.
    with torch.autocast(anchor_BH.device.type, enabled=False):
        exact = [_exact(view, similarity) for view in (anchor_BH, *candidates_NH)]
        return exact[0] @ torch.cat(exact[1:]).T


def own_similarities(anchor_BH: Tensor, candidates_BKH: Tensor, *, similarity: str) -> Tensor:
    """Compute the similarity of each anchor with candidates of its own, as `similarities` does for shared candidates.

    Args:
        anchor_BH: vectors, (B, H).
        candidates_BKH: K vectors for each anchor, (B, K, H).
        similarity: `cosine` or `dot`.

    Returns:
        (B, K).
    """
    with torch.autocast(anchor_BH.device.type, enabled=False):
        return (_exact(candidates_BKH, similarity) @ _exact(anchor_BH, similarity)[:, :, None]).squeeze(2)


def _exact(view: Tensor, similarity: str) -> Tensor:
    """Convert to float32 or better, and to length 1 for the cosine."""
    exact = view.to(torch.promote_types(view.dtype, torch.float32))
    return F.normalize(exact, dim=-1) if similarity == "cosine" else exact


def contrastive_logits(
    anchor_BH: Tensor,
    positive_NH: Tensor,
    *hard_negatives_NH: Tensor,
    temperature: float | Tensor,
    similarity: str = "cosine",
    hard_negative_weight: float = 0.0,
    first: int = 0,
    positive: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Compute the similarities of every anchor with every candidate, divided by the temperature, in float32 or better.

    This also holds under autocast. On a GPU, `torch.set_float32_matmul_precision` sets how the product is rounded.

    Row i is `[sim(h_i, h_1+) ... sim(h_i, h_N+), sim(h_i, h_1-) ... sim(h_i, h_N-)] / temperature`.
    `hard_negative_weight` is added to the hard negative of the same row, column N + first + i. With several hard negatives
    in a row, those of the second kind follow from column 2N, and so on.

    Args:
        anchor_BH: vectors of the anchors, (B, H), of any length. The cosine normalises them.
        positive_NH: vectors of the positives, (N, H). Row first + i belongs to anchor i.
        hard_negatives_NH: vectors of the hard negatives, one tensor (N, H) for each that a row has; none for two views.
        temperature: tau > 0; the paper uses 0.05.
        similarity: `cosine`, or `dot` for the dot product without normalisation.
        hard_negative_weight: ln(alpha) of Table 7. With 0, a hard negative counts like any other negative.
        first: row of the first anchor's positive among the candidates. After a gather it is rank x B.
        positive: changes the similarities of the anchors with their positives, (B,) to (B,), before they are divided by the
            temperature. None does not change them.

    Returns:
        Logits, (B, N) for two views and (B, 2N) for three. The right class of row i is column first + i.

    Raises:
        ValueError: the shapes do not fit, the temperature is not positive, the similarity is unknown, or there is a weight
            but no hard negative.

    Source: SimCSE equations 4 (two views of a sentence) and 5 (hard negatives), Table 7 (weight), Table D.1 (temperature and
    dot product).
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:  # looking at a tensor would wait for the GPU
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"similarity must be cosine or dot, got {similarity!r}")
    (batch, hidden), (candidates, _) = anchor_BH.shape, positive_NH.shape
    views = [anchor_BH, positive_NH, *hard_negatives_NH]
    if any(view.shape != (candidates, hidden) for view in views[1:]) or not 0 <= first <= candidates - batch:
        raise ValueError(
            "shapes must be (B, H) for anchors and (N, H) for candidates, N >= first + B; "
            f"got {[tuple(view.shape) for view in views]}, first {first}"
        )
    if not hard_negatives_NH and hard_negative_weight != 0:
        raise ValueError("hard_negative_weight needs hard negatives")
    logits_BN = similarities(anchor_BH, *views[1:], similarity=similarity)
    if positive is not None:
        changed_B = positive(logits_BN.diagonal(first))
        logits_BN = logits_BN.diagonal_scatter(changed_B, first)
    logits_BN = logits_BN / temperature
    if hard_negative_weight != 0:
        own = hard_negative_weight * torch.eye(batch, dtype=logits_BN.dtype, device=logits_BN.device)
        own_BN = F.pad(own, (first, candidates - batch - first))
        logits_BN = logits_BN + torch.cat([torch.zeros_like(own_BN), *[own_BN] * len(hard_negatives_NH)], dim=1)
    return logits_BN


def contrastive_loss(logits_BC: Tensor, first: int = 0, *, decoupled: bool = False) -> Tensor:
    """Compute the cross-entropy of each row against its own positive, averaged over the batch.

    Args:
        logits_BC: from `contrastive_logits`, (B, N), (B, 2N) or wider. -inf leaves a column out.
        first: as in `contrastive_logits`.
        decoupled: leave the positive out of the denominator. A row without a negative then adds 0.

    Returns:
        Scalar, in nats.

    Source: SimCSE equations 4 and 5. Decoupled: Yeh et al. 2021, Decoupled Contrastive Learning, equation 6.
    """
    right_B = torch.arange(first, first + logits_BC.shape[0], device=logits_BC.device)
    if not decoupled:
        return F.cross_entropy(logits_BC, right_B)
    positive_B = logits_BC.diagonal(first)
    negatives_BC = logits_BC.scatter(1, right_B[:, None], -torch.inf)
    alone_B = negatives_BC.isneginf().all(1)
    rest_B = negatives_BC.masked_fill(alone_B[:, None], 0).logsumexp(1)  # a row of only -inf has no gradient
    return (rest_B - positive_B).masked_fill(alone_B, 0).mean()


def multi_positive_loss(logits_BC: Tensor, positive_BC: Tensor, *, decoupled: bool = False) -> Tensor:
    """Compute the mean cross-entropy over the positives of each row, averaged over the batch.

    Args:
        logits_BC: divided by the temperature, (B, C). -inf leaves a column out.
        positive_BC: true at the positives of a row, at least one, (B, C).
        decoupled: leave the positives out of the denominator. A row without a negative then adds 0.

    Returns:
        Scalar, in nats.

    Source: Khosla et al. 2020, Supervised Contrastive Learning, equation 2 (the sum is outside the logarithm).
    """
    mean_B = logits_BC.masked_fill(~positive_BC, 0).sum(1) / positive_BC.sum(1)
    if not decoupled:
        return (logits_BC.logsumexp(1) - mean_B).mean()
    negatives_BC = logits_BC.masked_fill(positive_BC, -torch.inf)
    alone_B = negatives_BC.isneginf().all(1)
    rest_B = negatives_BC.masked_fill(alone_B[:, None], 0).logsumexp(1)  # a row of only -inf has no gradient
    return (rest_B - mean_B).masked_fill(alone_B, 0).mean()
