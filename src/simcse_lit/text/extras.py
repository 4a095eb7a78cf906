"""Values of a row besides its texts: a gold score and a class label."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simcse_lit.config.schema import DataConfig
from simcse_lit.errors import UserError, did_you_mean
from simcse_lit.text.rows import BadRow
from simcse_lit.text.sources import Source


@dataclass(frozen=True)
class Extra:
    """A column that is not a text.

    Args:
        name: `scores` or `labels`, the key of the group `data` that names the column.
        column: column of the files.
    """

    name: str
    column: str

    def check(self, source: Source) -> None:
        """Check that a file has the column.

        Raises:
            UserError: it does not.
        """
        header = source.header
        if header is None:
            raise UserError(f"data.{self.name}={self.column}: {source.name}: a text file has no such column. Use a table.")
        if self.column not in header:
            raise UserError(
                f"data.{self.name}={self.column}: {source.name}: has no such column.{did_you_mean(self.column, header)}\n"
                f"Its columns: {', '.join(header)}."
            )

    def read(self, value: Any) -> float | int:
        """Return the score, or the number of the label.

        Raises:
            BadRow: the value is missing or cannot be used.
        """
        text = "" if value is None else str(value).strip()
        if isinstance(value, (list, dict)) or not text:
            raise BadRow(f"{self.column} is {'missing' if not text else 'a list'}")
        return self._score(value) if self.name == "scores" else stable_hash(text.encode(errors="surrogatepass"))

    def _score(self, value: Any) -> float:
        try:
            score = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            raise BadRow(f"{self.column} is not a number: {value!r}")
        return score


def extras_of(data: DataConfig) -> list[Extra]:
    """Return the columns besides the texts that the configuration names."""
    named = (("scores", data.scores), ("labels", data.labels))
    return [Extra(name, column) for name, column in named if column is not None]


def values(extras: Sequence[Extra], fields: Sequence[Any]) -> list[float | int]:
    """Return the values of a row in these columns.

    Raises:
        BadRow: one of them cannot be used.
    """
    return [extra.read(field) for extra, field in zip(extras, fields, strict=True)]


def stable_hash(content: bytes) -> int:
    """Return a number from 0 to 2^63 - 1 that is the same in every process.

    Among n different contents, two have the same number with a probability of about n^2 / 2^64.
    """
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1
