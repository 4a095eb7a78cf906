"""Vectors of unique sentences, collected batch by batch and looked up by sentence. Encoding them happens elsewhere.

Shapes: N unique sentences, H hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simcse_lit.distributed import min_over_ranks, sum_over_ranks, world
from simcse_lit.errors import UserError


class Embeddings:
    """Vectors of N sentences. Add them in batches in any order, then look them up by sentence.

    Args:
        sentences: unique texts.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = sentences
        self._place = {sentence: place for place, sentence in enumerate(sentences)}
        self._vectors_NH: Tensor | None = None
        self._added_N = torch.zeros(len(sentences), dtype=torch.bool)

    def add(self, index: Tensor, vectors_NH: Tensor) -> None:
        """Store the vectors of one batch in float32 on the CPU.

        Args:
            index: places of the batch's sentences in `sentences`, (n,).
            vectors_NH: their vectors, (n, H).
        """
        if self._vectors_NH is None:
            self._vectors_NH = torch.full((len(self._sentences), vectors_NH.shape[1]), torch.nan)
        places = index.cpu()
        self._vectors_NH[places] = vectors_NH.detach().float().cpu()
        self._added_N[places] = True

    def share(self, device: torch.device) -> None:
        """Give every process the vectors that the others have added.

        If several processes have added a sentence, the vector of the lowest rank is used.

        Args:
            device: the device on which the processes communicate.

        Raises:
            UserError: no process has added a sentence; the message quotes it.
        """
        rank, processes = world()
        owner_N = torch.where(self._added_N, rank, processes)
        owner_N = min_over_ranks(owner_N.to(device)).cpu()
        left_out = (owner_N == processes).nonzero()
        if len(left_out):
            raise UserError(
                f"{len(left_out)} of {len(self._sentences)} sentences to score were not encoded, "
                f"the first: {self._sentences[int(left_out[0])]!r}\n"
                "A callback, or limit_val_batches or limit_test_batches of the Trainer, skips evaluation batches.\n"
                "Remove it: a score needs all sentences."
            )
        if processes == 1:
            return
        assert self._vectors_NH is not None, "every process encodes some sentences"
        self._vectors_NH = sum_over_ranks(self._vectors_NH.masked_fill((owner_N != rank)[:, None], 0).to(device)).cpu()

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Look up the vectors of sentences.

        Args:
            sentences: n texts, as given to the constructor.

        Returns:
            Their vectors in the same order, (n, H).

        Raises:
            UserError: a vector is not finite, or a sentence was not encoded; the message quotes the sentence.
        """
        assert self._vectors_NH is not None, "no vectors were added"
        lacking = next((sentence for sentence in sentences if sentence not in self._place), None)
        if lacking is not None:
            raise UserError(
                f"This sentence was not encoded: {lacking!r}\n"
                "sentences() of the task must yield exactly this text. An analysis may use sentences of its task only."
            )
        vectors_NH = self._vectors_NH[[self._place[sentence] for sentence in sentences]]
        broken = (~vectors_NH.isfinite()).any(dim=1).nonzero()
        if len(broken):
            raise UserError(
                f"The embedding of this sentence is not finite: {sentences[int(broken[0])]!r}\n"
                "Training has diverged, or the weights are damaged. Train with a lower optimizer.lr, and in full precision."
            )
        return vectors_NH
