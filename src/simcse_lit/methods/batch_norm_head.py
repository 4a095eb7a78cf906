"""The head of DiffCSE (`projection=batch_norm`).

Shapes: N sentences of this process, D numbers of a vector.
"""

from torch import Tensor, nn

from simcse_lit.encoder.head import BatchNorm


class BatchNormMLP(nn.Module):
    """Apply two linear layers without bias, each with batch normalisation behind it, and a ReLU between them.

    The hidden layer has twice the width. The last normalisation has no scale and no shift. The statistics are those of all
    views of all processes, for any `trainer.micro_batch_size`. The weights start as N(0, 0.02).

    Args:
        width: numbers of a vector, D.

    Source: Chuang et al. 2022, DiffCSE, appendix; `ProjectionMLP` of its code.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, last = nn.Linear(width, 2 * width, bias=False), nn.Linear(2 * width, width, bias=False)
        for layer in (first, last):
            nn.init.normal_(layer.weight, std=0.02)
        self.layers = nn.Sequential(first, BatchNorm(2 * width), nn.ReLU(), last, BatchNorm(width, affine=False))

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """Project the vectors, (N, D) to (N, D)."""
        projected_ND: Tensor = self.layers(pooled_ND)
        return projected_ND
