"""Decides which checkpoint `resume` means, and checks that the resumed run is the same run.

`resume=auto` resumes from a checkpoint in this run folder if there is one, `resume=FOLDER` from one in that folder. Imports
no torch.
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

BEST = "best-*.ckpt"  # where callbacks.checkpoint of conf/ writes the best weights
# Keys that may change when a run is resumed: they decide how it is computed, logged and scored, not its result.
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
    """Return the run folder that `resume=FOLDER` names, directly or by one of its checkpoints or its export."""
    path = Path(resume).expanduser()
    above = [path, *path.parents][:3]  # FOLDER/checkpoints/last.ckpt
    return next((folder for folder in above if (folder / OVERRIDES).is_file()), path)


def asked_folder(arguments: Sequence[str]) -> str | None:
    """Return the FOLDER of `resume=FOLDER` on a command line as typed; None without it or for `resume=auto`."""
    asked = [unquoted(word.partition("=")[2]) for word in arguments if key_of(word) == "resume"]
    return asked[-1] if asked and asked[-1] not in ("auto", "null", "") else None


def checkpoint_of(resume: str, folder: Path) -> Path:
    """Return the checkpoint that `resume` names, or the folder's last; for `auto` the best if only that is left."""
    if resume.endswith(".ckpt"):
        return Path(resume).expanduser()
    best = sorted(folder.glob(f"{LAST.parent}/{BEST}")) if resume == "auto" and not (folder / LAST).is_file() else []
    return best[-1] if best else folder / LAST


def instead_of(checkpoint: Path) -> str:
    """Say what to do when a checkpoint is missing or damaged.

    Args:
        checkpoint: the last or the best of a run.
    """
    last, anew = checkpoint.with_name(LAST.name), "start a new run in another folder: hydra.run.dir=DIR."
    if checkpoint.name != last.name and last.is_file() and not damage(last):
        weights = f"simcse-lit export checkpoint={last} output=FOLDER"
        return f"\nThe run cannot be finished without its best weights. Export its last weights:\n  {weights}\nor {anew}"
    best = [path for path in sorted(checkpoint.parent.glob(BEST)) if path != checkpoint and not damage(path)]
    if best:
        return f"\nResume from the best weights so far: resume={best[-1]}"
    return f"\nThe run has no other intact checkpoint; {anew}"


def checkpoint_to_resume(config: TrainConfig) -> Path | None:
    """Return the checkpoint from which `resume` continues, or None.

    Raises:
        UserError: as for `holds_this_run`.
    """
    path = checkpoint_of(config.resume or "auto", Path(config.run_dir))
    return path if holds_this_run(config) and path.is_file() else None


def holds_this_run(config: TrainConfig) -> bool:
    """Return whether `resume` is set and the run folder holds this run, finished or with a checkpoint.

    Raises:
        UserError: the folder holds something else: another verb's files, a run that differs in a setting that decides the
            result, or a run that cannot be resumed.
    """
    if config.resume is None:
        return False
    folder = Path(config.run_dir)
    if config.resume != "auto" and run_folder(config.resume).resolve() != folder.resolve():
        raise UserError(
            f"resume={config.resume}: a run is resumed in its own folder, but the run folder of this command is {folder}.\n"
            "Remove hydra.run.dir. In a multirun use resume=auto hydra.sweep.dir=FOLDER_OF_THE_SWEEP."
        )
    path = checkpoint_of(config.resume, folder)
    if not path.is_file() and not read_scores(folder).get("after"):
        check_free(folder, "hydra.run.dir", "train")
        return False
    if is_cut(asdict(config)):
        raise UserError("trainer.extra.limit_train_batches: a run with cut epochs cannot be resumed; use trainer.max_steps.")
    earlier, now = read_config(folder), asdict(config)
    for group in (group for group in now if group not in FREE):
        for key, value in _leaves(now[group], group):
            if key.removeprefix(f"{group}.") in FREE_KEYS.get(group, ()):
                continue
            if key == "data.revision" and not config.data.streaming:
                continue  # `data/datamodule.py` compares the text itself; the key may be needed to fetch the same text
            before = dict(_leaves(earlier.get(group), group)).get(key)
            if before != value:
                raise UserError(
                    f"resume={config.resume}: {key} was {before} in the run in {folder}, but is {value} now.\n"
                    f"Resume with {key}={before}, or start a new run in another folder: hydra.run.dir=DIR."
                )
    return True


def is_cut(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration cuts its epochs, so that its run cannot be resumed."""
    return "limit_train_batches" in config["trainer"]["extra"]


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    """Return (dotted key, value) of the keys of a group, one level deep; deeper groups are compared as values."""
    return [(f"{key}.{name}", value) for name, value in node.items()] if isinstance(node, dict) else [(key, node)]
