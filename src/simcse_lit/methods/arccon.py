"""ArcCon: an angular margin on the similarity of an anchor with its positive.

Shapes: B anchors of this process.
"""

import math

import torch
from torch import Tensor, nn


class AngularMargin(nn.Module):
    """Add a margin to the angle between an anchor and its positive: cos(theta) becomes cos(theta + m).

    As `positive` of InfoNCE this is the ArcCon loss

        -log( e^(cos(theta_ii + m) / tau) / ( e^(cos(theta_ii + m) / tau) + sum_(j != i) e^(cos(theta_ij) / tau) ) ).

    A positive has to be closer to its anchor by the angle m to give the same loss. The cosine of theta + m is computed as
    cos(theta) cos(m) - sin(theta) sin(m), whose gradient is finite at theta = 0, unlike that of the arc cosine. Where
    theta + m is more than 180 degrees, cos(theta + m) would rise again as theta grows; there the value falls with slope 1 in
    cos(theta).

    ArcCSE adds a second loss, on triplets of shortened sentences. That is not implemented.

    Args:
        degrees: the margin m, at least 0 and below 180.

    Raises:
        ValueError: the margin is out of range.

    Source: Zhang et al. 2022, A Contrastive Framework for Learning Sentence Representations from Pairwise and Triple-wise
    Perspective in Angular Space.
    """

    needs_cosine = True

    def __init__(self, degrees: float) -> None:
        super().__init__()
        if not 0 <= degrees < 180:
            raise ValueError(f"degrees={degrees}: must be at least 0 and below 180")
        self.cos, self.sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def forward(self, cosine_B: Tensor) -> Tensor:
        """Return cos(theta + m), (B,) to (B,)."""
        square_B = 1 - cosine_B.square()
        inside_B = square_B > 0  # false at theta = 0, where the root has no gradient
        sine_B = square_B.where(inside_B, 1).sqrt().where(inside_B, 0)
        added_B = cosine_B * self.cos - sine_B * self.sin
        return torch.where(cosine_B > -self.cos, added_B, cosine_B - 1 + self.cos)
