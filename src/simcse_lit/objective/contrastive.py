"""The contrastive objective of SimCSE, for two views (anchor, positive) and three (and a hard negative).

Shapes: B anchors, N candidates (N = B in one process), H hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_logits(
    anchor_BH: Tensor,
    positive_BH: Tensor,
    hard_negative_BH: Tensor | None = None,
    *,
    temperature: float,
    hard_negative_weight: float = 0.0,
) -> Tensor:
    """Cosine similarities of every anchor with every candidate, over the temperature, in float32 or better.

    Row i is [cos(h_i, h_1+) ... cos(h_i, h_B+), cos(h_i, h_1-) ... cos(h_i, h_B-)] / temperature, with
    `hard_negative_weight` added to the row's own hard negative, column B + i.

    Args:
        anchor_BH: embeddings of the anchors, (B, H); any length, they are normalised here.
        positive_BH: embeddings of the positives, (B, H); row i belongs to anchor i.
        hard_negative_BH: embeddings of the hard negatives, (B, H), or None for two views.
        temperature: tau > 0; the paper uses 0.05.
        hard_negative_weight: ln(alpha) of Table 7; 0 weighs a hard negative like any other negative.

    Returns:
        Logits, (B, B) for two views and (B, 2B) for three; the right class of row i is column i.

    Raises:
        ValueError: shapes differ, the temperature is not positive, or a weight is given without hard negatives.

    Source: SimCSE equations 4 (two views of a sentence) and 5 (hard negatives); the weight is that of Table 7.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    views = [anchor_BH, positive_BH] + ([] if hard_negative_BH is None else [hard_negative_BH])
    if any(view.shape != anchor_BH.shape or view.dim() != 2 for view in views):
        raise ValueError(f"views must share one shape (B, H), got {[tuple(view.shape) for view in views]}")
    if hard_negative_BH is None and hard_negative_weight != 0:
        raise ValueError("hard_negative_weight needs hard negatives")
    # Autocast would run the matmul in half precision, where similarities over 0.05 lose two digits.
    with torch.autocast(anchor_BH.device.type, enabled=False):
        unit = [F.normalize(view.to(torch.promote_types(view.dtype, torch.float32)), dim=-1) for view in views]
        logits_BN = unit[0] @ torch.cat(unit[1:]).T / temperature
        if hard_negative_weight != 0:
            batch = anchor_BH.shape[0]
            own = hard_negative_weight * torch.eye(batch, dtype=logits_BN.dtype, device=logits_BN.device)
            logits_BN = logits_BN + F.pad(own, (batch, 0))
    return logits_BN


def contrastive_loss(logits_BN: Tensor) -> Tensor:
    """Cross-entropy of each row against its own positive, averaged over the batch.

    Args:
        logits_BN: from `contrastive_logits`, (B, B) or (B, 2B).

    Returns:
        Scalar, in nats.

    Source: SimCSE equations 4 and 5.
    """
    return F.cross_entropy(logits_BN, torch.arange(logits_BN.shape[0], device=logits_BN.device))
