"""A corpus that adds the row numbers to its batches."""

import pyarrow as pa
from torch.utils.data import Dataset as TorchDataset

from simcse_lit.text.corpus import Corpus


class WithRows(TorchDataset[pa.Table]):
    """Adds the column `rows`: numbers of the rows of the tokenised corpus.

    Args:
        corpus: the corpus.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: int) -> pa.Table:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> pa.Table:
        rows = pa.array([self.corpus.row(index) for index in indices], pa.int64())
        return self.corpus.__getitems__(indices).append_column("rows", rows)
