"""Identifies runs by their resolved configuration, so that a sweep does not repeat its finished jobs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simcse_lit.config.earlier import read_config
from simcse_lit.config.resume import checkpoint_of, is_cut
from simcse_lit.errors import UserError
from simcse_lit.scores import read_families, read_scores, to_maximise


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder and what a sweeper maximises, its score on the development set or minus a loss."""

    folder: Path
    score: float


def finished_runs(folder: Path) -> dict[str, Finished]:
    """Return every finished run below a folder, by its `identity`."""
    found: dict[str, Finished] = {}
    for path in sorted(folder.rglob("scores.json")):
        try:
            after = read_scores(path.parent).get("after")
        except UserError:
            continue
        own = _identity_in(path.parent)
        if after and own:
            found.setdefault(own, Finished(path.parent, to_maximise(after, read_families(path.parent))))
    return found


def identity(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs with the same resolved configuration, and only for those.

    The run folder, `resume` and `demo` do not count. What is scored does: a run with other tasks is another run.
    """
    here = str(config.get("run_dir"))
    values = {
        key: json.dumps(value, sort_keys=True, default=str).replace(here, ".")
        for key, value in flat(config)
        if key.rpartition(".")[2] not in ("run_dir", "resume") and not key.startswith("demo.")
    }
    return json.dumps(values, sort_keys=True)


def is_another(config: Mapping[str, Any], folder: Path) -> bool:
    """Return whether a folder holds a run with another configuration, or one with this that cannot be resumed."""
    found = _identity_in(folder)
    return found is not None and (found != identity(config) or (is_cut(config) and checkpoint_of("auto", folder).is_file()))


def can_continue(config: Mapping[str, Any], folder: Path) -> bool:
    """Return whether `resume=auto` would resume the run in a folder with this resolved configuration."""
    kept = checkpoint_of("auto", folder).is_file()
    return _identity_in(folder) == identity(config) and kept and not is_cut(config)


def _identity_in(folder: Path) -> str | None:
    """Return the identity of the run in a folder, or None."""
    try:
        return identity(read_config(folder))
    except UserError:
        return None


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a configuration; lists and empty groups count as values."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
