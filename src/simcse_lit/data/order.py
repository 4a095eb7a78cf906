"""Cuts the order of an epoch into global batches, and each batch into the parts of the processes.

Rank 0's rows come first. One process or many see the same batches, and so does a resumed run.
"""

from collections.abc import Iterator

from torch.utils.data import Sampler

from simcse_lit.text.corpus import EpochOrder


class RankBatches(Sampler[list[int]]):
    """This process's rows of each global batch.

    Args:
        order: gives each epoch's permutation.
        batch_size: of the global batch; `processes` divides it.
        drop_last: leave out a last batch that is not full; else it is cut to what `processes` divides.
        rank: of this process.
        processes: how many share a batch.
        done: batches that a resumed run had already seen, over all epochs.
    """

    def __init__(self, order: EpochOrder, batch_size: int, *, drop_last: bool, rank: int, processes: int, done: int) -> None:
        self.sampler = order  # the name under which Lightning looks for set_epoch
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.rank = rank
        self.processes = processes
        self._resumed_in, self._skip = divmod(done, len(self)) if done else (-1, 0)
        if done:
            order.set_epoch(self._resumed_in)

    @property
    def rest(self) -> int:
        """Examples of the last batch if it is trained on but not full, else 0."""
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
