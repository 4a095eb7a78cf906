"""CoSENT as a term of the objective: pairs with a higher gold score must have a higher cosine.

Shapes: B pairs of this process, N of all processes, D numbers of a vector.
"""

import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term


class CoSENT(Term):
    """Rank the cosines of scored pairs: log(1 + sum over pairs i, j with s_i < s_j of exp(scale (cos_i - cos_j))).

    The sum is over the pairs (anchor, positive) of all processes. Only the order of the scores matters, so they may have any
    scale, and two equal scores are not compared. The loss is 0 if all scores are equal.

    Use `Angle` beside it where cosines are near 1 or -1 and have small gradients, and InfoNCE for pairs without scores.

    Args:
        scale: multiplies the differences of the cosines, lambda > 0.

    Raises:
        ValueError: the scale is not positive.

    Source: Su 2022, CoSENT, kexue.fm/archives/8847; code bojone/CoSENT. The code subtracts 1e12 where nothing is compared,
    which overflows in half precision. Here those places are -inf.
    """

    needs = frozenset({"positive", "scores"})

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}: must be greater than 0")
        self.scale = scale

    def forward(self, step: Step) -> Tensor:
        """Compute the loss of the pairs of all processes, a scalar."""
        return ranking(self.alike(step.of("anchor"), step.of("positive")), step, self.scale)

    def alike(self, first_BD: Tensor, second_BD: Tensor) -> Tensor:
        """Return the number of each pair that is ranked, here the cosine, (B,)."""
        return F.cosine_similarity(first_BD, second_BD)


def ranking(alike_B: Tensor, step: Step, scale: float) -> Tensor:
    """Compute log(1 + sum over i, j with s_i < s_j of exp(scale (alike_i - alike_j))) over the pairs of all processes.

    Args:
        alike_B: a number for each pair, (B,), higher for pairs that are more alike.
        step: the current step, which has the scores s.
        scale: multiplies the differences.

    Returns:
        Scalar, in nats.
    """
    alike_N, score_N = step.gather(alike_B), step.gather(step.extras["scores"])
    differences_NN = scale * (alike_N[:, None] - alike_N)
    wrong_NN = differences_NN.masked_fill(score_N[:, None] >= score_N, -float("inf"))
    return F.pad(wrong_NN.flatten(), (1, 0)).logsumexp(0)  # the zero in front is the 1 in the logarithm
