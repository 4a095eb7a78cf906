"""Reads text row by row from local files and URLs, and reports a bad row with its file and line.

Every reader is a generator, so files are not held in memory. `nli.py` builds examples of NLI rows.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any

import fsspec

from simcse_lit.config.resolvers import COMPRESSED, file_name, is_hub, is_remote, suffixes
from simcse_lit.errors import UserError
from simcse_lit.text import hub, remote
from simcse_lit.text.columns import no_such_columns
from simcse_lit.text.delimited import Record, records, spans
from simcse_lit.text.json_rows import BrokenJson, objects
from simcse_lit.text.lines import lines
from simcse_lit.text.local import local_files
from simcse_lit.text.nli import RAW_COLUMNS
from simcse_lit.text.parquet_rows import open_parquet, parquet_rows
from simcse_lit.text.readers import Read, endings, reader_of
from simcse_lit.text.rows import BadRow, BadRows, Row, unusable

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
JSON = (".jsonl", ".json")
UNPACKERS = dict(zip(COMPRESSED, ("gzip", "bz2", "lzma", ZSTD), strict=True))


@dataclass(frozen=True)
class Source:
    """A file of a known format, compressed or not.

    Args:
        path: the file; only its name if it is read from a URL.
        name: the user's name of the file, for messages.
        key: configuration key of the file, for messages.
        url: URL that fsspec reads, or None for a local file.

    Raises:
        UserError: the format is unknown, or the package that decompresses it is not installed.
    """

    path: Path
    name: str
    key: str
    url: str | None = None

    def __post_init__(self) -> None:
        if self.reader:
            return
        if self.format not in FORMATS or (self.packing and self.format == ".parquet"):
            known = ", ".join((*endings(), *FORMATS))
            raise UserError(
                f"{self.where}: unknown format {self.format + self.packing!r}. Known formats: {known};\n"
                f"all but the last also compressed ({', '.join(COMPRESSED)}).{self._renamed()}"
            )
        if self.packing:
            try:
                import_module(UNPACKERS[self.packing])
            except ImportError as error:
                raise UserError(
                    f"{self.where}: the package that decompresses {self.packing} files is not installed.\n"
                    f"Install it with: pip install {UNPACKERS[self.packing]}"
                ) from error

    def _renamed(self) -> str:
        """Say what to do with a file whose name does not tell its format."""
        file = self.path.name
        if self.format == ".parquet":
            return f"\nParquet is compressed inside, so decompress the file to {file.removesuffix(self.packing)}."
        if self.packing and not self.format:
            stem, ending = file[: -len(self.packing)], file[-len(self.packing) :]
            return f"\nThe name must also give the format of the content. Rename it, e.g. to {stem}.txt{ending}."
        if not self.format:
            return f"\nThe name must give the format. Rename it, e.g. to {file}.txt."
        return ""

    @property
    def where(self) -> str:
        """Key and file, the start of a message."""
        return f"{self.key}: {self.name}"

    @property
    def format(self) -> str:
        """The ending that tells the format: one of `FORMATS`, or one for which a package registers a reader."""
        return suffixes(self.path.name)[0]

    @cached_property
    def reader(self) -> Read | None:
        """The reader of an installed package for this ending or scheme, or None."""
        return reader_of(self.url or self.path.name)

    @property
    def packing(self) -> str:
        """The ending of the compression, one of `COMPRESSED`, or an empty text."""
        return suffixes(self.path.name)[1]

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file and decompress it.

        Raises:
            UserError: it is missing, or cannot be opened.
        """
        with ExitStack() as stack:
            with remote.explained(self.name, self.key):
                file: Any = stack.enter_context(fsspec.open(self.url) if self.url else self.path.open("rb"))
            if self.url:
                file = BufferedReader(file)  # fsspec's files search a block of 5 MB for every line end
            if self.packing:
                file = stack.enter_context(import_module(UNPACKERS[self.packing]).open(file))
            yield file

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify the content: those of the file, or the rows of a URL that another package reads.

        Raises:
            UserError: it cannot be read.
        """
        if self.reader and self.url:
            for line, value in self._objects():
                yield f"{json.dumps([line, str(value) if isinstance(value, BadRow) else dict(value)])}\n".encode()
            return
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                yield block

    def broken(self, place: str, error: Exception) -> UserError:
        """Return the message for a file that cannot be read to its end."""
        what = "the stream broke" if self.url else "the file is damaged"
        return UserError(f"{self.where}, {place}: {what}: {remote.reason(error)}")

    @cached_property
    def header(self) -> list[str] | None:
        """Column names, or None for plain text.

        Raises:
            UserError: the file is empty, in another encoding, or has no header.
        """
        if self.format == ".txt":
            return None
        if self.format == ".parquet":
            with self.opened() as file:
                return [str(name) for name in open_parquet(self, file).schema_arrow.names]
        if self._gives_objects:
            return list(self._first_object())
        header = next(self._records(), (1, []))[1]
        if isinstance(header, BadRow):
            raise UserError(f"{self.where}, line 1: {header}.")
        if not header:
            raise UserError(f"{self.where}, line 1: is blank, or the file is empty. Expected a header line.")
        return [name.strip() for name in header]

    def rows(self, columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
        """Yield every row's fields in the order of `columns`; a malformed row comes as (line, reason).

        A row's line is its first line; in a Parquet file, its number.

        Raises:
            UserError: a column is missing, or the file is in another encoding or cannot be read to its end.
        """
        header = self.header
        if header is None:
            for line, text in enumerate(self._lines(), start=1):
                if line == 1 and set(RAW_COLUMNS) <= set(text.split("\t")):
                    raise UserError(f"{self.where}: is a table separated by tabs. Rename it to end in .tsv.")
                if line == 1 and text.startswith('{"') and text.endswith("}"):
                    raise UserError(f"{self.where}: has a JSON object a line. Rename it to end in .jsonl.")
                yield Row(line, (text,), self.name)
            return
        if not set(columns) <= set(header):
            first = self._first_object() if self._gives_objects else {}
            raise no_such_columns(self.key, self.name, header, columns, first)
        if twice := [column for column in columns if header.count(column) > 1]:
            raise UserError(f"{self.where}: has several columns {twice[0]}. Give each column another name.")
        if self.format == ".parquet":
            yield from parquet_rows(self, columns)
        elif self._gives_objects:
            yield from self._object_rows(columns)
        else:
            yield from self._delimited_rows(header, columns)

    def _lines(self) -> Iterator[str]:
        line = 0
        try:
            with self.opened() as file:
                for text in lines(file, self.where, quoted=self.format == ".csv"):
                    line += 1
                    yield text
        except UserError:
            raise
        except Exception as error:  # codecs and file systems raise many classes
            raise self.broken(f"after line {line}", error) from error

    def _records(self) -> Iterator[Record]:
        return records(self._lines(), tabs=self.format == ".tsv")

    def _delimited_rows(self, header: list[str], columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
        places = [header.index(column) for column in columns]
        for line, fields in islice(self._records(), 1, None):
            if isinstance(fields, BadRow):
                yield line, fields
            elif not fields:
                yield line, BadRow("blank")
            elif [field.strip() for field in fields] == header:
                yield line, BadRow("repeats the header")
            elif len(fields) != len(header):
                more = f"; it includes {count} lines, to line {line + count - 1}" if (count := spans(fields)) > 1 else ""
                more += '; put a text with a separator in "quotes"' * (len(header) == 1)
                yield line, BadRow(f"{len(fields)} fields, expected {len(header)} ({','.join(header)}){more}")
            else:
                yield Row(line, tuple(fields[place] for place in places), self.name)

    @property
    def _gives_objects(self) -> bool:
        """Whether each row has named fields."""
        return self.reader is not None or self.format in JSON

    def _objects(self) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
        if self.reader:
            line = 0
            try:
                for line, value in self.reader(self.url or str(self.path)):
                    yield line, value
            except Exception as error:  # the reader of another package may raise anything
                raise self.broken(f"after line {line}", error) from error
            return
        try:
            yield from objects(self._lines())
        except BrokenJson as error:
            raise UserError(f"{self.where}, line {error.line}: {error}. The file cannot be read further.") from error

    def _first_object(self) -> Mapping[str, Any]:
        for line, value in self._objects():
            if isinstance(value, Mapping):
                return value
            if str(value) != "blank" and not self.reader:  # a package's reader knows its format
                raise UserError(f"{self.where}, line {line}: {value}.")
        raise UserError(f"{self.where}: the file is empty.")

    def _object_rows(self, columns: Sequence[str]) -> Iterator[Row | tuple[int, BadRow]]:
        for line, value in self._objects():
            if isinstance(value, BadRow):
                yield line, value
            elif absent := [column for column in columns if column not in value]:
                yield line, BadRow(f"no field {', '.join(absent)}", absent)
            else:
                yield Row(line, tuple(value[column] for column in columns), self.name)


def open_sources(files: str | list[str], revision: str | None, *, key: str) -> list[Source]:
    """Open local paths, `pkg://`, `hf://datasets/OWNER/NAME[/FILE]` and any other URL of fsspec as local files.

    Files of the Hub are downloaded into its cache, other remote files into a folder that is removed when the process ends.
    To read without a copy use `data.streaming.open_stream`.

    Args:
        files: one or several of these.
        revision: branch, tag or commit of hf:// files.
        key: configuration key of the files, for messages.

    Raises:
        UserError: a file is missing, of an unknown format, or cannot be downloaded.
    """
    names = files if isinstance(files, list) else [files]
    return [source for name in names for source in _open(name, revision, key)]


def text_rows(source: Source, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    """Yield the rows of a file whose columns are texts that are not blank; other rows are added to `bad`."""
    for row in source.rows(columns):
        bad.rows += 1
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
    if is_remote(name) and reader_of(name):
        return [Source(Path(file_name(name)), name, key, name)]
    if is_remote(name):
        urls = remote.expanded(name, key=key) if "*" in name else [name]
        # created before the download, so that an unknown format fails immediately
        sources = [Source(Path(file_name(url)), url, key) for url in urls]
        return [replace(source, path=remote.fetched(source.name, key=key)) for source in sources]
    return [Source(path, called, key) for path, called in local_files(name, (*endings(), *FORMATS), key=key)]
