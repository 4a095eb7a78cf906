"""Builds Lightning's Trainer from `conf/trainer/` and `conf/callbacks/`, and checks a Trainer that the user built."""

from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from simcse_lit.config.as_typed import literal
from simcse_lit.config.schema import DataConfig, TrainConfig
from simcse_lit.errors import UserError
from simcse_lit.training.checkpoints import RunCheckpointIO
from simcse_lit.training.lightning_private import deals_out_batches


def build_trainer(config: TrainConfig, loggers: list[Logger]) -> pl.Trainer:
    """Build Lightning's Trainer from `conf/trainer/` and `conf/callbacks/`.

    Raises:
        UserError: the Trainer refuses an argument.
    """
    callbacks = [instantiate(literal(callback)) for callback in config.callbacks.values() if callback]
    if not loggers:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    arguments: dict[str, Any] = {
        "accelerator": config.trainer.accelerator,
        "devices": config.trainer.devices,
        "num_nodes": config.trainer.num_nodes,
        "strategy": "auto" if config.trainer.strategy == "auto" else instantiate(literal(config.trainer.strategy)),
        "use_distributed_sampler": False,  # the data module distributes the batches
        "precision": config.trainer.precision,
        "max_epochs": config.trainer.max_epochs,
        "max_steps": config.trainer.max_steps,
        "gradient_clip_val": config.trainer.gradient_clip_val,
        "val_check_interval": config.trainer.val_check_interval,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": config.trainer.log_every_n_steps,
        "deterministic": config.trainer.deterministic,
        "default_root_dir": config.run_dir,
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [RunCheckpointIO()],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        **config.trainer.extra,
    }
    try:
        return pl.Trainer(**arguments)
    except (TypeError, ValueError, MisconfigurationException) as error:
        hint = "\nUse trainer=auto, which takes what is there, or trainer=cpu." if "backend" in str(error) else ""
        raise UserError(f"trainer: {str(error).splitlines()[0]}{hint}") from error


def check_trainer(trainer: pl.Trainer, data: DataConfig | None) -> None:
    """See that a Trainer trains as the configuration means it, which `conf/` guarantees of ours.

    Args:
        trainer: any.
        data: the group `data` of the run; None if the loaders are the user's own.

    Raises:
        UserError: it does not; the message names the argument.
    """
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "Trainer(accumulate_grad_batches): accumulating gradients is not a larger batch for a contrastive loss: each\n"
            "part sees only its own in-batch negatives. Leave it out, and set data.batch_size; trainer.micro_batch_size=N\n"
            "computes a large batch in little memory."
        )
    if data is None:
        return
    if data.streaming and trainer.max_steps < 1:
        raise UserError("Trainer(max_steps): a stream has no length, so it must say when training ends: max_steps=10000.")
    if trainer.world_size > 1 and deals_out_batches(trainer):
        raise UserError(
            "Trainer(use_distributed_sampler): the data module gives each process its part of a batch, and Lightning's\n"
            "sampler would divide it again. Switch it off: Trainer(use_distributed_sampler=False)."
        )
    if data.batch_size % trainer.world_size:
        raise UserError(
            f"data.batch_size={data.batch_size}: is the batch of all {trainer.world_size} devices together, and must be a "
            f"multiple of {trainer.world_size}."
        )
