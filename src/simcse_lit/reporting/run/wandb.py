"""Weights & Biases: the logger that `conf/logger/wandb.yaml` builds, and what a run leaves there at its end: tables of
scores, figures, the export with where it comes from.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pytorch_lightning.loggers import WandbLogger

from simcse_lit.errors import UserError
from simcse_lit.tables import STS, TRANSFER, ordered

log = logging.getLogger(__name__)

FAMILIES = {"sts": STS, "transfer": TRANSFER}


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
        name: name of the run; None for what tells it from the others of its sweep, or what its command line changed.
        group: group of the run; None for name and time of the sweep in a multirun.
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
    if group is None and not OmegaConf.is_missing(hydra.job, "num"):  # it is one of a sweep's
        group = sweep_name(hydra.sweep.dir)
    memory = Path(save_dir, "wandb", "id")
    known = resume is not None and memory.is_file()
    run = wandb.init(
        id=memory.read_text(encoding="utf-8").strip() if known else None,
        resume="allow" if known else None,
        project=project,
        entity=entity,
        name=(name or run_name(hydra) or hydra.job.name)[:128],  # W&B takes no longer one
        group=group,
        tags=tags,
        mode=cast(Any, mode),
        dir=save_dir,
        reinit="create_new",  # under hydra/launcher=basic jobs share a process, and a failed one may have left its run open
        settings=wandb.Settings(silent=True),
    )
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{run.id}\n", encoding="utf-8")
    return WandbLogger(experiment=run)


def _has_key() -> bool:
    return wandb.login(prompt=False, verify=False)


def sweep_name(folder: str) -> str:
    """NAME/TIME of a sweep in its usual place, multirun/NAME/TIME; of another folder its name."""
    parts = Path(folder).parts
    place = max((place for place, part in enumerate(parts) if part == "multirun"), default=len(parts) - 2)
    return "/".join(parts[place + 1 :])


def run_name(hydra: Any) -> str:
    """The overrides of a job that not all jobs of its sweep share, or of a single run all, the seed last."""
    shared = {"resume"}
    asked = None if OmegaConf.is_missing(hydra.job, "num") else Path(hydra.sweep.dir, "multirun.yaml")
    if asked and asked.is_file():
        typed = OverridesParser.create().parse_overrides(list(OmegaConf.load(asked).hydra.overrides.task))
        shared |= {override.get_key_element() for override in typed if not override.is_sweep_override()}
    own = [override for override in hydra.overrides.task if override.partition("=")[0] not in shared]
    return " ".join(sorted(own, key=lambda override: override.startswith("seed=")))


def log_end(
    logger: WandbLogger,
    scores: Mapping[str, Mapping[str, float]],
    run_dir: Path,
    config: Mapping[str, Any],
    data: Sequence[Path],
) -> None:
    """Log what a finished run leaves: a table of scores a family, its figures as images, its export as an artifact.

    Args:
        logger: of the run.
        scores: "before" and "after" to task to score.
        run_dir: holds the figures and `export/`.
        config: the resolved configuration, which the artifact remembers.
        data: files that were trained on, of which it remembers the sha256.
    """
    others = {name for row in scores.values() for name in row}.difference(*FAMILIES.values())
    for family, names in (*FAMILIES.items(), ("other", others)):
        columns = [name for name in ordered({task for row in scores.values() for task in row}) if name in names]
        if columns:
            rows = [[label, *(row.get(column) for column in columns)] for label, row in scores.items()]
            logger.log_table(f"scores/{family}", columns=["encoder", *columns], data=rows)
    run = logger.experiment
    for figure in sorted(run_dir.glob("*.png")):
        run.log({f"figures/{figure.stem}": wandb.Image(str(figure))})
    digests = {str(path): sha256(path) for path in data}
    artifact = wandb.Artifact(f"export-{run.id}", type="model", metadata={"config": dict(config), "data_sha256": digests})
    artifact.add_dir(str(run_dir / "export"), policy="immutable")  # it is not copied before it is uploaded
    run.log_artifact(artifact)


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def finish(logger: WandbLogger, *, failed: bool) -> None:
    """Close the run, marked as failed if it did, and say how to sync it if it was recorded offline."""
    run = logger.experiment
    folder = Path(run.dir).parent
    offline = run.offline
    run.finish(exit_code=int(failed))
    if offline:
        log.info("W&B run recorded offline. To upload it: wandb sync %s", folder)
