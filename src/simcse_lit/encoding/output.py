"""Writes the vectors of N texts to a file, block by block, so that a killed run resumes where it stopped.

Rows are appended to the hidden file .OUTPUT.simcse_lit. After each block, .OUTPUT.simcse_lit.json records how many rows are
safe on the disk, their sha256, and what they were made of. An npy or safetensors file is these rows behind a header. Parquet
does not allow appending, so it is written from the rows at the end. The finished file appears under its name only when it is
complete, and has the same bytes however often the run was stopped.

Shapes: N texts, B texts of a block, H hidden.
"""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from simcse_lit.disk import durable_replace, fsync, unfinished
from simcse_lit.errors import UserError
from simcse_lit.one_writer import only_writer
from simcse_lit.text.rows import Row

log = logging.getLogger(__name__)

FLOAT = np.dtype("<f4")


class VectorFile:
    """An output in progress. Use it inside `writing`.

    Args:
        path: .npy, .safetensors or .parquet.
        rows: N.
        made_of: everything that decides the bytes, by configuration key. A run resumes only if all of it is the same.

    Raises:
        UserError: the unfinished file was made of something else, or its record is damaged.
    """

    def __init__(self, path: Path, rows: int, made_of: Mapping[str, Any]) -> None:
        self.path = path
        self.rows = rows
        self.done = 0  # rows that are safe on the disk
        self._made_of = dict(made_of)
        self._width: int | None = None
        self._digest = hashlib.sha256()  # of the header and the rows that are done
        self._partial = unfinished(path)
        self._record = beside(path, "json")
        with _explained(path):
            if self._record.is_file() and self._partial.is_file():
                self._go_on()

    def append(self, vectors_BH: np.ndarray) -> None:
        """Write the next rows, (B, H), and wait until they are safe on the disk."""
        with _explained(self.path):
            if self._width is None:
                self._width = vectors_BH.shape[1]
                self._digest = hashlib.sha256(self._header())
                self._partial.write_bytes(self._header())
            self._check_size()
            block = np.ascontiguousarray(vectors_BH, dtype=FLOAT)
            with self._partial.open("r+b") as file:
                file.truncate(self._size())  # a kill may have left half a block
                file.seek(self._size())
                file.write(block.data)
            fsync(self._partial)
            self._digest.update(block.data)
            self.done += len(vectors_BH)
            record = {
                "made_of": self._made_of,
                "width": self._width,
                "rows": self.done,
                "sha256": self._digest.hexdigest(),
            }
            fresh = self._record.with_name(f"{self._record.name}.new")
            fresh.write_text(json.dumps(record, indent=2), encoding="utf-8")
            durable_replace(fresh, self._record)

    def finish(self, rows: Iterable[Row], block: int, check: Callable[[], None]) -> None:
        """Give the file its name, and remove the partial files.

        Args:
            rows: the N texts and their lines, for Parquet.
            block: rows in a row group of Parquet.
            check: raises if the input has changed since it was encoded; the output is then not made.
        """
        check()
        assert self.done == self.rows, "not all rows were appended"
        with _explained(self.path):
            self._check_size()
            if self._digest_of(self.done).digest() != self._digest.digest():
                raise UserError(
                    f"output: {self._partial}: has been changed since it was written.\n"
                    "Run the command again; it starts from the beginning."
                )
            if self.path.suffix == ".parquet":
                whole = beside(self.path, "parquet")
                self._write_parquet(whole, rows, block, check)
                durable_replace(whole, self.path)
                self._partial.unlink()
            else:
                durable_replace(self._partial, self.path)
            self._record.unlink()

    def _go_on(self) -> None:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            made_of, width, done = record["made_of"], int(record["width"]), int(record["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"output: {self._record}: is damaged. Remove it to start again.") from error
        differing = [key for key, value in self._made_of.items() if made_of.get(key) != value]
        if differing:
            raise UserError(
                f"output: {self._partial}: was left by a run with another {', '.join(differing)}.\n"
                f"Run that command again to resume it, or remove {self._partial.name}* to start again."
            )
        self._width = width
        digest = self._digest_of(done)
        if digest.hexdigest() == record.get("sha256"):
            self.done, self._digest = done, digest
        else:
            self._width = None
            log.warning("%s: was changed after it was written, so encoding starts again.", self._partial)

    def _digest_of(self, rows: int) -> Any:
        """Return the SHA-256 of the header and the first `rows` rows in the unfinished file."""
        digest, left = hashlib.sha256(), self._size(rows)
        with self._partial.open("rb") as file:
            while left and (part := file.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
        return digest

    def _check_size(self) -> None:
        if (size := self._partial.stat().st_size) < self._size():
            raise UserError(
                f"output: {self._partial}: is shorter than what was written to it ({size:,} of {self._size():,} bytes).\n"
                "Run the command again; it starts from the beginning."
            )

    def _size(self, rows: int | None = None) -> int:
        """Count the bytes of the header and of `rows` rows, by default those that are safe on the disk."""
        assert self._width is not None
        return len(self._header()) + (self.done if rows is None else rows) * self._width * FLOAT.itemsize

    def _header(self) -> bytes:
        """Build the bytes in front of the rows."""
        assert self._width is not None
        shape = (self.rows, self._width)
        if self.path.suffix == ".npy":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": FLOAT.str, "fortran_order": False, "shape": shape})
            return header.getvalue()
        if self.path.suffix == ".safetensors":
            end = self.rows * self._width * FLOAT.itemsize
            about = {"__metadata__": {"format": "pt"}, "vectors": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
            text = json.dumps(about).encode()
            text += b" " * (-len(text) % 8)
            return len(text).to_bytes(8, "little") + text
        return b""

    def _write_parquet(self, path: Path, rows: Iterable[Row], block: int, check: Callable[[], None]) -> None:
        assert self._width is not None
        schema = pa.schema([("line", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), self._width))])
        remaining = iter(rows)
        with self._partial.open("rb") as file, parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
            for start in range(0, self.rows, block):
                count = min(block, self.rows - start)
                group = list(islice(remaining, count))
                check()
                numbers = np.frombuffer(file.read(count * self._width * FLOAT.itemsize), FLOAT)
                columns = [
                    pa.array([row.line for row in group], pa.int64()),
                    pa.array([row.fields[0] for row in group], pa.string()),
                    pa.FixedSizeListArray.from_arrays(pa.array(numbers), self._width),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=block)


def beside(path: Path, suffix: str) -> Path:
    """Return a file that is kept beside an output until the output is complete."""
    return unfinished(path).with_name(f"{unfinished(path).name}.{suffix}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the output's write lock, creating its folder if needed.

    Raises:
        UserError: the output exists, another process is writing it, or its folder cannot be written.
    """
    _refuse_to_replace(path)
    with ExitStack() as stack:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(beside(path, "lock"), f"output: {path}"))
        _refuse_to_replace(path)  # another process may just have finished it
        yield


def _refuse_to_replace(path: Path) -> None:
    """Check that an output does not exist yet.

    Raises:
        UserError: it exists.
    """
    if path.exists():
        raise UserError(f"output: {path}: already exists. Remove it, or use another file: output=FILE")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(f"output: {path}: cannot be written: {error.strerror or error}{where}.") from error
