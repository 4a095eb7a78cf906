"""Positives that are one of the next sentences in the same document (Table 2 of the paper, "next sentence").

A file of documents is a text file with one sentence on each line and a blank line after each document.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from simcse_lit.errors import UserError
from simcse_lit.text.corpus import Corpus
from simcse_lit.text.rows import Row
from simcse_lit.text.sources import Source

FOLLOWERS = "followers"  # column of a tokenised corpus: how many sentences of the document follow, up to the window


def sentences_of_documents(source: Source) -> Iterator[Row | None]:
    """Yield the sentences of a text file, and None after each document."""
    for row in source.rows(("text",)):
        if isinstance(row, Row):
            yield row if row.fields[0].strip() else None
    yield None


def followed(rows: Iterable[Row | None], window: int) -> Iterator[tuple[Row, int]]:
    """Yield each sentence with the number of sentences that follow it in its document, at most `window`.

    Args:
        rows: sentences; None ends a document.
        window: the largest number.
    """
    waiting: deque[Row] = deque()
    for row in chain(rows, [None]):
        if row is not None:
            waiting.append(row)
            if len(waiting) > window:
                yield waiting.popleft(), window
        while row is None and waiting:
            yield waiting.popleft(), len(waiting)


class NextSentenceCorpus(Corpus):
    """A corpus whose second view is one of the next sentences, drawn again in every epoch.

    Its examples are the sentences that are followed by another sentence.

    Args:
        dataset: tokenised corpus with the column `followers`.
        seed: seed of the draws, with the epoch and the example.
        positive: number of the column with the token ids of the positives.
        ids: beginnings of the names of columns, one for each tokenizer.

    Raises:
        UserError: no sentence is followed by another.
    """

    def __init__(self, dataset: Any, seed: int, positive: int, ids: Sequence[str]) -> None:
        self._positive, self._ids = positive, ids
        followers = dataset.data.column(FOLLOWERS).to_numpy()
        self._anchors = np.flatnonzero(followers)
        self._followers = followers[self._anchors]
        super().__init__(dataset, seed)
        if not len(self._anchors):
            raise UserError("data.next_sentences: no sentence is followed by another. Only a blank line may end a document.")

    def __len__(self) -> int:
        return len(self._anchors)

    def row(self, index: int) -> int:
        """Return the row of the sentence of an example, not of the sentence that follows."""
        return int(self._anchors[index])

    def __getitems__(self, indices: list[int]) -> pa.Table:
        rows, following = [int(row) for row in self._anchors[indices]], []
        for index, row in zip(indices, rows, strict=True):
            following.append(row + 1 + self.generator(index).randrange(int(self._followers[index])))
        first, second = self.dataset[rows], self.dataset[following]
        found: dict[str, pa.ChunkedArray] = {}
        for ids in self._ids:
            found |= {f"{ids}0": first[f"{ids}0"], f"{ids}1": second[f"{ids}{self._positive}"]}
        return pa.table(found)
