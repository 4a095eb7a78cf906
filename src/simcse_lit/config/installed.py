"""Looks up what installed packages register as entry points."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from simcse_lit.errors import UserError


@cache
def entries(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


@cache
def installed(group: str, name: str) -> Any | None:
    """Load the entry point of this name in a group; None if no package registers it.

    Raises:
        UserError: it cannot be imported.
    """
    if (entry := entries(group).get(name)) is None:
        return None
    try:
        return entry.load()
    except Exception as error:  # importing another module may raise anything
        raise UserError(f"{package_of(entry)}: its entry point {group}.{name} cannot be imported: {error}") from error


def package_of(entry: EntryPoint) -> str:
    """Return the name of the package that registers an entry point."""
    return entry.dist.name if entry.dist else entry.value
