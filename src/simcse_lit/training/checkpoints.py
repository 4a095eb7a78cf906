"""Checkpoints for resuming a run, written after every validation and when the run is stopped.

`config/resume.py` finds them. They hold no random state: the draws of a step follow from seed, step and rank (`module.py`),
the order of the examples from seed and epoch (`data/order.py`).
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


# Keys with full paths in the state of Lightning's ModelCheckpoint.
PATHS = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpointIO(TorchCheckpointIO):
    """Replaces checkpoints durably, and stores paths relative to their folder, so that a run folder can be moved."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save a checkpoint. A process killed at any moment leaves the old file or the new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(_with_paths(checkpoint, lambda name: os.path.relpath(name, path.parent)), file)
            durable_replace(partial, path)
        finally:
            discard(partial)  # left by a full disk

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, with paths that are right for its present folder.

        Version 0.1 wrote absolute paths. Those that no longer exist are looked for beside the checkpoint.
        """
        folder = Path(path).parent

        def here(name: str) -> str:
            beside = folder if Path(name).name == folder.name else folder / Path(name).name
            moved = Path(name).is_absolute() and not Path(name).exists() and beside.exists()
            return os.path.realpath(beside if moved else folder / name)

        return _with_paths(super().load_checkpoint(path, *args, **kwargs), here)


def read_state(path: Path) -> dict[str, Any]:
    """Load a training checkpoint, with paths that are right for its present folder.

    Raises:
        UserError: it is missing or damaged, or holds something that torch does not load safely.
    """
    check_whole(path)
    try:
        return RunCheckpointIO().load_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a file that is not a checkpoint
        raise UserError(f"{path}: cannot be read safely: {str(error).splitlines()[0]}{instead_of(path)}") from error


def chosen_on(checkpoint: Path) -> str | None:
    """Return the development task that selects a run's best checkpoint; None if version 0.1 wrote it."""
    recorded = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get(CHECKPOINT_SECTION, {})
    name: str | None = recorded.get("chosen_on")
    return name


def check_whole(path: Path) -> None:
    """Check that a checkpoint exists and has the bytes that were written.

    Raises:
        UserError: it is missing or damaged.
    """
    reason = damage(path) if path.is_file() else "is missing"
    if reason:
        raise UserError(f"{path}: {reason}.{instead_of(path)}")


def steps_of(checkpoint: Path) -> int:
    """Return the number of steps done when a checkpoint was written.

    Raises:
        UserError: the run cannot be resumed from it: it cannot be read, or the file of the best weights beside it is missing
            or damaged.
    """
    state = read_state(checkpoint)
    for callback in state.get("callbacks", {}).values():
        if isinstance(callback, dict) and callback.get("best_model_path"):
            best = Path(callback["best_model_path"])
            check_whole(best if best.parent.is_dir() else checkpoint.with_name(best.name))
    return int(state["global_step"])


def _with_paths(checkpoint: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the checkpoint with every path in the states of its callbacks changed."""

    def changed(state: Any) -> Any:
        if not isinstance(state, dict) or not set(PATHS) <= set(state):
            return state
        paths = {key: change(state[key]) if state[key] else state[key] for key in PATHS}
        return {**state, **paths, "best_k_models": {change(name): score for name, score in state["best_k_models"].items()}}

    return {**checkpoint, "callbacks": {name: changed(state) for name, state in checkpoint.get("callbacks", {}).items()}}


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after every validation, and when SIGTERM or Ctrl-C stops the run.

    In `callbacks` it must follow the callback that keeps the best checkpoint, so that its state is saved too. A signal lets
    the step under way finish; several processes agree on a logged step. A second Ctrl-C stops immediately.

    Args:
        dirpath: folder of the checkpoint.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.asked: signal.Signals | None = None  # signal that asked to stop
        self._stopping = False
        self._saved_at = -1
        self._interrupt: Any = None  # handler of a second Ctrl-C

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle SIGTERM, whose handler Lightning restores afterwards, and Ctrl-C."""
        self.asked, self._stopping = None, False
        signal.signal(signal.SIGTERM, self._notice)
        self._interrupt = signal.signal(signal.SIGINT, self._notice)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the handler of Ctrl-C."""
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
        """Stop after this step if this or another process was asked to."""
        stop = self.asked is not None
        if world()[1] > 1:
            if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]  # set by a connector
                return
            stop = bool(sum_over_ranks(torch.tensor(float(stop), device=pl_module.device)))
        if stop:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
                if isinstance(callback, FiniteLoss):
                    callback.look(trainer)  # before the checkpoint is saved
            self._stopping = True
            leave_after_this_step(trainer, True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Postpone stopping until a validation at the last step is done; Lightning would stop in its middle."""
        leave_after_this_step(trainer, False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if this validation belongs to training."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self.path)
            self._saved_at = trainer.global_step
            for logger in trainer.loggers:
                logger.save()  # a killed process would lose what is buffered
            leave_after_this_step(trainer, self._stopping)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save if a signal stops training; after any other failure the checkpoints stay unchanged."""
        self._restore()
        saved = self._saved_at == trainer.global_step  # then last.ckpt is right; a new one would count steps twice
        if isinstance(exception, SIGTERMException) and trainer.state.fn == "fit" and not saved:
            trainer.save_checkpoint(self.path)
