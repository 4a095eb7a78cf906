"""Readers that installed packages bring: of files by their ending, and of URLs by their scheme."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simcse_lit.config.installed import entries, installed
from simcse_lit.config.resolvers import suffixes
from simcse_lit.text.rows import BadRow

READERS = "simcse_lit.readers"  # the entry points; each is named for an ending (".xyz") or a scheme ("xyz")

# Of a path or URL: each row's line, and its fields by column, or why it cannot be used.
Read = Callable[[str], Iterator[tuple[int, Mapping[str, Any] | BadRow]]]


def reader(name: str) -> Read | None:
    """The reader of an ending or a scheme; None if no package brings one.

    Raises:
        UserError: its package cannot be imported.
    """
    found: Read | None = installed(READERS, name)
    return found


def reader_of(location: str) -> Read | None:
    """The reader of a path or URL, by its scheme or its ending.

    Raises:
        UserError: as `reader`.
    """
    scheme, separator, _ = location.partition("://")
    return (reader(scheme) if separator else None) or reader(suffixes(location)[0])


def endings() -> list[str]:
    """The endings that packages bring readers of."""
    return sorted(name for name in entries(READERS) if name.startswith("."))
