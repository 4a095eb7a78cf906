"""Sentences with their ids and unit vectors in memory-mapped Arrow files that never change once written.

A segment is one such file, or rows in memory that were added since the last save. `index.py` searches the rows of all
segments.

Shapes: N rows, M some of them, B rows of a block, Q queries, K found, H width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from simcse_lit.disk import fsync
from simcse_lit.errors import UserError

BLOCK = 16_384  # rows; limits the memory of an exact search


@dataclass(frozen=True)
class Segment:
    """Some rows.

    Args:
        blocks: Arrow record batches with the columns id, text and vector.
        path: the file that they are mapped from; None while they exist in memory only.
    """

    blocks: list[pa.RecordBatch]
    path: Path | None = None


class Rows:
    """All rows of an index, counted through its segments in order.

    Args:
        width: H.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.segments: list[Segment] = []
        self.vectors: list[Tensor] = []  # of each block, (B, H): views of the file, which must not be written to
        self._blocks: list[pa.RecordBatch] = []
        self._starts = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def append(self, segment: Segment) -> None:
        """Add the rows of a segment."""
        self.segments.append(segment)
        for block in segment.blocks:
            self._blocks.append(block)
            self.vectors.append(torch.from_dlpack(block.column("vector").flatten()).view(-1, self.width))
        self._starts = np.cumsum([0, *(block.num_rows for block in self._blocks)])

    def ids(self) -> np.ndarray:
        """Return the ids, (N,), int64."""
        return np.concatenate([np.empty(0, np.int64), *(block.column("id").to_numpy() for block in self._blocks)])

    def row(self, place: int) -> tuple[int, str]:
        """Return the id and the text at a place."""
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        block, inside = self._blocks[number], place - int(self._starts[number])
        return block.column("id")[inside].as_py(), block.column("text")[inside].as_py()

    def gather(self, places_M: Tensor) -> Tensor:
        """Return the vectors at some places, (M, H)."""
        places = places_M.numpy()
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        gathered = torch.empty(len(places), self.width)
        for number in np.unique(numbers):
            (here,) = (numbers == number).nonzero()
            gathered[here] = self.vectors[number][places[here] - self._starts[number]]
        return gathered

    def nearest(self, queries_QH: Tensor, k: int, alive_N: np.ndarray) -> tuple[Tensor, Tensor]:
        """Find the k rows with the largest inner product for each query, among rows that are alive.

        Args:
            queries_QH: (Q, H).
            k: how many.
            alive_N: which rows may be found.

        Returns:
            (products, places), both (Q, K) with K = min(k, N), largest first. Rows that are not alive come last, with -inf.
        """
        products_QK, places_QK = torch.empty(len(queries_QH), 0), torch.empty(len(queries_QH), 0, dtype=torch.long)
        dead_N = torch.from_numpy(~alive_N)
        start = 0
        for block_BH in self.vectors:
            products_QB = queries_QH @ block_BH.T
            products_QB[:, dead_N[start : start + len(block_BH)]] = -torch.inf
            top = products_QB.topk(min(k, len(block_BH)))
            products_QK, places_QK = torch.cat([products_QK, top.values], 1), torch.cat([places_QK, start + top.indices], 1)
            best = products_QK.topk(min(k, products_QK.shape[1]))
            products_QK, places_QK = best.values, places_QK.gather(1, best.indices)
            start += len(block_BH)
        return products_QK, places_QK


def width_of(vectors_NH: Tensor) -> int:
    """Return H.

    Raises:
        UserError: the tensor is not a matrix.
    """
    if vectors_NH.ndim != 2:
        raise UserError(
            f"index: vectors must be a matrix with a row for each sentence, and have {vectors_NH.ndim} dimensions."
        )
    return vectors_NH.shape[1]


def unit_vectors(vectors_NH: Tensor, width: int, what: str) -> Tensor:
    """Return unit vectors in float32.

    Raises:
        UserError: a vector has another width, is zero or is not finite.
    """
    if width_of(vectors_NH) != width:
        raise UserError(
            f"index: the vector of a {what} has {vectors_NH.shape[1]} numbers, and vectors of the index have {width}.\n"
            "The index was built with another model."
        )
    vectors_NH = vectors_NH.detach().float().cpu()
    length_N1 = vectors_NH.norm(dim=-1, keepdim=True)
    bad = (~(length_N1.isfinite() & (length_N1 > 0))).nonzero()
    if len(bad):
        raise UserError(f"index: the vector of {what} {int(bad[0, 0])} is zero or not finite, so it has no direction.")
    unit_NH: Tensor = vectors_NH / length_N1
    return unit_NH


def make_segment(ids: np.ndarray, texts: Sequence[str], vectors_NH: Tensor) -> Segment:
    """Make a segment in memory. The vectors are not copied."""
    width = vectors_NH.shape[1]
    blocks = []
    for start in range(0, len(ids), BLOCK):
        rows = slice(start, start + BLOCK)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NH[rows].contiguous().numpy().ravel()), width)
        columns = [pa.array(ids[rows], pa.int64()), pa.array(texts[rows], pa.large_string()), vectors]
        blocks.append(pa.RecordBatch.from_arrays(columns, schema=_schema(width)))
    return Segment(blocks)


def open_segment(path: Path, width: int) -> Segment:
    """Map a file whose vectors are `width` wide.

    Raises:
        UserError: the file is missing, is damaged, or has another width.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        blocks = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"folder: {path}: cannot be read: {str(error).splitlines()[0]}\nBuild the index again.") from error
    if reader.schema != _schema(width):
        raise UserError(f"folder: {path}: does not hold ids, texts and vectors of width {width}. Build the index again.")
    return Segment(blocks, path)


class SegmentWriter:
    """Writes a segment block by block and syncs it to the disk at the end. An unfinished file is removed.

    Args:
        path: the new file.
        width: H.

    Raises:
        UserError: the file cannot be written. Every method may raise it.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path = path
        with explained(path.parent):
            self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, _schema(width))

    def write(self, segment: Segment) -> None:
        """Append rows."""
        with explained(self._path.parent):
            for block in segment.blocks:
                self._writer.write_batch(block)

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        whole = False
        try:
            if error is None:
                with explained(self._path.parent):
                    self._writer.close()  # writes the footer, for which there may be no room
                    self._file.close()
                    fsync(self._path)
                whole = True
        finally:
            self._file.close()
            if not whole:
                self._path.unlink()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn errors of writing to the folder of an index into one message.

    Raises:
        UserError: instead of an error of the system, Arrow or faiss.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # faiss raises the latter
        raise UserError(f"folder: {folder}: cannot be written: {str(error).splitlines()[0]}") from error


def _schema(width: int) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("text", pa.large_string()), ("vector", pa.list_(pa.float32(), width))])
