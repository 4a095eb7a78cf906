"""Masks for InfoNCE, which leave candidates out.

Shapes: B anchors of this process, N of all processes, K views of candidates, O the anchor and its positives.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from simcse_lit.objective.parts import Mask
from simcse_lit.objective.step import Step


class Duplicates(Mask):
    """Leave out candidates with the same token ids as the anchor or one of its positives.

    Use it where texts repeat, such as the premises of NLI: a copy of the positive is not a negative.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"hashes"})

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return true where a candidate, (B, K x N), and where another anchor or positive is left out, (B, O x N)."""
        own, positives = [*step.places("anchor"), *step.places("positive")], step.places("positive")
        hashes_BV = step.extras["hashes"]
        hashes_NV = step.gather(hashes_BV)

        def copies(places: Sequence[int]) -> Tensor:
            return (hashes_BV[:, own, None] == hashes_NV[:, places].T.flatten()).any(1)

        return copies([*positives, *step.places("hard_negative")]), copies(own)
