"""A tokenised corpus, and the order in which an epoch of training sees it.

The order depends on the seed and the epoch alone. `data/order.py` cuts it into the batches of each process.
"""

import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from simcse_lit.seeds import derived_seed


class EpochOrder(Sampler[int]):
    """A permutation of all examples for each epoch.

    Args:
        examples: how many there are.
        seed: with the epoch decides the permutation.
        epoch: the first one.
    """

    def __init__(self, examples: int, seed: int, epoch: int = 0) -> None:
        self.examples = examples
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def permutation(self) -> torch.Tensor:
        """Places of all examples in this epoch's order, (examples,): 8 bytes each, never a Python list."""
        return torch.randperm(self.examples, generator=torch.Generator().manual_seed(derived_seed(self.seed, self.epoch)))

    def __iter__(self) -> Iterator[int]:
        return iter(self.permutation().tolist())

    def __len__(self) -> int:
        return self.examples


class Corpus(TorchDataset[Any]):
    """A tokenised corpus that a DataLoader reads a whole batch at a time.

    Args:
        dataset: what `tokenisation.py` made.
        seed: decides the order of the examples, and whatever an example's views draw.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset.with_format("arrow")
        self.order = EpochOrder(len(self), seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> pa.Table:
        return self.dataset[[index]]

    def __getitems__(self, indices: list[int]) -> pa.Table:
        return self.dataset[indices]

    def row(self, index: int) -> int:
        """The row of the tokenised corpus that holds an example."""
        return index

    def generator(self, index: int, view: int = 1) -> random.Random:
        """What a view of an example is drawn from in this epoch."""
        return drawn_from(self.order.seed, self.order.epoch, index, view)


def drawn_from(seed: int, turn: int, place: int, view: int) -> random.Random:
    """What a view of an example is drawn from: the view of number 1 from the seed of the example, others from their own.

    Args:
        seed: of the run.
        turn: the epoch, or the batch of a stream.
        place: of the example in it.
        view: its number.
    """
    own = () if view == 1 else (view + 1,)  # a zero at the end of the parts changes no seed
    return random.Random(derived_seed(seed, turn, place, *own))
