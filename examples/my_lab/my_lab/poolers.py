"""A pooler with trained weights.

Shapes: N sentences, L length, H hidden, K hidden states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from simcse_lit.encoder.pooling import Pooler, masked_mean


class WeightedLayers(Pooler):
    """Mix the last layers with trained weights, and take the mean over the real tokens.

    Args:
        last: the number of layers, K.
    """

    every_layer = True

    def __init__(self, last: int) -> None:
        super().__init__()
        self.scores_K = nn.Parameter(torch.zeros(last))

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors, (N, H), from hidden states of (N, L, H) each."""
        layers_KNLH = torch.stack(tuple(hidden_states[-len(self.scores_K) :]))
        mixed_NLH = (self.scores_K.softmax(0)[:, None, None, None] * layers_KNLH).sum(0)
        return masked_mean(mixed_NLH, attention_mask_NL)
