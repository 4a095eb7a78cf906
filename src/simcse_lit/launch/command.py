"""Builds the arguments that run a Hydra job again in a separate process."""

import sys
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from simcse_lit.config import CONF_DIR
from simcse_lit.config.as_typed import quoted

# Overrides of `hydra` that say how jobs are made, not what a job does.
NOT_OF_A_JOB = ("hydra.mode", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher", "hydra.run")


def job_arguments(hydra: HydraConf, run_dir: str) -> list[str]:
    """Return the arguments of a single run that does this job in this run folder.

    A job of a multirun keeps its number and the sweep's folder, so that `${hydra:job.num}` stays right.

    Args:
        hydra: the job's `HydraConfig`.
        run_dir: its run folder.
    """
    task, hydras = (as_given(overrides) for overrides in (hydra.overrides.task, hydra.overrides.hydra))
    own = [override for override in hydras if not override.lstrip("+~").startswith(NOT_OF_A_JOB)]
    facts = {"hydra.mode": "RUN", "hydra.run.dir": str(Path(run_dir).absolute())}
    if not OmegaConf.is_missing(hydra.job, "num"):
        facts |= {"hydra.job.num": str(hydra.job.num), "hydra.job.id": str(hydra.job.id)}
        facts |= {"hydra.sweep.dir": str(hydra.sweep.dir), "hydra.sweep.subdir": str(hydra.sweep.subdir)}
    return [*config_options(hydra), *task, *own, *(f"{key}={quoted(value)}" for key, value in facts.items())]


def as_given(overrides: Any) -> list[str]:
    """Return overrides that Hydra keeps in a configuration as typed; reading them one by one would replace `${...}`."""
    return list(map(str, OmegaConf.to_container(overrides, resolve=False) or ()))


def config_options(hydra: HydraConf) -> list[str]:
    """Return --config-name, --config-path and --config-dir, where they were given."""
    name = str(hydra.job.config_name)
    options = [] if name == hydra.job.name else ["--config-name", name]
    for source in hydra.runtime.config_sources:
        if source.provider == "main" and Path(source.path) != CONF_DIR:
            options += ["--config-path", source.path]
        elif source.provider == "command-line":
            options += ["--config-dir", source.path]
    return options


def started_module(default: str) -> str:
    """Return the module for `python -m`: the user's own around a verb of ours, or `default`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec and spec.name != "simcse_lit.__main__" else default
