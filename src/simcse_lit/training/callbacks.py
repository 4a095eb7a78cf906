"""Lightning callbacks of training: final validation, finite loss, throughput, progress bar. `conf/callbacks/` lists them."""

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor

from simcse_lit.config.folders import LAST
from simcse_lit.errors import UserError
from simcse_lit.progress import INTERVAL_S, redraws

log = logging.getLogger(__name__)

SHOWN = 8  # examples that a message names


class FinalValidation(Callback):
    """Validates after the last step, even if `trainer.val_check_interval` does not divide the number of steps.

    Otherwise the last weights would not be scored and could not become the best checkpoint, and a run shorter than the
    interval would never be scored.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """After the last planned step, ask the trainer to stop, which makes it validate first."""
        if trainer.global_step >= trainer.estimated_stepping_batches:
            trainer.should_stop = True


class FiniteLoss(Callback):
    """Stops a run whose loss is NaN or infinite before anything of it is saved, and names the step and its examples.

    On a GPU, losses are checked when loggers read them, before each validation and before each checkpoint, so that other
    steps need not wait. Under 16-mixed the scaler skips such a step and lowers its scale.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[int, int, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember a step's loss; check when that does not slow down training."""
        self._losses.append((trainer.global_step, batch_idx, outputs["loss"].detach()))
        logged = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]  # set by a connector
        if logged or pl_module.device.type == "cpu":
            self.look(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before weights that may have diverged are scored."""
        self.look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check while batch numbers still belong to this epoch."""
        self.look(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check before any checkpoint is written, since SIGTERM may ask for one at any step."""
        self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Check the losses since the last check; this waits for the GPU.

        Raises:
            UserError: a loss is not finite; the message says which, and where its examples are.
        """
        losses, self._losses = self._losses, []
        if not losses or bool(torch.stack([loss for _, _, loss in losses]).isfinite().all()):
            return
        step, batch, loss = next(entry for entry in losses if not entry[2].isfinite())
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            log.warning("Step %d: the loss is %s in half precision, so the step was skipped.", step, float(loss))
            return
        data = trainer.datamodule  # type: ignore[attr-defined]  # a connector sets it
        rows = data.rows_of(batch)
        folder = Path(trainer.default_root_dir)
        if rows is None:
            examples = f"Its examples are batch {batch} of the stream, counted from 0.\n"
        else:
            places = data.places_of(rows)
            found = {"step": step, "rows": rows, "places": places}
            (folder / "nonfinite_batch.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
            shown = listed(places) if places else "unknown, since the files have changed"
            examples = f"Its examples: {shown} (all in {folder / 'nonfinite_batch.json'}).\n"
        raise UserError(
            f"The loss of step {step} is {float(loss)}, so training has diverged.\n"
            + examples
            + f"{last_good(folder)}\n"
            + "Use a lower optimizer.lr, a higher loss.temperature, or trainer.precision=32-true."
        )


def last_good(folder: Path) -> str:
    """Say from which checkpoint a run that must stop can be resumed.

    Args:
        folder: run folder.
    """
    last = folder / LAST
    return f"Last good checkpoint: {last}" if last.is_file() else "No checkpoint had been written yet."


def listed(places: Sequence[tuple[str, int]]) -> str:
    """List the first of some places by file: `a.txt, lines 7, 2; b.txt, line 3 and 40 more`."""
    lines: dict[str, list[str]] = {}
    for file, line in places[:SHOWN]:
        lines.setdefault(file, []).append(str(line))
    shown = "; ".join(f"{file}, line{'s' * (len(those) > 1)} {', '.join(those)}" for file, those in lines.items())
    return shown + (f" and {len(places) - SHOWN} more" if len(places) > SHOWN else "")


class Throughput(Callback):
    """Logs `train/sentences_per_second` over the wall time between two logged steps, with loading, without validation.

    Every view of an example counts as a sentence. A GPU is waited for only at logged steps, since it runs asynchronously.
    """

    def __init__(self) -> None:
        self._sentences = 0
        self._since = 0.0
        self._validation_start = 0.0

    def on_train_start(self, *args: Any) -> None:
        """Start the clock."""
        self._sentences, self._since = 0, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._wait(pl_module)
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock."""
        self._since += time.perf_counter() - self._validation_start

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Count a step's sentences, and log the rate at every logged step."""
        self._sentences += batch["input_ids"].shape[:2].numel() * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # set by a connector
            self._wait(pl_module)
            now = time.perf_counter()
            pl_module.log("train/sentences_per_second", self._sentences / (now - self._since))
            self._sentences, self._since = 0, now

    @staticmethod
    def _wait(pl_module: pl.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)


class ProgressBar(TQDMProgressBar):
    """One line of at most 80 columns with loss, learning rate, sentences per second and the last score.

    In a log, where a line cannot be redrawn, it logs a line for each score on the development set, and otherwise one a
    minute.
    """

    BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} {remaining} left{postfix}"

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__(refresh_rate, process_position, leave)
        self.in_log = not redraws(sys.stdout)
        self._start, self._first, self._last = 0.0, 0, 0.0

    @property
    def is_disabled(self) -> bool:
        """Whether no bar is drawn."""
        return self.in_log or super().is_disabled

    def on_train_start(self, *args: Any) -> None:
        """Make the bar, and start the clock of the lines."""
        super().on_train_start(*args)
        self._start, self._first, self._last = time.monotonic(), self.trainer.global_step, time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Draw the bar, or log a line if the last is a minute old."""
        super().on_train_batch_end(trainer, pl_module, *args)
        if self._lines and time.monotonic() - self._last >= INTERVAL_S:
            self._log_line(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar, or log a line with the score."""
        super().on_validation_end(trainer, pl_module)
        if self._lines and trainer.state.fn == "fit" and trainer.global_step > self._first:
            self._log_line(trainer, pl_module)

    @property
    def _lines(self) -> bool:
        return self.in_log and self.is_enabled and self.trainer.is_global_zero

    def _log_line(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, last, self._last = trainer.global_step, trainer.estimated_stepping_batches, time.monotonic()
        seconds = (self._last - self._start) / max(step - self._first, 1) * (last - step)
        left = f" {Tqdm.format_interval(seconds)} left" if seconds < float("inf") else ""
        metrics = "".join(f", {name}={value}" for name, value in self.get_metrics(trainer, pl_module).items())
        log.info("Step %d/%.0f%s%s", step, last, left, metrics)

    @property
    def total_train_batches(self) -> int | float:
        """The number of steps; for a stream, which has no length, `trainer.max_steps`."""
        total = super().total_train_batches
        return self.trainer.max_steps if total == float("inf") else total

    def init_validation_tqdm(self) -> Tqdm:
        """Return a disabled bar: validation is short, and a second line would break the training line."""
        return Tqdm(disable=True)

    def init_test_tqdm(self) -> Tqdm:
        """Return a bar that disappears when the scores are there."""
        bar = super().init_test_tqdm()
        bar.leave = False
        return bar

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set up the bar without the number of the data loader, since there is only one."""
        if batch_idx == 0:
            self.test_progress_bar.reset(trainer.num_test_batches[0])
            self.test_progress_bar.set_description("Scoring")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Return what is shown after the bar."""
        metrics = trainer.callback_metrics
        shown = {}
        if "train/loss" in metrics:
            shown["loss"] = f"{metrics['train/loss']:.3f}"
        if trainer.optimizers:
            shown["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.2g}"
        if "train/sentences_per_second" in metrics:
            shown["sent/s"] = f"{metrics['train/sentences_per_second']:.0f}"
        for name, label in (("val/sts", "sts"), ("val/mlm_loss", "held-out")):
            if name in metrics:
                shown[label] = f"{metrics[name]:.2f}"
        return shown
