"""Pads rows of token ids to tensors: training batches of views, and evaluation batches of similar length.

Shapes: B examples, V views, L longest of the batch, N sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerFast

from simcse_lit.data.lengths import OVERHEAD, length_chunks
from simcse_lit.text.extras import stable_hash
from simcse_lit.text.template import Template
from simcse_lit.text.tokens import token_ids
from simcse_lit.views.encoded import IDS, ids_of

EXTRA_TYPES = {"scores": pa.float32(), "labels": pa.int64(), "rows": pa.int64()}  # columns besides the views
EVALUATION_LENGTH = 512  # tokens; no STS sentence is longer


def pad(values: np.ndarray, lengths: np.ndarray, pad_id: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn concatenated rows into a padded matrix.

    Args:
        values: all token ids, row after row, (sum of lengths,).
        lengths: tokens of each row, (N,).
        pad_id: id of the padding.
        width: columns of the result, at least the longest length.

    Returns:
        (ids, mask), both (N, width) int64; the mask is 1 for real tokens.
    """
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = values
    return ids, mask.astype(np.int64)


class ViewCollator:
    """Turns rows of the tokenised corpus into a batch of views, padded to the longest sentence of the batch.

    Args:
        pad_id: id of the padding token.
        places: column of each view, V numbers. With (0, 0) both views are the same sentence, and dropout makes them differ.
        hashes: add a number for each view's token ids, equal for equal texts.
        empty: for columns with optional texts, the token ids that stand for a missing text.
        others: for encoders with other tokenizers, the id of the padding token by name.
    """

    def __init__(
        self,
        pad_id: int,
        places: Sequence[int],
        *,
        hashes: bool = False,
        empty: Mapping[int, Sequence[int]] = MappingProxyType({}),
        others: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.pad_id = pad_id
        self.places = tuple(places)
        self.hashes = hashes
        self.empty = dict(empty)
        self.others = dict(others)

    def __call__(self, table: pa.Table) -> dict[str, Any]:
        """Collate the columns view0, view1, ... of B rows.

        Returns:
            `input_ids` and `attention_mask`, both (B, V, L) int64. If there are other columns or hashes, `extras` holds
            them: `scores` (B,) float32, `labels` and `rows` (B,) int64, `hashes` (B, V) int64, `present` (B, V) bool, false
            for a missing text. If there are other tokenizers, `others` holds ids and mask for each, by name.
        """
        columns = self._columns(table, IDS)
        extras = {name: torch.tensor(table[name].to_numpy()) for name in EXTRA_TYPES if name in table.column_names}
        if self.hashes:
            hashed = [hashes(column) for column in columns]
            extras["hashes"] = torch.tensor([hashed[place] for place in self.places]).T.contiguous()
        if self.empty:
            there = [
                [place not in self.empty or row.as_py() != list(self.empty[place]) for row in column]
                for place, column in enumerate(columns)
            ]
            extras["present"] = torch.tensor([there[place] for place in self.places]).T.contiguous()
        others = {name: self._padded(self._columns(table, ids_of(name)), pad_id) for name, pad_id in self.others.items()}
        more = {name: part for name, part in (("extras", extras), ("others", others)) if part}
        return {**self._padded(columns, self.pad_id), **more}

    def _columns(self, table: pa.Table, name: str) -> list[pa.ListArray]:
        return [table[f"{name}{place}"].combine_chunks() for place in range(max(self.places) + 1)]

    def _padded(self, columns: Sequence[pa.ListArray], pad_id: int) -> dict[str, Tensor]:
        """Return ids and mask of the views, (B, V, L)."""
        lengths = [column.value_lengths().to_numpy() for column in columns]
        width = int(max(length.max() for length in lengths))
        padded = [
            pad(column.flatten().to_numpy(), length, pad_id, width) for column, length in zip(columns, lengths, strict=True)
        ]
        ids, mask = (np.stack([padded[place][part] for place in self.places], axis=1) for part in (0, 1))
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def hashes(ids: pa.ListArray) -> list[int]:
    """Return a number for each row of token ids, equal for equal ids in every process and run."""
    return [stable_hash(np.array(row.values, dtype=np.int32).tobytes()) for row in ids]


class SentenceBatches(TorchDataset[dict[str, Tensor]]):
    """Sentences tokenised once, sorted by length and split into batches of at most `token_budget` padded tokens.

    Args:
        sentences: unique texts.
        tokenizer: the model's tokenizer.
        max_length: maximum tokens of a sentence, with special tokens and template.
        template: template around each sentence; None for none.
        token_budget: maximum rows times columns of a batch; a longer sentence gets a batch alone.
    """

    def __init__(
        self,
        sentences: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        *,
        max_length: int,
        token_budget: int,
        template: Template | None = None,
    ) -> None:
        encoded = template.encode(sentences, max_length) if template else token_ids(sentences, tokenizer, max_length)
        self._pad_id = int(tokenizer.pad_token_id)
        # A decoder's tokenizer gives no token for an empty text; its padding is the end-of-text token.
        self._ids = [np.asarray(ids or [self._pad_id], dtype=np.int64) for ids in encoded]
        self._batches = list(length_sorted([len(ids) for ids in self._ids], token_budget))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, batch: int) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (N, L), and the sentences' places `index`, (N,)."""
        index = self._batches[batch]
        rows = [self._ids[place] for place in index]
        lengths = np.array([len(row) for row in rows])
        ids, mask = pad(np.concatenate(rows), lengths, self._pad_id, int(lengths.max()))
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "index": torch.tensor(index),
        }


def length_sorted(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield places in order of falling length, split where that saves padding.

    Longest length times size of a batch stays within the budget.
    """
    places = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    first = end = 0
    for size in length_chunks(lengths, OVERHEAD):
        end += size
        while first < end:
            after = min(end, first + max(1, token_budget // lengths[places[first]]))
            yield places[first:after]
            first = after
