"""A head with batch normalisation.

Shapes: N sentences, D numbers of a vector.
"""

from torch import Tensor, nn

from simcse_lit.encoder.head import BatchNorm


class Projector(nn.Module):
    """Apply two linear layers with batch normalisation and a ReLU between them, as in SimSiam.

    Args:
        width: numbers of a vector, D. simcse-lit passes it.
        wide: numbers between the two layers.

    Source: Chen and He 2021, Exploring Simple Siamese Representation Learning.
    """

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, wide, bias=False), BatchNorm(wide), nn.ReLU(), nn.Linear(wide, width))

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """Project the vectors, (N, D) to (N, D)."""
        projected_ND: Tensor = self.layers(pooled_ND)
        return projected_ND
