"""GISTEmbed: a mask of false negatives, relative to what a frozen encoder says about the anchor's own positive.

Shapes: B anchors of this process, N of all processes, V views, K of candidates, P of positives, D numbers of a vector.
"""

import torch
from torch import Tensor

from simcse_lit.objective.contrastive import similarities
from simcse_lit.objective.parts import Mask
from simcse_lit.objective.step import Step


class Guided(Mask):
    """Leave out candidates that a frozen guide finds more similar than the anchor and its positive.

    With g the cosines of the guide, a candidate j of anchor i is left out if g_ij > g_ii - margin (absolute), or if
    g_ij > g_ii - margin * abs(g_ii) (relative; without the absolute value, a larger margin would leave out fewer candidates
    where g_ii < 0). With several positives, g_ii is that of the least similar one. The other anchors and, with
    `own_view: all`, the other positives are compared alike: g(x_i, x_j) and g(x_i+, x_j+) against the same g_ii.

    Use it with `own_view: all`, as GISTEmbed does. Use `dclr.FalseNegatives` for one threshold for all anchors, and
    `objective.masks.Duplicates` to leave out copies of a text without a guide.

    Args:
        margin: how far below the own positive a candidate is still left out, at least 0.
        strategy: `absolute` or `relative`.
        encoder: name of the frozen guide in `loss.beside`.

    Raises:
        ValueError: an argument is out of range.

    Source: Solatorio 2024, GISTEmbed; margins and strategies as in sentence-transformers' GISTEmbedLoss.
    """

    def __init__(self, margin: float = 0.0, strategy: str = "absolute", encoder: str = "guide") -> None:
        super().__init__()
        if strategy not in ("absolute", "relative"):
            raise ValueError(f"strategy={strategy}: not one of absolute, relative")
        if margin < 0:
            raise ValueError(f"margin={margin}: must be 0 or more")
        self.margin, self.strategy = margin, strategy
        self.encoder, self.encoders = encoder, (encoder,)

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return true where a candidate, (B, K x N), and where another anchor or positive is left out, (B, (1 + P) x N)."""
        places = [*step.places("anchor"), *step.places("positive"), *step.places("hard_negative")]
        positives = len(step.places("positive"))
        guide_BVD = step.encoded_by(self.encoder, places)
        mine, every = guide_BVD.unbind(1), step.gather(guide_BVD).unbind(1)

        def cosines(row: int, column: int) -> Tensor:
            return similarities(mine[row], every[column], similarity="cosine")

        with_candidates = [cosines(0, column) for column in range(1, len(places))]
        least_B = torch.stack([block_BN.diagonal(step.first) for block_BN in with_candidates[:positives]]).amin(0)
        scale_B = least_B.abs() if self.strategy == "relative" else torch.ones_like(least_B)
        threshold_B1 = (least_B - self.margin * scale_B)[:, None]
        with_others = [cosines(view, view) for view in range(1 + positives)]
        return torch.cat(with_candidates, dim=1) > threshold_B1, torch.cat(with_others, dim=1) > threshold_B1
