"""VICReg as a term of the objective: views agree, numbers of a vector vary, and different numbers do not covary.

Shapes: B examples of this process, N of all processes, D numbers of a vector.
"""

import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term


class VICReg(Term):
    """Minimise invariance * s + variance * v + covariance * c of anchors and positives.

    s is the mean squared difference of an anchor and its positive over their D numbers; v the mean over the numbers of
    max(0, 1 - sqrt(variance + 1e-4)), averaged over the two views; c the sum of the squared covariances of different numbers
    divided by D, summed over the two views. Variances and covariances are those of the batch of all processes, divided by
    N - 1. Hard negatives are not used.

    The variance term wants each number to have a standard deviation of 1 or more, so the head must be able to give that: a
    tanh bounds it by 1.

    Use `barlow.BarlowTwins` for a loss that does not depend on the scale of the vectors.

    Args:
        invariance: weight of s.
        variance: weight of v.
        covariance: weight of c.

    Source: Bardes et al. 2022, VICReg, equations 1 to 6, and its code.
    """

    needs = frozenset({"positive"})

    def __init__(self, invariance: float, variance: float, covariance: float) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, a scalar, and its three parts, which are logged."""
        anchor_BD, positive_BD = step.of("anchor"), step.of("positive")
        same = (anchor_BD - positive_BD).square().mean()
        views = [step.gather(view_BD) for view_BD in (anchor_BD, positive_BD)]
        covariances = [_covariance(view_ND) for view_ND in views]
        hinges = [F.relu(1 - (covariance_DD.diagonal() + 1e-4).sqrt()).mean() for covariance_DD in covariances]
        spread = (hinges[0] + hinges[1]) / 2
        shared = _different(covariances[0]) + _different(covariances[1])
        numbers = {"invariance": same.detach(), "variance": spread.detach(), "covariance": shared.detach()}
        return self.invariance * same + self.variance * spread + self.covariance * shared, numbers


def _covariance(vectors_ND: Tensor) -> Tensor:
    """Compute the covariance matrix of the numbers, (D, D); 0 for one row."""
    centred_ND = vectors_ND - vectors_ND.mean(0)
    return centred_ND.T @ centred_ND / max(len(vectors_ND) - 1, 1)


def _different(covariance_DD: Tensor) -> Tensor:
    """Compute the sum of the squared covariances of different numbers, divided by D."""
    return (covariance_DD.square().sum() - covariance_DD.diagonal().square().sum()) / len(covariance_DD)
