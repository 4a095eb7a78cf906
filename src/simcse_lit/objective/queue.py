"""Negatives of InfoNCE that are vectors of earlier batches.

Shapes: B examples of this process, N of all processes, K keys of the queue, D numbers of a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simcse_lit.objective.info_nce import Negatives
from simcse_lit.objective.step import Step, Vocabulary


class Queue(Negatives):
    """The latest vectors of one view, of all processes, without gradient. It is in the run's checkpoints.

    Args:
        size: keys, K; a batch larger than that leaves its last ones.
        role: of the view whose vectors are kept.
        encoder: encodes them once more, after the step: a name of `loss.beside`, as a momentum encoder. None keeps the
            vectors of the step.

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
        """Make an empty queue."""
        self.register_buffer("keys_KD", torch.zeros(self.size, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))  # keys, ever

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The keys, (K, D), and which of them are filled, (K,)."""
        filled_K = torch.arange(self.size, device=self.written.device) < self.written
        return self.keys_KD, filled_K

    def after_step(self, step: Step) -> None:
        """Put this step's vectors in, over the oldest keys."""
        vectors_BD = step.of(self.role)
        if self.encoder is not None:
            place = step.places(self.role)[0]
            ids_BL, mask_BL = step.ids_BVL[:, place], step.mask_BVL[:, place]
            vectors_BD = step.passes.encode(ids_BL, mask_BL, encoder=self.encoder)
        keys_ND = step.gather(vectors_BD)[-self.size :].to(self.keys_KD.dtype)
        places_N = (self.written + torch.arange(len(keys_ND), device=self.written.device)) % self.size
        self.keys_KD[places_N] = keys_ND
        self.written += len(keys_ND)
