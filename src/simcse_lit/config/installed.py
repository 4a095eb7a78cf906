"""What installed packages bring by name: the entry points of a group."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from simcse_lit.errors import UserError


@cache
def entries(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


@cache
def installed(group: str, name: str) -> Any | None:
    """What a package brings under a name of a group; None if none does.

    Raises:
        UserError: it cannot be imported.
    """
    if (entry := entries(group).get(name)) is None:
        return None
    try:
        return entry.load()
    except Exception as error:  # whatever importing another's module raises
        raise UserError(f"{package_of(entry)}: its entry point {group}.{name} cannot be imported: {error}") from error


def package_of(entry: EntryPoint) -> str:
    """The name of the package that brings an entry point."""
    return entry.dist.name if entry.dist else entry.value
