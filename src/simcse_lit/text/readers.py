"""Readers from installed packages: of files by their ending, and of URLs by their scheme."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simcse_lit.config.installed import entries, installed
from simcse_lit.config.resolvers import suffixes
from simcse_lit.text.rows import BadRow

READERS = "simcse_lit.readers"  # entry points, named by an ending (".xyz") or a scheme ("xyz")

# Maps a path or URL to each row's line, and its fields by column or the reason why it cannot be used.
Read = Callable[[str], Iterator[tuple[int, Mapping[str, Any] | BadRow]]]


def reader(name: str) -> Read | None:
    """Return the reader of an ending or a scheme; None if no package registers one.

    Raises:
        UserError: its package cannot be imported.
    """
    found: Read | None = installed(READERS, name)
    return found


def reader_of(location: str) -> Read | None:
    """Return the reader of a path or URL, by its scheme or its ending.

    Raises:
        UserError: its package cannot be imported.
    """
    scheme, separator, _ = location.partition("://")
    return (reader(scheme) if separator else None) or reader(suffixes(location)[0])


def endings() -> list[str]:
    """Return the endings for which packages register readers."""
    return sorted(name for name in entries(READERS) if name.startswith("."))
