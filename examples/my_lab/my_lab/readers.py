"""A reader of files that end in .lab, and of URLs lab://PATH to the same files.

A row has a line `NAME: VALUE` for each column. A blank line ends the row.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simcse_lit.text.rows import BadRow


def read(location: str) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """Read the rows of a file.

    Args:
        location: a path, or lab://PATH.

    Yields:
        The line on which each row starts, and its fields by column, or the reason why the row cannot be used.
    """
    row: dict[str, Any] = {}
    start, bad = 1, None
    text = Path(location.removeprefix("lab://")).read_text(encoding="utf-8")
    for line, words in enumerate([*text.splitlines(), ""], start=1):
        name, colon, value = words.partition(": ")
        if colon:
            row[name] = value
        elif words:
            bad = BadRow("has a line without NAME: VALUE")
        if not words:
            if row or bad:
                yield start, bad or row
            row, start, bad = {}, line + 1, None
