"""Masks of InfoNCE: candidates that do not count as negatives.

Shapes: B anchors of this process, N of all processes, K views of candidates, V views.
"""

from typing import ClassVar

from torch import Tensor

from simcse_lit.objective.info_nce import Mask
from simcse_lit.objective.step import Step


class Duplicates(Mask):
    """Leaves out candidates whose text is that of the anchor or of its positives. They are the same text as it is tokenised.

    Use it where texts repeat, as the premises of NLI do: a copy of the positive is no negative.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"hashes"})

    def forward(self, step: Step) -> Tensor:
        """True where a candidate is left out, (B, K x N)."""
        hashes_BV = step.extras["hashes"]
        positives = step.places("positive")
        candidates = step.gather(hashes_BV[:, [*positives, *step.places("hard_negative")]])
        own = hashes_BV[:, [*step.places("anchor"), *positives]]
        return (own[:, :, None] == candidates.T.flatten()).any(1)
