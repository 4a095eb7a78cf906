"""Reads training text row by row from local files and from the Hub, and reports a bad row with its file and line.

Nothing is held in memory: every reader is a generator. Called by `tokenisation.py`; NLI rows go through `nli.py`.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.text.rows import BadRow, Row

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Source:
    """A local file of a known format.

    Args:
        path: the file.
        name: what the user called it, for messages.
        key: the configuration key that names it, for messages.
    """

    path: Path
    name: str
    key: str

    def header(self) -> list[str] | None:
        """Column names, or None for plain text.

        Raises:
            UserError: the file is empty, not UTF-8, or has no header.
        """
        suffix = self.path.suffix
        if suffix == ".txt":
            return None
        if suffix == ".parquet":
            return [str(name) for name in open_parquet(self).schema_arrow.names]
        if suffix == ".jsonl":
            first = next(((line, text) for line, text in enumerate(_lines(self), start=1) if text.strip()), None)
            if first is None:
                raise UserError(f"{self.key}: {self.name}: the file is empty.")
            try:
                return list(_json_object(first[1]))
            except BadRow as reason:
                raise UserError(f"{self.key}: {self.name}, line {first[0]}: {reason}.") from reason
        header = next(_records(self), (0, []))[1]
        if isinstance(header, BadRow):
            raise UserError(f"{self.key}: {self.name}, line 1: {header}.")
        if not header:
            raise UserError(f"{self.key}: {self.name}: the file is empty; expected a header line.")
        return header

    def rows(self, columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
        """Every row's fields in the order of `columns`; a malformed row comes as (line, reason).

        Raises:
            UserError: a column is missing, or the file is not UTF-8.
        """
        header = self.header()
        if header is None:
            yield from (Row(line, (text,), self.name) for line, text in enumerate(_lines(self), start=1))
            return
        missing = [column for column in columns if column not in header]
        if missing:
            raise UserError(
                f"{self.key.rpartition('.')[0]}.columns: {self.name}: has no column {', '.join(missing)}; its columns are "
                f"{', '.join(header)}.\nName those to read, in the order of [{', '.join(columns)}]."
            )
        suffix = self.path.suffix
        if suffix == ".parquet":
            yield from _parquet_rows(self, columns)
        elif suffix == ".jsonl":
            yield from _jsonl_rows(self, columns)
        else:
            yield from _delimited_rows(self, header, columns)


def open_sources(files: str | list[str], revision: str | None, *, key: str) -> list[Source]:
    """Resolve local paths, `pkg://`, and `hf://datasets/OWNER/NAME[/FILE]`.

    Args:
        files: one or several of these.
        revision: branch, tag or commit of hf:// files.
        key: the configuration key that names them, for messages.

    Raises:
        UserError: a file is missing or of an unknown format, or the Hub cannot be reached.
    """
    names = files if isinstance(files, list) else [files]
    return [source for name in names for source in _open(name, revision, key)]


def _open(name: str, revision: str | None, key: str) -> list[Source]:
    if name.startswith("hf://"):
        from simcse_lit.text.hub import download

        return [_known(Source(path, f"{name.rstrip('/')}:{path.name}", key)) for path in download(name, revision, key=key)]
    path = local_path(name, key)
    if path.is_dir():
        raise UserError(f"{key}: {name}: is a folder; name a file ({', '.join(FORMATS)}).")
    if not path.is_file():
        raise UserError(f"{key}: {name}: there is no such file (looked in {path.absolute().parent}).")
    return [_known(Source(path, name, key))]


def _known(source: Source) -> Source:
    if source.path.suffix not in FORMATS:
        raise UserError(
            f"{source.key}: {source.name}: unknown format {source.path.suffix!r}; known are {', '.join(FORMATS)}."
        )
    return source


def _lines(source: Source) -> Iterator[str]:
    """Lines without their line end; CRLF and a byte-order mark are taken off."""
    line = 0
    with source.path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{source.key}: {source.name}, line {line}: not UTF-8 (byte {raw[error.start]:#04x} at "
                    f"position {error.start + 1}).\nConvert the file: iconv -f latin1 -t utf-8 FILE > NEW"
                ) from error
            yield text.rstrip("\r\n")


def _dialect(path: Path) -> dict[str, Any]:
    """csv is quoted as RFC 4180 says; tsv has no quoting, as in SNLI and SentEval."""
    return {"delimiter": ","} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def _records(source: Source) -> Iterator[tuple[int, list[str] | BadRow]]:
    csv.field_size_limit(1 << 24)
    # csv needs the line ends inside quoted fields back
    reader = csv.reader((line + "\n" for line in _lines(source)), **_dialect(source.path), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            yield reader.line_num, BadRow(f"malformed CSV: {error}")
        else:
            yield reader.line_num, fields


def _delimited_rows(source: Source, header: list[str], columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
    places = [header.index(column) for column in columns]
    for line, fields in islice(_records(source), 1, None):
        if isinstance(fields, BadRow):
            yield line, fields
        elif not fields:
            yield line, BadRow("blank")
        elif len(fields) != len(header):
            yield line, BadRow(f"{len(fields)} fields, expected {len(header)} ({','.join(header)})")
        else:
            yield Row(line, tuple(fields[place] for place in places), source.name)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: JSONDecodeError, or a number of thousands of digits
        raise BadRow(f"not JSON: {getattr(error, 'msg', error)}") from error
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    return value


def _jsonl_rows(source: Source, columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
    for line, text in enumerate(_lines(source), start=1):
        if not text.strip():
            yield line, BadRow("blank")
            continue
        try:
            value = _json_object(text)
        except BadRow as reason:
            yield line, reason
            continue
        absent = [column for column in columns if column not in value]
        if absent:
            yield line, BadRow(f"no field {', '.join(absent)}")
        else:
            yield Row(line, tuple(value[column] for column in columns), source.name)


def open_parquet(source: Source) -> Any:
    """A `pyarrow.parquet.ParquetFile`.

    Raises:
        UserError: it is none, or damaged.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(source.path)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source.key}: {source.name}: not a Parquet file, or a damaged one: {reason}") from error


def _parquet_rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow

    line = 0
    try:
        for batch in open_parquet(source).iter_batches(columns=list(columns)):
            for fields in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                line += 1
                yield Row(line, fields, source.name)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source.key}: {source.name}, after row {line}: the file is damaged: {reason}") from error
