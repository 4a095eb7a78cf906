"""Sentences to their vectors, each unique sentence encoded once. Used by training's validation and test alike.

Shapes: N unique sentences, H hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.objective.gather import sum_over_ranks, world


class Embeddings:
    """Vectors of N sentences, filled batch by batch in any order, then looked up by sentence.

    Args:
        sentences: unique texts.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = sentences
        self._place = {sentence: place for place, sentence in enumerate(sentences)}
        self._vectors_NH: Tensor | None = None
        self._added: list[int] = []

    def add(self, index: Tensor, vectors_NH: Tensor) -> None:
        """Store the vectors of the sentences at the places `index`, (N,), in float32 on the CPU."""
        if self._vectors_NH is None:
            self._vectors_NH = torch.full((len(self._sentences), vectors_NH.shape[1]), torch.nan)
        self._vectors_NH[index.cpu()] = vectors_NH.detach().float().cpu()
        self._added += index.tolist()

    def share(self, hidden: int, device: torch.device) -> None:
        """Give every process the vectors that the others have added; each sentence was encoded by one of them.

        Args:
            hidden: H, for a process that had no sentence.
            device: where processes can talk to each other.
        """
        if world()[1] == 1:
            return
        mine_N = torch.zeros(len(self._sentences), dtype=torch.bool)
        mine_N[self._added] = True
        own_NH = torch.zeros(len(self._sentences), hidden) if self._vectors_NH is None else self._vectors_NH
        self._vectors_NH = sum_over_ranks(own_NH.masked_fill(~mine_N[:, None], 0).to(device)).cpu()

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """The vectors of these sentences, in their order, (len(sentences), H).

        Raises:
            UserError: a vector holds a NaN or an infinity; the message quotes its sentence.
        """
        assert self._vectors_NH is not None, "no vectors were added"
        vectors_NH = self._vectors_NH[[self._place[sentence] for sentence in sentences]]
        broken = (~vectors_NH.isfinite()).any(dim=1).nonzero()
        if len(broken):
            raise UserError(
                f"The embedding of this sentence is not finite: {sentences[int(broken[0])]!r}\n"
                "Training has diverged, or the weights are damaged: train with a lower optimizer.lr, and in full precision."
            )
        return vectors_NH
