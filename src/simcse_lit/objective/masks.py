"""Masks for InfoNCE, which leave candidates out.

Shapes: B anchors of this process, N of all processes, K views of candidates, V views.
"""

from typing import ClassVar

from torch import Tensor

from simcse_lit.objective.info_nce import Mask
from simcse_lit.objective.step import Step


class Duplicates(Mask):
    """Leave out candidates with the same token ids as the anchor or one of its positives.

    Use it where texts repeat, such as the premises of NLI: a copy of the positive is not a negative.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"hashes"})

    def forward(self, step: Step) -> Tensor:
        """Return true where a candidate is left out, (B, K x N)."""
        hashes_BV = step.extras["hashes"]
        positives = step.places("positive")
        candidates = step.gather(hashes_BV[:, [*positives, *step.places("hard_negative")]])
        own = hashes_BV[:, [*step.places("anchor"), *positives]]
        return (own[:, :, None] == candidates.T.flatten()).any(1)
