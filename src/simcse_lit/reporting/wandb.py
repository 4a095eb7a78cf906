"""Weights & Biases: the logger that `conf/logger/wandb.yaml` builds, and the table of final scores."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import WandbLogger

from simcse_lit.errors import UserError
from simcse_lit.reporting.tables import ordered

log = logging.getLogger(__name__)


def build_logger(
    *,
    project: str,
    entity: str | None,
    name: str | None,
    group: str | None,
    tags: list[str],
    mode: str,
    save_dir: str,
    resume: str | None,
) -> WandbLogger:
    """A W&B logger that never asks for a key: without one, `mode=auto` records the run offline.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the key's own.
        name: name of the run; None for what the command line changed.
        group: group of the run; None for the folder of the sweep in a multirun.
        tags: W&B tags.
        mode: auto, online or offline. WANDB_MODE, if set, wins over auto.
        save_dir: the run folder.
        resume: not None to go on in the W&B run that the run folder remembers, if it does.

    Raises:
        UserError: an unknown mode, or `online` without a key.
    """
    if mode not in ("auto", "online", "offline"):
        raise UserError(f"logger.wandb.mode={mode}: not one of auto, online, offline.")
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    elif mode == "online" and not _has_key():
        raise UserError("logger.wandb.mode=online: no API key. Log in with: wandb login; or use logger.wandb.mode=offline.")
    hydra = HydraConfig.get()
    if group is None and hydra.mode == RunMode.MULTIRUN:
        group = Path(hydra.sweep.dir).name
    memory = Path(save_dir, "wandb", "id")
    known = resume is not None and memory.is_file()
    run = wandb.init(
        id=memory.read_text(encoding="utf-8").strip() if known else None,
        resume="allow" if known else None,
        project=project,
        entity=entity,
        name=(name or hydra.job.override_dirname or hydra.job.name)[:128],  # W&B takes no longer one
        group=group,
        tags=tags,
        mode=cast(Any, mode),
        dir=save_dir,
        reinit="create_new",  # the jobs of a multirun share a process, and a failed one may have left its run open
        settings=wandb.Settings(silent=True),
    )
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{run.id}\n", encoding="utf-8")
    return WandbLogger(experiment=run)


def _has_key() -> bool:
    return wandb.login(prompt=False, verify=False)


def log_scores(logger: WandbLogger, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Log the final table as `scores`, one row before and one after training."""
    columns = ordered({task for row in rows.values() for task in row})
    logger.log_table(
        "scores", columns=["encoder", *columns], data=[[name, *(row.get(c) for c in columns)] for name, row in rows.items()]
    )


def finish(logger: WandbLogger, *, failed: bool) -> None:
    """Close the run, marked as failed if it did, and say how to sync it if it was recorded offline."""
    run = logger.experiment
    folder = Path(run.dir).parent
    offline = run.offline
    run.finish(exit_code=int(failed))
    if offline:
        log.info("W&B run recorded offline. To upload it: wandb sync %s", folder)
