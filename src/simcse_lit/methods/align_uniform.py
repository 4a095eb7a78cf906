"""Alignment and uniformity as a term of the objective. `evaluation/geometry.py` measures them.

Shapes: B anchors of this process, N of all processes, D numbers of a vector.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term


class AlignUniform(Term):
    """Minimise alignment plus weighted uniformity.

    Alignment is the mean squared distance between an anchor and its positive. Uniformity is the log of the mean Gaussian
    potential of all pairs in the batch of all processes, averaged over anchors and positives. Hard negatives are not used.

    Args:
        uniformity: weight of uniformity.

    Source: Wang and Isola 2020, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, equations 1 and 2 with alpha = 2 and t = 2; SimCSE equations 2 and 3.
    """

    needs = frozenset({"positive"})

    def __init__(self, uniformity: float) -> None:
        super().__init__()
        self.uniformity = uniformity

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, a scalar, and its two parts, which are logged."""
        anchor_BD, positive_BD = (F.normalize(step.of(role), dim=-1) for role in ("anchor", "positive"))
        align = (anchor_BD - positive_BD).square().sum(1).mean()
        uniform = (_uniform(step.gather(anchor_BD)) + _uniform(step.gather(positive_BD))) / 2
        numbers = {"alignment": align.detach(), "uniformity": uniform.detach()}
        return align + self.uniformity * uniform, numbers


def _uniform(unit_ND: Tensor) -> Tensor:
    """Compute the log of the mean of exp(-2 d^2) over the distances d of pairs of unit vectors, (N, D); 0 for one vector."""
    count = len(unit_ND)
    if count < 2:
        return unit_ND.new_zeros(())
    exponents_NN = 4 * (unit_ND @ unit_ND.T - 1)
    others_NN = exponents_NN.masked_fill(torch.eye(count, dtype=torch.bool, device=unit_ND.device), -torch.inf)
    return others_NN.flatten().logsumexp(0) - torch.tensor(count * (count - 1.0), device=unit_ND.device).log()
