"""Continuing a run: which checkpoint `resume` means, and that it is the same run that is continued.

`resume=auto` continues in this run folder if there is a checkpoint in it, `resume=FOLDER` in that one. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simcse_lit.config.as_typed import key_of, unquoted
from simcse_lit.config.earlier import read_config
from simcse_lit.config.folders import LAST, OVERRIDES, check_free
from simcse_lit.config.schema import TrainConfig
from simcse_lit.disk import damage
from simcse_lit.errors import UserError
from simcse_lit.scores import read_scores

BEST = "best-*.ckpt"  # where callbacks.checkpoint of conf/ keeps the best weights, beside the last
# What may change when a run is continued: where and how it is computed, watched and scored, not what is computed.
FREE = (
    "name",
    "group",
    "run_dir",
    "resume",
    "senteval",
    "tasks",
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
    "model": ("trust_remote_code",),
}


def run_folder(resume: str) -> Path:
    """The run folder that `resume=FOLDER` names, by itself or by one of its checkpoints or its export."""
    path = Path(resume).expanduser()
    above = [path, *path.parents][:3]  # FOLDER/checkpoints/last.ckpt
    return next((folder for folder in above if (folder / OVERRIDES).is_file()), path)


def asked_folder(arguments: Sequence[str]) -> str | None:
    """What `resume=FOLDER` names on a command line as typed; None without it, and for `resume=auto`."""
    asked = [unquoted(word.partition("=")[2]) for word in arguments if key_of(word) == "resume"]
    return asked[-1] if asked and asked[-1] not in ("auto", "null", "") else None


def checkpoint_of(resume: str, folder: Path) -> Path:
    """The checkpoint that `resume` names, or the last of the folder; for `auto` the best, if a kill left only that."""
    if resume.endswith(".ckpt"):
        return Path(resume).expanduser()
    best = sorted(folder.glob(f"{LAST.parent}/{BEST}")) if resume == "auto" and not (folder / LAST).is_file() else []
    return best[-1] if best else folder / LAST


def instead_of(checkpoint: Path) -> str:
    """How to go on without a checkpoint that is gone or damaged.

    Args:
        checkpoint: the last of a run, or the best.
    """
    last, anew = checkpoint.with_name(LAST.name), "start a new run in another folder: hydra.run.dir=DIR."
    if checkpoint.name != last.name and last.is_file() and not damage(last):
        weights = f"python -m simcse_lit.export checkpoint={last} output=FOLDER"
        return f"\nWithout its best weights the run cannot be finished. Export its last ones:\n  {weights}\nor {anew}"
    best = [path for path in sorted(checkpoint.parent.glob(BEST)) if path != checkpoint and not damage(path)]
    if best:
        return f"\nContinue from the best weights so far: resume={best[-1]}"
    return f"\nNo other checkpoint of the run is whole; {anew}"


def checkpoint_to_resume(config: TrainConfig) -> Path | None:
    """The checkpoint from which `resume` continues; None if there is none to continue from.

    Raises:
        UserError: see `holds_this_run`.
    """
    path = checkpoint_of(config.resume or "auto", Path(config.run_dir))
    return path if holds_this_run(config) and path.is_file() else None


def holds_this_run(config: TrainConfig) -> bool:
    """Whether `resume` is asked for, and the run folder holds this very run, finished or with a checkpoint.

    Raises:
        UserError: it holds something else: another verb's files, or a run with a setting that decides its result and has
            changed; or a run that cannot be continued.
    """
    if config.resume is None:
        return False
    folder = Path(config.run_dir)
    if config.resume != "auto" and run_folder(config.resume).resolve() != folder.resolve():
        raise UserError(
            f"resume={config.resume}: a run is continued in its own folder, and this one's is {folder}.\n"
            "Leave hydra.run.dir out. A multirun: resume=auto hydra.sweep.dir=FOLDER_OF_THE_SWEEP."
        )
    path = checkpoint_of(config.resume, folder)
    if not path.is_file() and not read_scores(folder).get("after"):
        check_free(folder, "hydra.run.dir", "train")
        return False
    if is_cut(asdict(config)):
        raise UserError("trainer.extra.limit_train_batches: a run of cut epochs cannot be continued; use trainer.max_steps.")
    earlier, now = read_config(folder), asdict(config)
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
    return True


def is_cut(config: Mapping[str, Any]) -> bool:
    """Whether the epochs of a configuration are cut, so that a run of it cannot be continued."""
    return "limit_train_batches" in config["trainer"]["extra"]


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    """(dotted key, value) of a group's keys, of one level: what is below them is compared as a whole."""
    return [(f"{key}.{name}", value) for name, value in node.items()] if isinstance(node, dict) else [(key, node)]
