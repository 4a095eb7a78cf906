"""Extra negatives for InfoNCE: vectors of earlier batches.

Shapes: B examples of this process, N of all processes, K keys of the queue, D numbers of a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simcse_lit.objective.parts import Negatives
from simcse_lit.objective.step import Step, Vocabulary


class Queue(Negatives):
    """Keep the latest vectors of one view, from all processes and without gradient. Checkpoints contain the queue.

    Args:
        size: number of keys, K. Of a batch larger than K, the last K vectors stay.
        role: role of the view whose vectors are kept.
        encoder: the name of an encoder of `loss.beside`, such as a momentum encoder. It encodes the view again after the
            step. None keeps the vectors of the step.

    Raises:
        ValueError: the size is not positive.

    Source: He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning, section 3.2; Wu et al. 2022,
    ESimCSE, section 3.2.
    """

    def __init__(self, size: int, *, role: str = "positive", encoder: str | None = None) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size={size}: must be 1 or more")
        self.size, self.role, self.encoder = size, role, encoder
        self.encoders = () if encoder is None else (encoder,)
        self.keys_KD: Tensor
        self.written: Tensor

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create an empty queue."""
        self.register_buffer("keys_KD", torch.zeros(self.size, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))  # keys so far

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the keys, (K, D), and true for the keys that are filled, (K,)."""
        filled_K = torch.arange(self.size, device=self.written.device) < self.written
        return self.keys_KD, filled_K

    def after_step(self, step: Step) -> None:
        """Write the vectors of this step over the oldest keys."""
        vectors_BD = step.of(self.role)
        if self.encoder is not None:
            place = step.places(self.role)[0]
            ids_BL, mask_BL = step.ids_BVL[:, place], step.mask_BVL[:, place]
            vectors_BD = step.passes.encode(ids_BL, mask_BL, encoder=self.encoder)
        keys_ND = step.gather(vectors_BD)[-self.size :].to(self.keys_KD.dtype)
        places_N = (self.written + torch.arange(len(keys_ND), device=self.written.device)) % self.size
        self.keys_KD[places_N] = keys_ND
        self.written += len(keys_ND)
