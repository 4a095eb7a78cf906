"""Reads text row by row from local files and from URLs, and reports a bad row with its file and line.

Nothing is held in memory: every reader is a generator. NLI rows go through `nli.py`.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any

import fsspec
from pyarrow import parquet

from simcse_lit.config.resolvers import COMPRESSED, file_name, is_hub, is_remote, local_path, suffixes
from simcse_lit.errors import UserError
from simcse_lit.text import hub, remote
from simcse_lit.text.rows import BadRow, BadRows, Row, unusable

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
UNPACKERS = dict(zip(COMPRESSED, ("gzip", "bz2", "lzma", ZSTD), strict=True))


@dataclass(frozen=True)
class Source:
    """A file of a known format, compressed or not.

    Args:
        path: the file; only its name if it is read from a URL.
        name: what the user called it, for messages.
        key: the configuration key that names it, for messages.
        url: where fsspec reads it, or None for a local file.

    Raises:
        UserError: the format is unknown, or no package is installed that unpacks it.
    """

    path: Path
    name: str
    key: str
    url: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS or (self.packing and self.format == ".parquet"):
            raise UserError(
                f"{self.key}: {self.name}: unknown format {self.format + self.packing!r}; known are {', '.join(FORMATS)},\n"
                f"and all but the last also compressed ({', '.join(COMPRESSED)})."
            )
        if self.packing:
            try:
                import_module(UNPACKERS[self.packing])
            except ImportError as error:
                raise UserError(
                    f"{self.key}: {self.name}: a package is missing that unpacks {self.packing} files.\n"
                    f"Install it with: pip install {UNPACKERS[self.packing]}"
                ) from error

    @property
    def format(self) -> str:
        """One of `FORMATS`."""
        return suffixes(self.path.name)[0]

    @property
    def packing(self) -> str:
        """One of `COMPRESSED`, or nothing."""
        return suffixes(self.path.name)[1]

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The open file, without its compression.

        Raises:
            UserError: it is gone, or cannot be opened.
        """
        with ExitStack() as stack:
            with remote.explained(self.name, self.key):
                file: Any = stack.enter_context(fsspec.open(self.url) if self.url else self.path.open("rb"))
            if self.url:
                file = BufferedReader(file)  # fsspec's own files search a block of 5 MB for the end of each line
            if self.packing:
                file = stack.enter_context(import_module(UNPACKERS[self.packing]).open(file))
            yield file

    def broken(self, place: str, error: Exception) -> UserError:
        """The message for a file that cannot be read to its end."""
        what = "the stream broke" if self.url else "the file is damaged"
        return UserError(f"{self.key}: {self.name}, {place}: {what}: {remote.reason(error)}")

    def header(self) -> list[str] | None:
        """Column names, or None for plain text.

        Raises:
            UserError: the file is empty, not UTF-8, or has no header.
        """
        if self.format == ".txt":
            return None
        if self.format == ".parquet":
            with self.opened() as file:
                return [str(name) for name in open_parquet(self, file).schema_arrow.names]
        if self.format in (".jsonl", ".json"):
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
            UserError: a column is missing, or the file is not UTF-8 or cannot be read to its end.
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
        if self.format == ".parquet":
            yield from _parquet_rows(self, columns)
        elif self.format in (".jsonl", ".json"):
            yield from _jsonl_rows(self, columns)
        else:
            yield from _delimited_rows(self, header, columns)


def open_sources(files: str | list[str], revision: str | None, *, key: str) -> list[Source]:
    """Local files for local paths, `pkg://`, `hf://datasets/OWNER/NAME[/FILE]` and any other URL that fsspec knows.

    Files that are not on this machine are downloaded: those of the Hub into its cache, others into a folder that is removed
    when the process ends. To read without a copy use `data.streaming.open_stream`.

    Args:
        files: one or several of these.
        revision: branch, tag or commit of hf:// files.
        key: the configuration key that names them, for messages.

    Raises:
        UserError: a file is missing or of an unknown format, or cannot be fetched.
    """
    names = files if isinstance(files, list) else [files]
    return [source for name in names for source in _open(name, revision, key)]


def text_rows(source: Source, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    """The rows of a file whose columns are texts that are not blank; the others are given to `bad`."""
    for row in source.rows(columns):
        if not isinstance(row, Row):
            bad.add(source.name, row[0], str(row[1]))
            continue
        reason = unusable(row.fields, columns)
        if reason:
            bad.add(source.name, row.line, reason)
        else:
            yield row


def _open(name: str, revision: str | None, key: str) -> list[Source]:
    if is_hub(name):
        paths = hub.download(name, revision, key=key)
        return [Source(path, f"{name.rstrip('/')}:{path.name}", key) for path in paths]
    if is_remote(name):
        source = Source(Path(file_name(name)), name, key)  # refuses an unknown format before it is fetched
        return [replace(source, path=remote.fetched(name, key=key))]
    path = local_path(name, key)
    if path.is_dir():
        raise UserError(f"{key}: {name}: is a folder; name a file ({', '.join(FORMATS)}).")
    if not path.is_file():
        raise UserError(f"{key}: {name}: there is no such file (looked in {path.absolute().parent}).")
    return [Source(path, name, key)]


def _lines(source: Source) -> Iterator[str]:
    """Lines without their line end; CRLF and a byte-order mark are taken off."""
    line = 0
    try:
        with source.opened() as file:
            for line, raw in enumerate(file, start=1):
                yield raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source.key}: {source.name}, line {line}: not UTF-8 (byte {error.object[error.start]:#04x} at "
            f"position {error.start + 1}).\nConvert the file: iconv -f latin1 -t utf-8 FILE > NEW"
        ) from error
    except UserError:
        raise
    except Exception as error:  # whatever a codec or a file system raises
        raise source.broken(f"after line {line}", error) from error


def _records(source: Source) -> Iterator[tuple[int, list[str] | BadRow]]:
    csv.field_size_limit(1 << 24)
    # csv is quoted as RFC 4180 says; tsv has no quoting, as in SNLI and SentEval
    dialect: Any = {} if source.format == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    # csv needs the line ends inside quoted fields back
    reader = csv.reader((line + "\n" for line in _lines(source)), **dialect, strict=True)
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


def open_parquet(source: Source, file: IO[bytes] | None = None) -> Any:
    """A `pyarrow.parquet.ParquetFile` of a file that is already open, or of the local file.

    Raises:
        UserError: it is none, or damaged.
    """
    try:
        return parquet.ParquetFile(file or source.path)
    except Exception as error:  # pyarrow's own, or whatever a file system raises
        raise UserError(
            f"{source.key}: {source.name}: not a Parquet file, or a damaged one: {remote.reason(error)}"
        ) from error


def _parquet_rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    with source.opened() as file:
        line, opened = 0, open_parquet(source, file)
        try:
            for batch in opened.iter_batches(columns=list(columns)):
                for fields in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                    line += 1
                    yield Row(line, fields, source.name)
        except Exception as error:  # pyarrow's own, or whatever a file system raises
            raise source.broken(f"after row {line}", error) from error
