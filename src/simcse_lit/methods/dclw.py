"""DCLW: positives that are already close count less, as a transform of the positives of InfoNCE.

Shapes: B anchors of this process.
"""

import torch
from torch import Tensor, nn

from simcse_lit.distributed import mean_over_ranks


class VonMisesFisher(nn.Module):
    """Multiply the cosine of each positive by w_i = 2 - e^(cos_i / sigma) / mean_j e^(cos_j / sigma).

    The mean is over the batch of all processes, and w has no gradient: with a gradient, the loss would also pull the closest
    positives apart. The mean of w is 1. As `positive` of InfoNCE with `denominator: negatives`, where the positive is not in
    the denominator, this is the weighted decoupled loss -w_i cos_ii / tau + log sum_(j != i) e^(cos_ij / tau).

    Args:
        sigma: sharpness of the weights, above 0.

    Raises:
        ValueError: sigma is not positive.

    Source: Yeh et al. 2021, Decoupled Contrastive Learning, section 3 (DCLW).
    """

    needs_cosine = True

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma={sigma}: must be greater than 0")
        self.sigma = sigma

    def forward(self, cosine_B: Tensor) -> Tensor:
        """Return the weighted cosines, (B,) to (B,)."""
        power_B = torch.exp((cosine_B.detach() - 1) / self.sigma)
        return (2 - power_B / mean_over_ranks(power_B.mean())) * cosine_B
