"""Reads the sentences of an uploaded file, within the limits.

A few kilobytes of Parquet can hold millions of rows or characters, so the sizes that the file declares are checked first.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import HTTPException
from pyarrow import parquet

from simcse_lit.config.schema import LimitsConfig
from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text.lines import MARKS
from simcse_lit.text.parquet_rows import open_parquet
from simcse_lit.text.sources import FORMATS, Source

BATCH = 1024  # rows of Parquet whose lengths are checked at a time
BYTES = 4  # maximum bytes of a character in UTF-8


def uploaded(body: bytes, name: str, column: str | None, limits: LimitsConfig) -> list[str]:
    """Read the sentences of an uploaded file.

    Args:
        body: bytes of the file.
        name: name of the file; its ending gives the format.
        column: column to read, of a table with several.
        limits: limits of the sentences and their characters.

    Raises:
        HTTPException: the file is empty, not text, of an unknown format, or has too many sentences.
        UserError: a row cannot be used, or the file is damaged.
    """
    name = Path(name).name
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise HTTPException(415, f"{name}: unknown format {suffix!r}. Known formats: {', '.join(FORMATS)}.")
    if not body.strip():
        raise HTTPException(400, f"{name}: the file is empty.")
    if suffix != ".parquet" and b"\0" in body and not body.startswith(tuple(MARKS)):
        raise HTTPException(400, f"{name}: has zero bytes, so it is not a text file.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"corpus{suffix}")
        path.write_bytes(body)
        if suffix == ".parquet":
            _check_parquet(Source(path, name, "corpus"), column, limits)
        file = TextFile(str(path), column, key="corpus", name=name)
        _check_count(name, len(file), limits)
        texts = []
        for row in file.rows():
            _check_length(row.line, len(row.fields[0]), limits)
            texts.append(row.fields[0])
        return texts


def _check_count(name: str, count: int, limits: LimitsConfig) -> None:
    if count > limits.corpus:
        raise HTTPException(413, f"{name}: {count:,} sentences, but at most {limits.corpus:,} are allowed.")


def _check_length(line: int, characters: int, limits: LimitsConfig) -> None:
    if characters > limits.characters:
        raise UserError(f"corpus: line {line}: {characters:,} characters, but at most {limits.characters:,} are allowed.")


def _check_parquet(source: Source, column: str | None, limits: LimitsConfig) -> None:
    """Check the rows and bytes that the file declares, then the length of each text.

    Texts are read as a dictionary, so that repeated ones take memory once. The metadata of single columns is not read:
    pyarrow 26 ends the process if it is damaged.
    """
    file = open_parquet(source)
    names, about = file.schema_arrow.names, file.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    _check_count(source.name, max(about.num_rows, sum(group.num_rows for group in groups)), limits)
    size, most = sum(group.total_byte_size for group in groups), BYTES * limits.corpus * limits.characters
    if size > most:
        raise HTTPException(
            413,
            f"{source.name}: {size / 1e6:,.1f} MB uncompressed, but at most {most / 1e6:,.1f} MB are allowed "
            f"({limits.corpus:,} sentences of {limits.characters:,} characters). Remove other columns.",
        )
    if column is None and len(names) == 1:
        column = names[0]
    if column is None or names.count(column) != 1:
        return  # `TextFile` refuses it without reading
    kind = file.schema_arrow.field(column).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_text(plain) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise UserError(f"corpus: {source.name}: column {column} is not text ({kind}).")
    seen = 0
    for lengths in _lengths(source, column):
        for line, characters in enumerate(lengths, start=seen + 1):
            _check_length(line, characters or 0, limits)
        seen += len(lengths)
        _check_count(source.name, seen, limits)  # the declared number may be wrong


def _lengths(source: Source, column: str) -> Iterator[list[int | None]]:
    """Yield the number of characters of each text, batch by batch."""
    try:
        with parquet.ParquetFile(source.path, read_dictionary=[column]) as file:
            for batch in file.iter_batches(BATCH, columns=[column]):
                texts = batch.column(0)
                yield pc.utf8_length(texts.dictionary).take(texts.indices).to_pylist()
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"corpus: {source.name}: the file is damaged: {str(error).splitlines()[0]}") from error
