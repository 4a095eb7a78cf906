"""Barlow Twins as a term of the objective: each number of a vector agrees over the views and with no other number.

Shapes: N examples of all processes, D numbers of a vector.
"""

import torch
from torch import Tensor

from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term


class BarlowTwins(Term):
    """Bring the cross-correlation matrix of anchors and positives close to the identity.

    The loss is sum_d (1 - C_dd)^2 + redundancy * sum_(d != e) C_de^2, with C_de the correlation of number d of the anchors
    and number e of the positives over the batch of all processes. Hard negatives are not used. The loss grows with D.

    Use `vicreg.VICReg` for the same aim without standardised numbers, and `align_uniform.AlignUniform` for a loss over pairs
    of sentences.

    Args:
        redundancy: weight of the correlations of different numbers.

    Source: Zbontar et al. 2021, Barlow Twins, equations 1 and 2. Their code standardises with the biased variance plus 1e-5,
    as here.
    """

    needs = frozenset({"positive"})

    def __init__(self, redundancy: float) -> None:
        super().__init__()
        self.redundancy = redundancy

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, a scalar, and its two sums, which are logged."""
        anchor_ND, positive_ND = (_standardised(step.gather(step.of(role))) for role in ("anchor", "positive"))
        correlation_DD = anchor_ND.T @ positive_ND / len(anchor_ND)
        same = (1 - correlation_DD.diagonal()).square().sum()
        different = correlation_DD.square().sum() - correlation_DD.diagonal().square().sum()
        numbers = {"invariance": same.detach(), "redundancy": different.detach()}
        return same + self.redundancy * different, numbers


def _standardised(vectors_ND: Tensor) -> Tensor:
    """Shift and scale each number to mean 0 and variance 1 over the rows, (N, D)."""
    centred_ND = vectors_ND - vectors_ND.mean(0)
    return centred_ND * torch.rsqrt(centred_ND.square().mean(0) + 1e-5)
