"""Readers that installed packages bring: of files by their ending, and of URLs by their scheme."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from simcse_lit.config.resolvers import suffixes
from simcse_lit.errors import UserError
from simcse_lit.text.rows import BadRow

READERS = "simcse_lit.readers"  # the entry points; each is named for an ending (".xyz") or a scheme ("xyz")

# Of a path or URL: each row's line, and its fields by column, or why it cannot be used.
Read = Callable[[str], Iterator[tuple[int, Mapping[str, Any] | BadRow]]]


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=READERS)}


@cache
def reader(name: str) -> Read | None:
    """The reader of an ending or a scheme; None if no package brings one.

    Raises:
        UserError: its package cannot be imported.
    """
    if (entry := _entries().get(name)) is None:
        return None
    try:
        found: Read = entry.load()
    except Exception as error:  # whatever importing another's module raises
        package = entry.dist.name if entry.dist else entry.value
        raise UserError(f"{package}: its reader of {name} cannot be imported: {error}") from error
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
    return sorted(name for name in _entries() if name.startswith("."))
