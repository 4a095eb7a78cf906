"""The contrastive objective of SimCSE, for two views (anchor, positive) and three (and a hard negative).

Shapes: B anchors, N candidates (N = B in one process, W x B gathered from W of them by `gather.py`), H hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_logits(
    anchor_BH: Tensor,
    positive_NH: Tensor,
    hard_negative_NH: Tensor | None = None,
    *,
    temperature: float | Tensor,
    hard_negative_weight: float = 0.0,
    first: int = 0,
) -> Tensor:
    """Cosine similarities of every anchor with every candidate, over the temperature, in float32 or better.

    Row i is [cos(h_i, h_1+) ... cos(h_i, h_N+), cos(h_i, h_1-) ... cos(h_i, h_N-)] / temperature, with
    `hard_negative_weight` added to the row's own hard negative, column N + first + i.

    Args:
        anchor_BH: embeddings of the anchors, (B, H); any length, they are normalised here.
        positive_NH: embeddings of the positives, (N, H); row first + i belongs to anchor i.
        hard_negative_NH: embeddings of the hard negatives, (N, H), or None for two views.
        temperature: tau > 0; the paper uses 0.05.
        hard_negative_weight: ln(alpha) of Table 7; 0 weighs a hard negative like any other negative.
        first: place of the first anchor's positive among the candidates: rank x B after a gather.

    Returns:
        Logits, (B, N) for two views and (B, 2N) for three; the right class of row i is column first + i.

    Raises:
        ValueError: shapes do not fit, the temperature is not positive, or a weight is given without hard negatives.

    Source: SimCSE equations 4 (two views of a sentence) and 5 (hard negatives); the weight is that of Table 7.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    (batch, hidden), (candidates, _) = anchor_BH.shape, positive_NH.shape
    views = [anchor_BH, positive_NH] + ([] if hard_negative_NH is None else [hard_negative_NH])
    if any(view.shape != (candidates, hidden) for view in views[1:]) or not 0 <= first <= candidates - batch:
        raise ValueError(
            "shapes must be (B, H) for anchors and (N, H) for candidates, N >= first + B; "
            f"got {[tuple(view.shape) for view in views]}, first {first}"
        )
    if hard_negative_NH is None and hard_negative_weight != 0:
        raise ValueError("hard_negative_weight needs hard negatives")
    # Autocast would run the matmul in half precision, where similarities over 0.05 lose two digits.
    with torch.autocast(anchor_BH.device.type, enabled=False):
        unit = [F.normalize(view.to(torch.promote_types(view.dtype, torch.float32)), dim=-1) for view in views]
        logits_BN = unit[0] @ torch.cat(unit[1:]).T / temperature
        if hard_negative_weight != 0:
            own = hard_negative_weight * torch.eye(batch, dtype=logits_BN.dtype, device=logits_BN.device)
            logits_BN = logits_BN + F.pad(own, (candidates + first, candidates - batch - first))
    return logits_BN


def contrastive_loss(logits_BN: Tensor, first: int = 0) -> Tensor:
    """Cross-entropy of each row against its own positive, averaged over the batch.

    Args:
        logits_BN: from `contrastive_logits`, (B, N) or (B, 2N).
        first: as given there.

    Returns:
        Scalar, in nats.

    Source: SimCSE equations 4 and 5.
    """
    return F.cross_entropy(logits_BN, torch.arange(first, first + logits_BN.shape[0], device=logits_BN.device))
