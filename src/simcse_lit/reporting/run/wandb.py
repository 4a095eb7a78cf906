"""Weights & Biases: the logger of `conf/logger/wandb.yaml`, and what a finished run adds: tables of scores, figures, the
export with its provenance.
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

from simcse_lit.config.earlier import read_yaml
from simcse_lit.errors import UserError
from simcse_lit.launch.command import as_given
from simcse_lit.tables import by_family, ordered

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
    """Build a W&B logger that never asks for a key: without one, `mode=auto` records the run offline.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the owner of the key.
        name: of the run; None for `run_name`.
        group: of the run; None for `sweep_name` in a multirun.
        tags: W&B tags.
        mode: auto, online or offline. WANDB_MODE, if set, wins over auto.
        save_dir: the run folder.
        resume: not None to continue the W&B run whose id is in the run folder, if there is one.

    Raises:
        UserError: an unknown mode, or `online` without a key.
    """
    hydra = HydraConfig.get()
    if group is None and not OmegaConf.is_missing(hydra.job, "num"):  # a job of a sweep
        group = sweep_name(hydra.sweep.dir)
    memory = Path(save_dir, "wandb", "id")
    earlier = memory.read_text(encoding="utf-8").strip() if resume is not None and memory.is_file() else None
    run = wandb.init(
        id=earlier,
        resume="allow" if earlier else None,
        project=project,
        entity=entity,
        name=(name or run_name(hydra) or hydra.job.name)[:128],  # W&B refuses longer names
        group=group,
        tags=tags,
        mode=cast(Any, _checked_mode(mode)),
        dir=save_dir,
        reinit="create_new",  # jobs of hydra/launcher=basic share a process, where a failed one may have left its run open
        settings=wandb.Settings(silent=True),
    )
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{run.id}\n", encoding="utf-8")
    return WandbLogger(experiment=run)


def _checked_mode(mode: str) -> str:
    """Resolve `auto`.

    Raises:
        UserError: an unknown mode, or `online` without a key.
    """
    if mode not in ("auto", "online", "offline"):
        raise UserError(f"logger.wandb.mode={mode}: not one of auto, online, offline.")
    if mode == "auto":
        return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "online" and not _has_key():
        raise UserError("logger.wandb.mode=online: no API key. Log in with: wandb login; or use logger.wandb.mode=offline.")
    return mode


def _has_key() -> bool:
    return wandb.login(prompt=False, verify=False)


def sweep_name(folder: str) -> str:
    """Return NAME/TIME for a sweep in multirun/NAME/TIME; for any other folder its name."""
    parts = Path(folder).parts
    place = max((place for place, part in enumerate(parts) if part == "multirun"), default=len(parts) - 2)
    return "/".join(parts[place + 1 :])


def run_name(hydra: Any) -> str:
    """Join the overrides that differ between the jobs of a sweep, or all overrides of a single run; the seed last."""
    shared = {"resume"}
    asked = None if OmegaConf.is_missing(hydra.job, "num") else Path(hydra.sweep.dir, "multirun.yaml")
    if asked and asked.is_file():
        typed = OverridesParser.create().parse_overrides(read_yaml(asked)["hydra"]["overrides"]["task"])
        shared |= {override.get_key_element() for override in typed if not override.is_sweep_override()}
    own = [override for override in as_given(hydra.overrides.task) if override.partition("=")[0] not in shared]
    return " ".join(sorted(own, key=lambda override: override.startswith("seed=")))


def log_end(
    logger: WandbLogger,
    scores: Mapping[str, Mapping[str, float]],
    run_dir: Path,
    config: Mapping[str, Any],
    data: Sequence[Path],
) -> None:
    """Log a table of scores for each family of tasks, the figures as images and the export as an artifact.

    Args:
        logger: of the run.
        scores: "before" and "after" to task to score.
        run_dir: holds the figures and `export/`.
        config: the resolved configuration, for the artifact's metadata.
        data: files that were trained on, whose sha256 go into the metadata.
    """
    for family, rows in by_family(scores.items(), {}).items():
        columns = ordered(name for _, row in rows for name in row)
        cells = [[label, *(row.get(column) for column in columns)] for label, row in rows]
        logger.log_table(f"scores/{family}", columns=["encoder", *columns], data=cells)
    run = logger.experiment
    for figure in sorted(run_dir.glob("*.png")):
        run.log({f"figures/{figure.stem}": wandb.Image(str(figure))})
    digests = {str(path): sha256(path) for path in data}
    artifact = wandb.Artifact(f"export-{run.id}", type="model", metadata={"config": dict(config), "data_sha256": digests})
    artifact.add_dir(str(run_dir / "export"), policy="immutable")  # uploaded without a copy
    run.log_artifact(artifact)


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def finish(logger: WandbLogger, *, failed: bool) -> None:
    """Close the run with its exit status, and log how to upload it if it was recorded offline."""
    run = logger.experiment
    folder = Path(run.dir).parent
    offline = run.offline
    run.finish(exit_code=int(failed))
    if offline:
        log.info("W&B run recorded offline. To upload it: wandb sync %s", folder)
