"""MixCSE: a hard negative for each anchor, mixed from its positive and the positive of another example.

Shapes: B anchors of this process, N candidates of all processes, D numbers of a vector.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.parts import Negatives
from simcse_lit.objective.step import Step


class Mixed(Negatives):
    """Contrast each anchor with a mixture of its positive and the positive of the next example.

    The denominator of anchor i gets the term e^(sim(h_i, m_i) / tau) with

        m_i = SG( u / norm(u) ),  u = share * z_i + (1 - share) * z_(i+1),

    where z are the unit vectors of the positives (of their first view) of all processes in their gathered order, the last
    one followed by the first, and SG stops the gradient: a gradient through m_i would also push the positive away. With one
    example in the batch there is no other to mix with, and nothing is added.

    This is the paper's version. The authors' code mixes vectors of any length, contrasts every anchor with the mixtures of
    all rows, but for one whose logit is 0, and contrasts the positives with mixtures of the anchors as well.

    Use `objective.queue.Queue` or `gs_infonce.Gaussian` beside it for other negatives.

    Args:
        share: share of the own positive in the mixture, from 0 to 1. Larger is harder.

    Raises:
        ValueError: the share is out of range.

    Source: Zhang et al. 2022, Unsupervised Sentence Representation via Contrastive Learning with Mixing Negatives.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}: must be from 0 to 1")
        self.share = share

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mixture of each anchor, (B, 1, D), and true if there is another example to mix with, (1,)."""
        unit_ND = F.normalize(candidates[0].detach(), dim=1)
        mixed_ND = self.share * unit_ND + (1 - self.share) * unit_ND.roll(-1, 0)
        own_BD = F.normalize(mixed_ND, dim=1)[step.first : step.first + len(anchor_BD)]
        return own_BD[:, None], torch.tensor([len(unit_ND) > 1], device=own_BD.device)
