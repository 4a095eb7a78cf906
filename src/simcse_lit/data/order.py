"""Splits the order of an epoch into global batches, and each batch into the parts of the processes.

Rank 0's rows come first. The batches are the same for any number of processes, and in a resumed run.
"""

from collections.abc import Iterator

from torch.utils.data import Sampler

from simcse_lit.text.corpus import EpochOrder


class RankBatches(Sampler[list[int]]):
    """This process's rows of each global batch.

    Args:
        order: gives each epoch's permutation.
        batch_size: size of the global batch; a multiple of `processes`.
        drop_last: leave out an incomplete last batch; otherwise it is cut to a multiple of `processes`.
        rank: rank of this process.
        processes: number of processes that share a batch.
        done: batches, over all epochs, that a resumed run has already seen.
    """

    def __init__(self, order: EpochOrder, batch_size: int, *, drop_last: bool, rank: int, processes: int, done: int) -> None:
        self.sampler = order  # Lightning looks for set_epoch under this name
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.rank = rank
        self.processes = processes
        self._resumed_in, self._skip = divmod(done, len(self)) if done else (-1, 0)
        if done:
            order.set_epoch(self._resumed_in)

    @property
    def rest(self) -> int:
        """Examples of an incomplete last batch that is trained on, else 0."""
        rest = 0 if self.drop_last else self.sampler.examples % self.batch_size
        return rest - rest % self.processes

    def __len__(self) -> int:
        return self.sampler.examples // self.batch_size + (self.rest > 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.sampler.permutation()
        for batch in range(self._skip if self.sampler.epoch == self._resumed_in else 0, len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            part = (self.rest if len(rows) < self.batch_size else self.batch_size) // self.processes
            yield rows[self.rank * part : (self.rank + 1) * part].tolist()
