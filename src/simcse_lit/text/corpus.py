"""A tokenised corpus, and the order of its examples in an epoch.

The order depends only on the seed and the epoch. `data/order.py` splits it into the batches of each process.
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
        examples: number of examples.
        seed: decides, with the epoch, the permutation.
        epoch: the first epoch.
    """

    def __init__(self, examples: int, seed: int, epoch: int = 0) -> None:
        self.examples = examples
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def permutation(self) -> torch.Tensor:
        """Return the places of all examples in this epoch's order, (examples,), as a tensor of 8 bytes each."""
        return torch.randperm(self.examples, generator=torch.Generator().manual_seed(derived_seed(self.seed, self.epoch)))

    def __iter__(self) -> Iterator[int]:
        return iter(self.permutation().tolist())

    def __len__(self) -> int:
        return self.examples


class Corpus(TorchDataset[Any]):
    """A tokenised corpus that a DataLoader reads batch by batch.

    Args:
        dataset: data set made by `tokenisation.py`.
        seed: decides the order of the examples and the draws of their views.
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
        """Return the row of the tokenised corpus that holds an example."""
        return index

    def generator(self, index: int, view: int = 1) -> random.Random:
        """Return the random generator of a view of an example in this epoch."""
        return drawn_from(self.order.seed, self.order.epoch, index, view)


def drawn_from(seed: int, turn: int, place: int, view: int) -> random.Random:
    """Return the random generator of a view of an example; every view has another one.

    Args:
        seed: seed of the run.
        turn: epoch, or batch of a stream.
        place: place of the example in it.
        view: number of the view.
    """
    own = () if view == 1 else (view + 1,)  # not `view`: a trailing zero would give the seed without it
    return random.Random(derived_seed(seed, turn, place, *own))
