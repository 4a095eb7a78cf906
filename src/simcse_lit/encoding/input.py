"""The texts of a file: checked and counted in a first pass, then read row by row. Memory does not grow with the file.

`text/examples.py` reads training text.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from simcse_lit.errors import UserError
from simcse_lit.text.rows import BadRows, Row
from simcse_lit.text.sources import Source, open_sources, text_rows


class TextFile:
    """The usable rows of one file.

    Args:
        location: a local file, `pkg://PACKAGE/FILE`, `hf://datasets/OWNER/NAME/FILE` or another URL.
        column: column of a table; None if it has only one, and for plain text.
        key: configuration key that names the file, for messages.
        on_bad_row: `error`; or `skip` to report bad rows and leave them out.
        name: name of the file in messages, if not its location.

    Raises:
        UserError: the file or its column is missing, it has no usable row, or it has a bad row and `on_bad_row` is `error`.
    """

    def __init__(
        self, location: str, column: str | None, *, key: str, on_bad_row: str = "error", name: str | None = None
    ) -> None:
        sources = open_sources(location, None, key=key)
        if len(sources) > 1:
            raise UserError(f"{key}: {location}: is {len(sources)} files. Give one of them.")
        self._source = replace(sources[0], name=name or sources[0].name)
        self._state = _state(self._source.path)
        self._digest: str | None = None
        self._column = _column(self._source, column)
        bad = BadRows(on_bad_row, key, "on_bad_row" if key == "input" else None)
        self._count = sum(1 for _ in text_rows(self._source, [self._column], bad))
        bad.finish()
        if not self._count:
            raise UserError(f"{key}: {self._source.name}: has no usable rows.")

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[Row]:
        """Return every usable row: its line, and its text as the only field."""
        return text_rows(self._source, [self._column], BadRows("skip", self._source.key))

    def texts(self) -> Iterator[str]:
        """Return every usable text."""
        return (row.fields[0] for row in self.rows())

    def blocks(self, size: int, start: int = 0) -> Iterator[list[Row]]:
        """Yield the usable rows from place `start` on, `size` at a time, all from the file that `digest` read.

        Raises:
            UserError: the file has changed since it was opened.
        """
        self.digest()
        rows = islice(self.rows(), start, None)
        while block := list(islice(rows, size)):
            self.check_unchanged()
            yield block
        self.check_unchanged()

    def digest(self) -> str:
        """Return the SHA-256 of the file and of the name of its column.

        Raises:
            UserError: the file has changed since it was opened.
        """
        if self._digest is None:
            digest = self._read_digest()
            if _state(self._source.path) != self._state:
                raise self._changed()
            self._digest = digest
        return self._digest

    def check_unchanged(self) -> None:
        """Check that the file is still the one that `digest` read, so that everything read before is from that file.

        Raises:
            UserError: it has changed.
        """
        state = _state(self._source.path)
        if state == self._state:
            return
        if state is None or self._read_digest() != self.digest():
            raise self._changed()
        self._state = state  # touched, or rewritten with the same content

    def _read_digest(self) -> str:
        digest = hashlib.sha256(f"{self._source.format}{self._source.packing}\0{self._column}\0".encode())
        for block in self._source.content():
            digest.update(block)
        return digest.hexdigest()

    def _changed(self) -> UserError:
        return UserError(
            f"{self._source.key}: {self._source.name}: changed while it was read.\n"
            "Run the command again when no process writes to the file."
        )


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file, without reading it; None if it is gone. Unlike mtime, ctime cannot be set back."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _column(source: Source, column: str | None) -> str:
    header = source.header
    if header is None:
        if column is not None:
            raise UserError(f"column={column}: {source.name} is plain text and has no columns. Remove column.")
        return "text"
    if column is None and len(header) > 1:
        raise UserError(f"column: {source.name} has several columns: {', '.join(header)}.\nChoose one: column={header[0]}")
    if column is None and " " in header[0] and source.format in (".csv", ".tsv"):
        raise UserError(
            f"column: {source.name}: line 1 is read as its header, {header[0]!r}.\n"
            f"If that is the name of the column, add column='{header[0]}'. If it is a text, rename the file to end in .txt."
        )
    if column is not None and column not in header:
        raise UserError(f"column={column}: {source.name} has no such column. Its columns: {', '.join(header)}.")
    return column or header[0]
