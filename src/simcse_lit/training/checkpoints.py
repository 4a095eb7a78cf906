"""Checkpoints that a run can be resumed from, written after every score and when the run is stopped.

`config/resume.py` finds them again. The random state needs no place in them: each step's draws follow from seed, step and
rank (`module.py`), the order of the examples from seed and epoch (`data/order.py`).
"""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from simcse_lit.config.resume import instead_of
from simcse_lit.disk import damage, discard, durable_replace
from simcse_lit.distributed import sum_over_ranks, world
from simcse_lit.encoder.encoder import CHECKPOINT_SECTION
from simcse_lit.errors import UserError
from simcse_lit.training.callbacks import FiniteLoss
from simcse_lit.training.lightning_private import leave_after_this_step

log = logging.getLogger(__name__)


# Where Lightning's ModelCheckpoint keeps full paths in its state.
PATHS = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint durably, and keeps its paths relative to its folder, so that a run folder can be moved."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save a checkpoint; a process killed at any moment leaves either the old file or the new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(_with_paths(checkpoint, lambda name: os.path.relpath(name, path.parent)), file)
            durable_replace(partial, path)
        finally:
            discard(partial)  # of a full disk

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint with the paths that it has where it lies now.

        Version 0.1 wrote full paths. Those that are no longer there are looked for beside the checkpoint.
        """
        folder = Path(path).parent

        def here(name: str) -> str:
            beside = folder if Path(name).name == folder.name else folder / Path(name).name
            moved = Path(name).is_absolute() and not Path(name).exists() and beside.exists()
            return os.path.realpath(beside if moved else folder / name)

        return _with_paths(super().load_checkpoint(path, *args, **kwargs), here)


def read_state(path: Path) -> dict[str, Any]:
    """Load a checkpoint of training, with the paths that it has where it lies now.

    Raises:
        UserError: it is gone or damaged, or holds what torch does not load safely.
    """
    check_whole(path)
    try:
        return RunCheckpointIO().load_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a file that is no checkpoint
        raise UserError(f"{path}: cannot be read safely: {str(error).splitlines()[0]}{instead_of(path)}") from error


def chosen_on(checkpoint: Path) -> str | None:
    """The development task on which a run chose its best checkpoint so far; None if version 0.1 wrote it."""
    recorded = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get(CHECKPOINT_SECTION, {})
    name: str | None = recorded.get("chosen_on")
    return name


def check_whole(path: Path) -> None:
    """Refuse a checkpoint that is gone, or whose bytes are not those that were written."""
    reason = damage(path) if path.is_file() else "is gone"
    if reason:
        raise UserError(f"{path}: {reason}.{instead_of(path)}")


def steps_of(checkpoint: Path) -> int:
    """Steps that were done when a checkpoint was written.

    Raises:
        UserError: the run cannot be continued from it: it cannot be read, or the best weights so far, which are in a file
            beside it, are gone or damaged.
    """
    state = read_state(checkpoint)
    for callback in state.get("callbacks", {}).values():
        if isinstance(callback, dict) and callback.get("best_model_path"):
            best = Path(callback["best_model_path"])
            check_whole(best if best.parent.is_dir() else checkpoint.with_name(best.name))
    return int(state["global_step"])


def _with_paths(checkpoint: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The same checkpoint with every path in the states of its callbacks changed."""

    def changed(state: Any) -> Any:
        if not isinstance(state, dict) or not set(PATHS) <= set(state):
            return state
        paths = {key: change(state[key]) if state[key] else state[key] for key in PATHS}
        return {**state, **paths, "best_k_models": {change(name): score for name, score in state["best_k_models"].items()}}

    return {**checkpoint, "callbacks": {name: changed(state) for name, state in checkpoint.get("callbacks", {}).items()}}


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: after every score on the development set, and when SIGTERM or Ctrl-C asks the run to stop.

    It must stand behind the callback that keeps the best, so that what is best so far is in it. The step under way is
    finished first; several processes agree on the step, at one that loggers see. A second Ctrl-C stops at once.

    Args:
        dirpath: the folder.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.asked: signal.Signals | None = None  # by which signal to stop
        self._stopping = False
        self._saved_at = -1
        self._interrupt: Any = None  # what a second Ctrl-C does

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for SIGTERM, whose handler Lightning puts back afterwards, and for Ctrl-C."""
        self.asked, self._stopping = None, False
        signal.signal(signal.SIGTERM, self._notice)
        self._interrupt = signal.signal(signal.SIGINT, self._notice)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let Ctrl-C do again what it did before."""
        self._restore()

    def _notice(self, signum: int, frame: Any) -> None:
        self.asked = signal.Signals(signum)
        if self.asked == signal.SIGINT:
            self._restore()

    def _restore(self) -> None:
        if self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
            self._interrupt = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop behind this step if this or another process was asked to."""
        stop = self.asked is not None
        if world()[1] > 1:
            if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]  # set by a connector
                return
            stop = bool(sum_over_ranks(torch.tensor(float(stop), device=pl_module.device)))
        if stop:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
                if isinstance(callback, FiniteLoss):
                    callback.look(trainer)  # now, and not while what SIGTERM stopped is being saved
            self._stopping = True
            leave_after_this_step(trainer, True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A score that is due at the last step is waited for; Lightning would leave in the middle of it."""
        leave_after_this_step(trainer, False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if this was a validation of training."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self.path)
            self._saved_at = trainer.global_step
            for logger in trainer.loggers:
                logger.save()  # what it holds back would be lost with a process that is killed
            leave_after_this_step(trainer, self._stopping)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save if a signal stops a training; after any other failure the finished checkpoints stay as they are."""
        self._restore()
        saved = self._saved_at == trainer.global_step  # after a score: what a later file would count twice is right in it
        if isinstance(exception, SIGTERMException) and trainer.state.fn == "fit" and not saved:
            trainer.save_checkpoint(self.path)
