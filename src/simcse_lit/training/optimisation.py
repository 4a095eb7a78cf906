"""The optimiser, its schedule, and the clipping of the gradient."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from transformers import get_scheduler

from simcse_lit.config.schema import OptimizerConfig
from simcse_lit.errors import UserError


@dataclass(frozen=True)
class Optimisation:
    """Makes the optimiser of a run and the schedule of its learning rate.

    Args:
        optimizer: makes an optimiser from parameters.
        config: the group `optimizer` of `conf/`.
    """

    optimizer: Callable[[Iterable[Tensor]], Optimizer]
    config: OptimizerConfig

    def configured(self, parameters: Iterable[Tensor], steps: int) -> dict[str, Any]:
        """What a LightningModule's `configure_optimizers` returns for a run of so many steps."""
        optimizer = self.optimizer(parameters)
        name = self.config.schedule
        scheduler = get_scheduler(
            "constant_with_warmup" if name == "constant" else name,
            optimizer,
            num_warmup_steps=round(self.config.warmup_ratio * steps),
            num_training_steps=steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def optimisation(config: OptimizerConfig) -> Optimisation:
    """Build what `config` says, and try it on one parameter.

    Raises:
        UserError: the optimiser refuses an argument; said now, and not after the corpus is tokenised.
    """
    optimizer = instantiate(
        {
            "_target_": config._target_,
            "_partial_": True,
            "lr": config.lr,
            "weight_decay": config.weight_decay,
            **config.extra,
        }
    )
    try:
        optimizer([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {config._target_}: {error}.") from error
    return Optimisation(optimizer, config)


def clip_gradient(trainer: pl.Trainer, optimizer: Optimizer, limit: float | None, *, by_value: bool, measure: bool) -> Any:
    """Clip the gradient of a step, unscaled under 16-mixed.

    Args:
        trainer: of the run.
        optimizer: holds the parameters.
        limit: of the norm of the whole gradient, or of each number; None or 0 clips nothing.
        by_value: clip each number instead of the norm.
        measure: also when nothing is clipped, return the norm.

    Returns:
        The norm that the gradient had, or None if it was not worked out.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)  # a fused optimiser would do it in its step, which is after clipping
    by_norm = bool(limit) and not by_value
    norm = None
    if by_norm or measure:
        most = float(limit or 0) if by_norm else math.inf  # of infinity nothing is clipped
        if isinstance(trainer.strategy, FSDPStrategy):  # each process holds a part of the gradient
            norm = cast(FullyShardedDataParallel, trainer.strategy.model).clip_grad_norm_(most)
        else:
            norm = clip_grad_norm_(_parameters(optimizer), most)
    if limit and by_value:
        clip_grad_value_(_parameters(optimizer), limit)
    return norm


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
