"""Rows of text: the result of a reader, the check that rows are usable, and the report of bad rows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # bad rows that are listed; the rest is counted


@dataclass(frozen=True)
class Row:
    """One example: its fields in the order of the requested columns, its line, and the name of its file."""

    line: int
    fields: tuple[Any, ...]
    file: str


class BadRow(Exception):
    """A row that cannot be used.

    Args:
        reason: why it cannot be used.
        absent: columns that the row lacks, if that is the reason.
    """

    def __init__(self, reason: str, absent: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.absent = absent


class BadRows:
    """Counts rows and bad rows; after the last file it either fails or reports the bad rows.

    Args:
        policy: `error` or `skip`.
        key: configuration key of the files, for messages.
        switch: configuration key of the policy; None if there is none.

    Attributes:
        rows: number of rows read, including bad ones.
        count: number of bad rows.
        unlabelled: number of NLI rows on whose label the annotators did not agree. They are left out, but are not bad.
    """

    def __init__(self, policy: str, key: str, switch: str | None = None) -> None:
        self.policy = policy
        self.key = key
        self.switch = switch
        self.rows = self.count = self.unlabelled = 0
        self._shown: list[str] = []
        self._ways_out: dict[str, None] = {}

    def add(self, file: str, line: int, reason: str, way_out: str | None = None) -> None:
        """Record a bad row. Only the first few are listed, the others counted.

        Args:
            file: name of the file.
            line: first line of the row.
            reason: why it cannot be used.
            way_out: a setting that reads such rows, reported once.
        """
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{file}, line {line}: {reason}")
        if way_out:
            self._ways_out[way_out] = None

    def finish(self) -> None:
        """Report the recorded rows.

        Raises:
            UserError: there are bad rows and the policy is `error`.
        """
        if not self.count:
            return
        rows = "\n".join(f"  {row}" for row in self._shown)
        more = f"\n  and {self.count - len(self._shown):,} more" if self.count > len(self._shown) else ""
        more += "".join(f"\n{way_out}" for way_out in self._ways_out)
        if self.policy == "error":
            raise UserError(
                f"{self.key}: {self.count:,} row{'s' * (self.count > 1)} cannot be used:\n{rows}{more}\n"
                + (f"Fix them, or skip them with {self.switch}=skip" if self.switch else "Fix them.")
            )
        log.warning("Skipped %s unusable rows (%s=skip):\n%s%s", f"{self.count:,}", self.switch, rows, more)


def unusable(fields: Sequence[object], columns: Sequence[str], optional: Sequence[str] = ()) -> str | None:
    """Return why a field of a row is not a usable text, or None; in an optional column "" is usable."""
    for column, field in zip(columns, fields, strict=False):
        if not isinstance(field, str):
            kind = "a list, not a text" if isinstance(field, list) else "not text"
            return f"{column} is {'missing' if field is None else kind}"
        if not field.strip():
            if field == "" and column in optional:
                continue
            return f"{column} is blank"
        try:
            field.encode()
        except UnicodeEncodeError:
            return f"{column} holds half of a surrogate pair"
    return None
