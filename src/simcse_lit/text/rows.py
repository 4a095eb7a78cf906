"""Rows of text: what a reader gives, which rows are usable, and the report of those that are not."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # bad rows named one by one before the rest is counted


@dataclass(frozen=True)
class Row:
    """One example: its fields in the order of the columns asked for, and where it stands: the line, and the file's name."""

    line: int
    fields: tuple[Any, ...]
    file: str


class BadRow(Exception):
    """A row that cannot be used; the text says why.

    Args:
        reason: the text.
        absent: the columns that the row lacks, if that is why.
    """

    def __init__(self, reason: str, absent: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.absent = absent


class BadRows:
    """Counts rows and bad rows; stops after the last file if there are any, or reports them and goes on.

    Args:
        policy: `error` or `skip`.
        key: the configuration key that names the files, for messages.
        switch: the configuration key that chooses the policy; None if there is none.

    Attributes:
        rows: that were read, bad ones too.
        count: of bad rows.
        unlabelled: rows of NLI on whose label the annotators did not agree. They are left out, and are not bad.
    """

    def __init__(self, policy: str, key: str, switch: str | None = None) -> None:
        self.policy = policy
        self.key = key
        self.switch = switch
        self.rows = self.count = self.unlabelled = 0
        self._shown: list[str] = []
        self._ways_out: dict[str, None] = {}

    def add(self, file: str, line: int, reason: str, way_out: str | None = None) -> None:
        """Record one bad row; after a handful the rest is only counted.

        Args:
            file: its name.
            line: where the row starts.
            reason: why it cannot be used.
            way_out: a setting that reads such rows, to be named once.
        """
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{file}, line {line}: {reason}")
        if way_out:
            self._ways_out[way_out] = None

    def finish(self) -> None:
        """Report what was recorded.

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
                + (f"Mend them, or go on without them: {self.switch}=skip" if self.switch else "Mend them.")
            )
        log.warning("Going on without %s unusable rows (%s=skip):\n%s%s", f"{self.count:,}", self.switch, rows, more)


def unusable(fields: Sequence[object], columns: Sequence[str], optional: Sequence[str] = ()) -> str | None:
    """Why some field of a row is no text, or None; in an optional column "" is a text."""
    for column, field in zip(columns, fields, strict=False):
        if not isinstance(field, str):
            kind = "a list, not a text" if isinstance(field, list) else "no text"
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
