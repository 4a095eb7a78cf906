"""Weights & Biases: the logger of `conf/logger/wandb.yaml`, and the tables, figures and export that a finished run adds.

The logged numbers come from Lightning. `dashboard.py` makes the dashboard of a project.
"""

import logging
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
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
from simcse_lit.scores import read_families
from simcse_lit.tables import by_family, ordered, shortened

log = logging.getLogger(__name__)

MODES = ("online", "offline", "shared", "disabled")
TRUE = ("1", "true", "yes", "on")
LONGEST, LONGEST_TAG = 128, 64  # characters of a name or group, and of a tag; `wandb sync` refuses longer ones


def build_logger(
    *,
    project: str,
    entity: str | None,
    name: str | None,
    group: str | None,
    tags: list[str] | str,
    mode: str,
    save_dir: str,
    resume: str | None,
) -> WandbLogger | None:
    """Build a W&B logger that never asks for a key. Without a key, `mode=auto` records the run offline.

    An argument that is None or empty is taken from the environment (WANDB_ENTITY, WANDB_NAME, WANDB_RUN_GROUP,
    WANDB_TAGS). The defaults below apply if the variable is not set. WANDB_DIR, if set, wins over `save_dir`.

    Args:
        project: W&B project.
        entity: W&B user or team; by default the owner of the key.
        name: of the run; by default `run_name`.
        group: of the run; by default `sweep_name` in a multirun.
        tags: W&B tags.
        mode: `auto`, `online` or `offline`. WANDB_MODE and WANDB_DISABLED, if set, win over `auto`.
        save_dir: the run folder.
        resume: not None to continue the W&B run whose id is in the run folder, if there is one.

    Returns:
        The logger, or None if the user has switched W&B off.

    Raises:
        UserError: the mode is unknown, there is no key for `online`, or W&B refuses a name, group, tag or project.
    """
    called = {"name": _run_name(name), "group": _run_group(group), "tags": _run_tags(tags)}
    mode = _checked_mode(mode)
    if mode == "disabled":
        log.info("W&B is switched off by WANDB_MODE or WANDB_DISABLED.")
        return None
    folder = Path(os.environ.get("WANDB_DIR") or save_dir).expanduser()
    with suppress(OSError):  # without the folder, W&B writes to a temporary one
        folder.mkdir(parents=True, exist_ok=True)
    memory = Path(save_dir, "wandb", "id")
    earlier = memory.read_text(encoding="utf-8").strip() if resume is not None and memory.is_file() else None
    try:
        run = wandb.init(
            id=earlier,
            resume="allow" if earlier else None,
            project=project,
            entity=entity,
            mode=cast(Any, mode),
            dir=str(folder),
            reinit="create_new",  # a failed job of hydra/launcher=basic may have left its run open in this process
            settings=wandb.Settings(silent=True),
            **cast(Any, called),
        )
    except (wandb.errors.Error, ValueError) as error:
        raise UserError(f"logger.wandb: {error}\nTo record the run without a server: logger.wandb.mode=offline") from error
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{run.id}\n", encoding="utf-8")
    return WandbLogger(experiment=run)


def _run_name(asked: str | None) -> str:
    if given := _given("logger.wandb.name", asked, "WANDB_NAME"):
        return given
    hydra = HydraConfig.get()
    return shortened(run_name(hydra) or hydra.job.name, LONGEST)


def _run_group(asked: str | None) -> str | None:
    if given := _given("group", asked, "WANDB_RUN_GROUP"):
        return given
    hydra = HydraConfig.get()
    is_job = not OmegaConf.is_missing(hydra.job, "num")  # of a sweep
    return shortened(sweep_name(hydra.sweep.dir), LONGEST) if is_job else None


def _given(key: str, asked: str | None, variable: str) -> str | None:
    """Return the value of the configuration, or else of the environment variable.

    Raises:
        UserError: the value is longer than W&B accepts.
    """
    source, value = (key, asked) if asked else (variable, os.environ.get(variable))
    if value and len(value) > LONGEST:
        raise UserError(f"{source}={value[:20]}...: has {len(value)} characters. W&B accepts at most {LONGEST}.")
    return value or None


def _run_tags(asked: list[str] | str) -> list[str]:
    source = "logger.wandb.tags" if asked else "WANDB_TAGS"
    given = asked or os.environ.get("WANDB_TAGS", "").split(",")
    tags = [str(tag).strip() for tag in ([given] if isinstance(given, str) else given)]
    for tag in tags:
        if len(tag) > LONGEST_TAG:
            raise UserError(f"{source}: {tag[:20]}...: has {len(tag)} characters. W&B accepts at most {LONGEST_TAG}.")
    return [tag for tag in tags if tag]


def _checked_mode(asked: str) -> str:
    """Resolve `auto`: the environment variables decide; without them, online with a key and offline without one.

    Returns:
        `online`, `offline`, `shared` or `disabled`.

    Raises:
        UserError: the mode is unknown, or there is no key for `online`.
    """
    if asked not in ("auto", "online", "offline"):
        raise UserError(f"logger.wandb.mode={asked}: not one of auto, online, offline.")
    key, mode = "logger.wandb.mode", asked
    if asked == "auto":
        if os.environ.get("WANDB_DISABLED", "").lower() in TRUE:
            return "disabled"
        key, mode = "WANDB_MODE", os.environ.get("WANDB_MODE", "")
        if not mode:
            return "online" if _has_key() else "offline"
        mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)  # W&B's older words
        if mode not in MODES:
            raise UserError(f"WANDB_MODE={mode}: not one of {', '.join(MODES)}.")
    if mode == "online" and not _has_key():
        raise UserError(f"{key}=online: no API key. Log in with: wandb login; or use {key}=offline.")
    return mode


def _has_key() -> bool:
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:  # the key is malformed
        raise UserError(f"logger.wandb: {error}\nTo record the run without a server: logger.wandb.mode=offline") from error


def sweep_name(folder: str) -> str:
    """Return NAME/TIME for a sweep in multirun/NAME/TIME, and the folder's name for any other folder."""
    parts = Path(folder).parts
    place = max((place for place, part in enumerate(parts) if part == "multirun"), default=len(parts) - 2)
    return "/".join(parts[place + 1 :])


def run_name(hydra: Any) -> str:
    """Join the overrides that differ between the jobs of a sweep, or all overrides of a single run. The seed comes last."""
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
    digests: Mapping[str, str],
) -> None:
    """Log a table of scores for each family of tasks, the figures as images and the export as an artifact.

    Args:
        logger: of the run.
        scores: scores by task, by stage ("before", "after").
        run_dir: the run folder, with `scores.json`, the figures and `export/`.
        config: the resolved configuration, for the artifact's metadata.
        digests: sha256 of each training file, by name, for the metadata.
    """
    families = read_families(run_dir)
    for family, rows in by_family(scores.items(), families).items():
        columns = ordered((name for _, row in rows for name in row), families)
        cells = [[label, *(row.get(column) for column in columns)] for label, row in rows]
        logger.log_table(f"scores/{family.name}", columns=["encoder", *columns], data=cells)
    run = logger.experiment
    for figure in sorted(run_dir.glob("*.png")):
        run.log({f"figures/{figure.stem}": wandb.Image(str(figure))})
    artifact = wandb.Artifact(
        f"export-{run.id}", type="model", metadata={"config": dict(config), "data_sha256": dict(digests)}
    )
    artifact.add_dir(str(run_dir / "export"), policy="immutable")  # uploaded without a copy
    run.log_artifact(artifact)


def finish(logger: WandbLogger, *, failed: bool) -> None:
    """Close the run with its exit status. For an offline run, log the command that uploads it.

    A run that was resumed has a part for each start. The command names all parts in their order.
    """
    run = logger.experiment
    folder = Path(run.dir).parent
    offline = run.offline
    run.finish(exit_code=int(failed))
    if offline:
        parts = sorted(str(part) for part in folder.parent.glob(f"offline-run-*-{run.id}"))
        log.info("W&B run recorded offline. To upload it: wandb sync %s", shlex.join(parts))
