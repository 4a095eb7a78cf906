"""The optimiser, its schedule, and gradient clipping."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pickle import UnpicklingError
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from simcse_lit.config.extension import prepare
from simcse_lit.config.schema import OptimizerConfig
from simcse_lit.errors import UserError

SCHEDULE = "optimizer.schedule"
GIVEN = ("optimizer", "steps", "warmup_steps")
TRIED = 20  # steps of a schedule in its trial


@dataclass(frozen=True)
class Optimisation:
    """Makes the optimiser of a run and the schedule of its learning rate.

    Args:
        optimizer: makes an optimiser from parameters.
        schedule: makes a schedule from `optimizer`, `steps` of the run and `warmup_steps`, in which the rate rises.
        warmup_ratio: share of the steps in which the rate rises.
        lr: the learning rate.
    """

    optimizer: Callable[[Iterable[Any]], Optimizer]
    schedule: Callable[..., LRScheduler]
    warmup_ratio: float
    lr: float

    def configured(
        self, parameters: Mapping[float, Sequence[Tensor]], steps: int, undecayed: Iterable[Tensor | None] = ()
    ) -> dict[str, Any]:
        """Return the value of a LightningModule's `configure_optimizers`.

        Args:
            parameters: parameters by the factor of their learning rate.
            steps: steps of the run.
            undecayed: those of the parameters that weight decay leaves alone.
        """
        spared, groups = {id(parameter) for parameter in undecayed}, list[dict[str, Any]]()
        for scale, group in parameters.items():
            for decay in ({}, {"weight_decay": 0.0}):
                of_kind = [parameter for parameter in group if (id(parameter) in spared) == bool(decay)]
                groups += [{"params": of_kind, "lr": scale * self.lr, **decay}] if of_kind else []
        optimizer = self.optimizer(groups if len(groups) > 1 else groups[0]["params"])
        scheduler = self.schedule(optimizer=optimizer, steps=steps, warmup_steps=round(self.warmup_ratio * steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def optimisation(config: OptimizerConfig) -> Optimisation:
    """Build the optimiser and schedule of `config`, and try them on one parameter.

    Raises:
        UserError: the optimiser or the schedule refuses an argument, or the schedule is not one. This fails before the
            corpus is tokenised.
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
    named = config.schedule
    schedule = partial(_named, named) if isinstance(named, str) else prepare(named, SCHEDULE, GIVEN)
    made = Optimisation(optimizer, schedule, config.warmup_ratio, config.lr)
    if not isinstance(named, str):
        _try_schedule(made, f"{SCHEDULE}._target_={named['_target_']}")
    return made


def _named(name: str, *, optimizer: Optimizer, steps: int, warmup_steps: int) -> LRScheduler:
    name = "constant_with_warmup" if name == "constant" else name
    made: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps)
    return made


def _try_schedule(optimisation: Optimisation, what: str) -> None:
    """Run a schedule for a few steps on one parameter, and check that a checkpoint can hold its state."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # the optimiser takes no steps here
        try:
            made = optimisation.configured({1.0: [nn.Parameter(torch.zeros(1))]}, TRIED)["lr_scheduler"]["scheduler"]
            if not isinstance(made, LRScheduler):
                raise UserError(f"{what}: must make a torch.optim.lr_scheduler.LRScheduler, not a {type(made).__name__}.")
            for _ in range(TRIED):
                made.step()
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise UserError(f"{what}: {error}") from error
    file = BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{what}: its state_dict() may hold only numbers, texts, tensors and containers of them, since a\n"
            "checkpoint with anything else cannot be read safely."
        ) from error


def lr_scale(node: MutableMapping[str, Any], key: str) -> float:
    """Remove `lr_scale`, a factor of the learning rate, from a node of the configuration and return it; 1 if absent.

    Raises:
        UserError: it is not a finite positive number.
    """
    scale = node.pop("lr_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not (math.isfinite(scale) and scale > 0):
        raise UserError(f"{key}.lr_scale={scale}: must be a finite number greater than 0.")
    return float(scale)


def clip_gradient(trainer: pl.Trainer, optimizer: Optimizer, limit: float | None, *, by_value: bool, measure: bool) -> Any:
    """Clip the gradient of a step, after unscaling it under 16-mixed.

    Args:
        trainer: the run's trainer.
        optimizer: holds the parameters.
        limit: maximum norm of the whole gradient, or maximum of each number; None or 0 for no clipping.
        by_value: clip each number instead of the norm.
        measure: return the norm even if nothing is clipped.

    Returns:
        The norm before clipping, or None if it was not computed.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)  # a fused optimiser unscales in its step, after clipping
    by_norm = bool(limit) and not by_value
    norm = None
    if by_norm or measure:
        most = float(limit or 0) if by_norm else math.inf  # infinity clips nothing
        if isinstance(trainer.strategy, FSDPStrategy):  # each process holds a part of the gradient
            norm = cast(FullyShardedDataParallel, trainer.strategy.model).clip_grad_norm_(most)
        else:
            norm = clip_grad_norm_(_parameters(optimizer), most)
    if limit and by_value:
        clip_grad_value_(_parameters(optimizer), limit)
    return norm


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
