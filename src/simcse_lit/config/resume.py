"""Continuing a run: which checkpoint `resume` means, and that it is the same run that is continued; and continuing a sweep:
which of its jobs are finished, by their resolved configuration.

`resume=auto` continues in this run folder if there is a checkpoint in it, `resume=FOLDER` in that one. Imports no torch.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from simcse_lit.config.earlier import read_config, read_overrides
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError
from simcse_lit.scores import dev_score, read_scores

log = logging.getLogger(__name__)

LAST = Path("checkpoints", "last.ckpt")  # where callbacks.last of conf/ keeps it, in the run folder
# What may change when a run is continued: where and how it is computed, watched and scored, not what is computed.
FREE = (
    "name",
    "group",
    "run_dir",
    "resume",
    "senteval",
    "tasks",
    "dev",
    "analyses",
    "evaluation",
    "demo",
    "callbacks",
    "logger",
)
FREE_KEYS = {
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "micro_batch_size",
        "length_chunks",
        "chunk_overhead",
        "compile",
        "extra",
    ),
    "data": ("num_workers", "cache_dir", "on_bad_row"),
}


def run_folder(resume: str) -> Path:
    """The run folder that `resume=FOLDER` or `resume=FOLDER/checkpoints/last.ckpt` names."""
    path = Path(resume).expanduser()
    return path.parent.parent if path.suffix == ".ckpt" else path


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line `resume=FOLDER` with what that run was started with before it, and its folder as the run folder.

    Args:
        arguments: of the command, as typed.

    Returns:
        The arguments that compose the same run; those typed now come last and win.

    Raises:
        UserError: there is no such run.
    """
    asked = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if not asked or asked[-1] in ("auto", "null", ""):
        return list(arguments)
    folder = run_folder(asked[-1])
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file() or not (folder / LAST).is_file():
        missing = LAST if overrides.is_file() else overrides.relative_to(folder)
        raise UserError(f"resume={asked[-1]}: no run to continue: {folder} holds no {missing}.")
    earlier = read_overrides(folder)
    placed = any(argument.startswith("hydra.run.dir=") for argument in arguments)
    place = [] if placed else [f"hydra.run.dir={folder}"]
    return [*(override for override in earlier if not override.startswith("resume=")), *place, *arguments]


def checkpoint_to_resume(config: TrainConfig) -> Path | None:
    """The checkpoint that `resume` asks for; None to start from the beginning.

    Raises:
        UserError: the run in the folder was another one: a setting that decides its result has changed.
    """
    if config.resume is None:
        return None
    folder = Path(config.run_dir)
    if config.resume != "auto" and run_folder(config.resume).resolve() != folder.resolve():
        raise UserError(
            f"resume={config.resume}: a run is continued in its own folder, and this one's is {folder}.\n"
            "Leave hydra.run.dir out. A multirun: resume=auto hydra.sweep.dir=FOLDER_OF_THE_SWEEP."
        )
    path = folder / LAST
    if not path.is_file():
        log.info("resume=%s: no %s in %s yet; starting from the beginning.", config.resume, LAST, folder)
        return None
    if "limit_train_batches" in config.trainer.extra:
        raise UserError("trainer.extra.limit_train_batches: a run of cut epochs cannot be continued; use trainer.max_steps.")
    earlier = read_config(folder)
    now: Any = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    for group in (group for group in now if group not in FREE):
        for key, value in _leaves(now[group], group):
            if key.removeprefix(f"{group}.") in FREE_KEYS.get(group, ()):
                continue
            if key == "data.revision" and not config.data.streaming:
                continue  # the text itself is compared (`data/datamodule.py`), and this may be what brings it back
            before = dict(_leaves(earlier.get(group), group)).get(key)
            if before != value:
                raise UserError(
                    f"resume={config.resume}: {key} was {before} in the run in {folder}, and is {value} now: another run.\n"
                    f"Continue it with {key}={before}, or start a new one in another folder: hydra.run.dir=DIR."
                )
    return path


@dataclass(frozen=True)
class Finished:
    """A run that ended well: its folder, and its score on the development set."""

    folder: Path
    score: float


def finished_runs(folder: Path) -> dict[str, Finished]:
    """Every finished run below a folder, by its `identity`."""
    found: dict[str, Finished] = {}
    for path in sorted(folder.rglob("scores.json")):
        try:
            after = read_scores(path.parent).get("after")
        except UserError:
            continue
        own = _identity_in(path.parent)
        if after and own:
            found.setdefault(own, Finished(path.parent, dev_score(after)[1]))
    return found


def identity(config: Mapping[str, Any]) -> str:
    """What two runs of the same resolved configuration share, and others do not.

    Everything counts but the run folder and `resume`: another score asked for is another run.
    """
    here = str(config.get("run_dir"))
    values = {key: json.dumps(value, sort_keys=True, default=str).replace(here, ".") for key, value in flat(config)}
    return json.dumps({key: values[key] for key in sorted(values) if key.rpartition(".")[2] not in ("run_dir", "resume")})


def is_another(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a folder holds a run, and not one of this resolved configuration."""
    return _identity_in(folder) not in (None, identity(config))


def can_continue(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether `resume=auto` would continue what a folder holds with this resolved configuration."""
    cut = "limit_train_batches" in config["trainer"]["extra"]
    return _identity_in(folder) == identity(config) and (folder / LAST).is_file() and not cut


def _identity_in(folder: Path) -> str | None:
    """Of the run in a folder; None if there is none."""
    try:
        return identity(read_config(folder))
    except UserError:
        return None


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in a configuration; a list is a value, and so is an empty group."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    """(dotted key, value) of a group's keys, of one level: what is below them is compared as a whole."""
    return [(f"{key}.{name}", value) for name, value in node.items()] if isinstance(node, dict) else [(key, node)]
