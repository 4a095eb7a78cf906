"""A term of the objective with parameters and a queue.

Shapes: B anchors of this process, N candidates of all processes, K keys of the queue, D numbers of a vector.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term


class Memory(Term):
    """Contrast a linear map of each anchor with the positives of the batch and of earlier batches.

    Args:
        size: number of keys in the queue, K.
        temperature: divides the cosines.
    """

    def __init__(self, size: int, temperature: float) -> None:
        super().__init__()
        self.size, self.temperature = size, temperature

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create the map and an empty queue."""
        self.map = nn.Linear(width, width, bias=False)
        self.register_buffer("keys_KD", torch.zeros(self.size, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))  # keys so far

    def forward(self, step: Step) -> Tensor:
        """Compute the mean cross-entropy of this process's anchors against the candidates of all processes, a scalar."""
        anchor_BD = F.normalize(self.map(step.of("anchor")), dim=1)
        positive_ND = F.normalize(step.gather(step.of("positive")), dim=1)
        empty_K = torch.arange(self.size, device=self.written.device) >= self.written
        old_BK = (anchor_BD @ self.keys_KD.T).masked_fill(empty_K, -torch.inf)
        logits_BC = torch.cat([anchor_BD @ positive_ND.T, old_BK], dim=1) / self.temperature
        return F.cross_entropy(logits_BC, torch.arange(len(anchor_BD), device=logits_BC.device) + step.first)

    def after_step(self, step: Step) -> None:
        """Write the positives of all processes over the oldest keys of the queue."""
        positive_ND = F.normalize(step.gather(step.of("positive")), dim=1)[-self.size :]
        places_N = (self.written + torch.arange(len(positive_ND), device=self.written.device)) % self.size
        self.keys_KD[places_N] = positive_ND
        self.written += len(positive_ND)
