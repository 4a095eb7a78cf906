"""The jobs of a miniature sweep, and what each changes in its base preset."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

from hydra import compose as compose_plain
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from simcse_lit import compose
from simcse_lit.cli.composed import make_ready
from simcse_lit.config import CONF_DIR
from simcse_lit.config.same_run import flat
from simcse_lit.launch.cases import jobs_of
from simcse_lit.reporting.sweep.comparison import show

# Keys that say what is measured, where and on which machine, or that follow from another key.
UNNAMED = ("name", "group", "run_dir", "resume", "seed", "data.cache_dir", "augmentation.makers", "trainer.precision")
UNNAMED_GROUPS = ("evaluation", "tasks", "dev", "analyses", "callbacks", "logger", "demo", "senteval")


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Args:
        words: its overrides, with that of the sweep.
        experiment: base preset.
        changed: what it changes there, see `rows.Row`.
        seed: its seed.
        config: its resolved configuration.
    """

    words: tuple[str, ...]
    experiment: str
    changed: str
    seed: int
    config: Mapping[str, Any]

    @property
    def setting(self) -> tuple[str, str]:
        """What several seeds share."""
        return self.experiment, self.changed


def jobs_of_sweep(name: str, words: Sequence[str] = ()) -> list[Job]:
    """Return the jobs of `+sweep=miniature/NAME`, in their order.

    Args:
        name: of the sweep.
        words: more overrides for every job; those with commas are swept.
    """
    make_ready()
    sweep = f"+sweep=miniature/{name}"
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        sweeper = compose_plain("train", [sweep, "run_dir=unused"], return_hydra_config=True).hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    given = OverridesParser.create().parse_overrides([*params, *words])
    return [_job((sweep, *job)) for job in jobs_of(OmegaConf.to_container(sweeper.cases), given)]  # type: ignore[arg-type]


def _job(words: tuple[str, ...]) -> Job:
    seed = next(int(word.removeprefix("seed=")) for word in words if word.startswith("seed="))
    composed = _composed(tuple(word for word in words if not word.startswith("seed=")))
    base = _composed((f"experiment={composed.experiment}",)).values
    keys = sorted(key for key in {**base, **composed.values} if base.get(key) != composed.values.get(key))
    changed = " ".join(f"{key}={composed.values.get(key, 'null')}" for key in keys)
    return Job(words, composed.experiment, changed, seed, composed.config)


class _Composed(NamedTuple):
    experiment: str
    config: dict[str, Any]
    values: dict[str, str]  # those that name a setting, as typed


@cache
def _composed(words: tuple[str, ...]) -> _Composed:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = compose_plain("train", [*words, "run_dir=unused"], return_hydra_config=True)
    experiment = plain.hydra.runtime.choices.experiment
    with open_dict(plain):
        del plain["hydra"]
    raw = OmegaConf.to_container(plain)
    follow = {key for key, value in flat(raw) if isinstance(value, str) and re.fullmatch(r"\$\{[\w.]+\}", value)}
    config = asdict(compose("train", [*words, "hydra.run.dir=unused"]))
    values = {
        key: show(value).replace(os.environ["SIMCSE_DATA"], "$SIMCSE_DATA").replace(" ", "")
        for key, value in flat(config)
        if key not in (*UNNAMED, *follow) and key.partition(".")[0] not in UNNAMED_GROUPS
    }
    return _Composed(experiment, config, values)
