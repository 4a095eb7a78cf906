"""Reads Parquet files row by row."""

from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from pyarrow import parquet

from simcse_lit.errors import UserError
from simcse_lit.text import remote
from simcse_lit.text.rows import Row

if TYPE_CHECKING:
    from simcse_lit.text.sources import Source


def open_parquet(source: "Source", file: IO[bytes] | None = None) -> Any:
    """Return a `pyarrow.parquet.ParquetFile` of an open file, or of the local file.

    Raises:
        UserError: it is not a Parquet file, or damaged.
    """
    try:
        return parquet.ParquetFile(file or source.path)
    except Exception as error:  # pyarrow and file systems raise many classes
        raise UserError(
            f"{source.key}: {source.name}: is not a Parquet file, or is damaged: {remote.reason(error)}"
        ) from error


def parquet_rows(source: "Source", columns: Sequence[str]) -> Iterator[Row]:
    """Yield every row's fields in the order of `columns`; a row's line is its number.

    Raises:
        UserError: the file is not Parquet, or cannot be read to its end.
    """
    with source.opened() as file:
        line, opened = 0, open_parquet(source, file)
        try:
            for batch in opened.iter_batches(columns=list(dict.fromkeys(columns))):
                for fields in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                    line += 1
                    yield Row(line, fields, source.name)
        except Exception as error:  # pyarrow and file systems raise many classes
            raise source.broken(f"after row {line}", error) from error
