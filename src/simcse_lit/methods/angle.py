"""The parts of AnglE that are neither CoSENT nor InfoNCE: its angle term, and which pairs are positives.

Shapes: B pairs of this process, N of all processes, D numbers of a vector.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.methods.cosent import CoSENT
from simcse_lit.objective.parts import Mask
from simcse_lit.objective.step import Step, Vocabulary


class Angle(CoSENT):
    """Rank the angles of scored pairs: CoSENT with another number for each pair than the cosine.

    The halves of a vector are the real and imaginary parts of D / 2 complex numbers: u = a + ib, v = c + id. The number is
    abs(sum of the real and imaginary parts of u conj(v)) / (norm(u) norm(v)), which is
    abs(cos(u, v) + (b.c - a.d) / (norm(u) norm(v))). It is not symmetric in u and v.

    Use it with CoSENT and InfoNCE, as `loss=angle` does. The paper adds the three with weights.

    Args:
        scale: multiplies the differences of the numbers.

    Raises:
        ValueError: the scale is not positive.

    Source: Li and Li 2024, AnglE-optimized Text Embeddings; the algebra is that of the code, SeanLee97/AnglE.
    """

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Check that the vectors have two halves.

        Raises:
            UserError: their number of numbers is odd.
        """
        if width % 2:
            raise UserError(f"loss=angle: needs vectors with two halves, but these have {width} numbers. Use loss=cosent.")

    def alike(self, first_BD: Tensor, second_BD: Tensor) -> Tensor:
        """Return the absolute sum of the normalised real and imaginary parts of each pair, (B,)."""
        first_BD, second_BD = F.normalize(first_BD, dim=1), F.normalize(second_BD, dim=1)
        (a, b), (c, d) = first_BD.chunk(2, dim=1), second_BD.chunk(2, dim=1)
        return (a * c + b * d + b * c - a * d).sum(1).abs()


class LowScores(Mask):
    """Leave all negatives out for a pair with a low score, so that the pair adds 0 to InfoNCE.

    InfoNCE takes every pair for a positive. This mask restricts it to pairs with a high score. The second sentences of the
    other pairs stay negatives for those. It does not apply to `own_view` or to the second of `directions=both`.

    Args:
        below: pairs with a score below this number are not positives.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __init__(self, below: float) -> None:
        super().__init__()
        self.below = below

    def forward(self, step: Step) -> Tensor:
        """Return true for all candidates of a pair with a low score, (B, C)."""
        candidates = len(step.places("positive")) + len(step.places("hard_negative"))
        low_B = step.extras["scores"] < self.below
        return low_B[:, None].expand(-1, candidates * step.processes * len(low_B))
