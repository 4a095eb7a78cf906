"""The jobs of a miniature sweep, and what each changes in its base preset."""

import csv
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from simcse_lit.cli.composed import make_ready
from simcse_lit.config import CONF_DIR
from simcse_lit.config.same_run import flat
from simcse_lit.launch.cases import jobs_of
from simcse_lit.reporting.sweep.comparison import show

# Keys that say what is measured, where and on which machine, or that follow from another key.
UNNAMED = ("name", "group", "run_dir", "resume", "seed", "data.cache_dir", "augmentation.makers", "trainer.precision")
OFF = ("null", "false", "False")
MEANS = (
    "evaluation.before",
    "evaluation.test",
    "trainer.max_steps",
)  # what a case scores, and what follows from the rest
# The sweeps in the order of the paper's tables.
SWEEPS = (
    "main",
    "augmentation",
    "objective",
    "dropout",
    "supervised-data",
    "pooling",
    "hard-negative-weight",
    "temperature",
    "mlm-weight",
    "batch-size-lr",
    "alignment-uniformity",
    "beyond-recipe",
)
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

    @property
    def folder(self) -> str:
        """Name of its run folder: `miniature-unsup-0`, or with a digest of what it changes."""
        digest = hashlib.sha256(self.changed.encode()).hexdigest()[:8] if self.changed else ""
        return "-".join(part for part in (self.experiment, digest, str(self.seed)) if part)


@dataclass(frozen=True)
class Shown:
    """A setting as its table shows it.

    Args:
        setting: preset and change.
        values: what distinguishes it, by key: the keys of the paper's table, or those that the sweep sets.
        paper: STS-B dev in the paper's table; None if it has no such row.
    """

    setting: tuple[str, str]
    values: Mapping[str, str]
    paper: float | None


def need_data() -> None:
    """Make SIMCSE_DATA absolute.

    Raises:
        SystemExit: it is not set.
    """
    if not os.environ.get("SIMCSE_DATA"):
        raise SystemExit("Set SIMCSE_DATA to the folder that holds SentEval/, lm/, nli/ and wiki/ (docs/how-to/offline.md).")
    os.environ["SIMCSE_DATA"] = str(Path(os.environ["SIMCSE_DATA"]).absolute())


def shown_settings(name: str) -> list[Shown]:
    """Return the settings of a sweep, each once: in its order, and numbers by size."""
    path = Path(__file__).parent / name / "paper.csv"
    published = list(csv.DictReader(path.open(encoding="utf-8", newline=""))) if path.is_file() else []
    published = [row for row in published if row["metric"] == "STS-B-dev"]
    keys = [key for key in published[0] if key not in ("metric", "paper", "source")] if published else []
    shown = list({job.setting: _shown(job, name, keys, published) for job in jobs_of_sweep(name)}.values())
    texts = list(dict.fromkeys(value for one in shown for value in one.values.values()))
    return sorted(shown, key=lambda one: [_place(value, texts) for value in one.values.values()])


def labels(settings: Sequence[Shown]) -> dict[str, Shown]:
    """Return the settings of a table by a short name: the values that are not the same in all of them, with their keys."""
    keys = dict.fromkeys(key for one in settings for key in one.values)
    told = [key for key in keys if len({one.values.get(key, "null") for one in settings}) > 1]
    return {
        ", ".join(_named(key, one.values[key]) for key in told if one.values.get(key, "null") not in OFF): one
        for one in settings
    }


def _named(key: str, value: str) -> str:
    if key == "experiment":
        return value
    if key.endswith("._target_"):
        key, value = key.removesuffix("._target_"), value.rpartition(".")[2]
    return f"{key.removesuffix('.name').rpartition('.')[2]}={value}"


def _place(value: str, texts: Sequence[str]) -> tuple[int, float]:
    """Return a key that sorts texts in their order in the sweep, then numbers by size, then null."""
    try:
        return 1, float(value)
    except ValueError:
        return (2, 0) if value == "null" else (0, texts.index(value))


def _shown(job: Job, name: str, keys: Sequence[str], published: Sequence[Mapping[str, str]]) -> Shown:
    words = job.words[1:]  # without that of the sweep
    own = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    if not published:
        return Shown(job.setting, {key: value for key, value in own.items() if key not in ("seed", *MEANS)}, None)
    # The same overrides at the paper's scale give the row of the paper's table.
    loss = [f"loss={own['experiment'].removeprefix('miniature-')}"] if "experiment" in own else []
    rest = [f"{key}={value}" for key, value in own.items() if key not in ("seed", "experiment", *MEANS)]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", [f"+sweep={name}", "run_dir=unused", *loss, *rest])
    values = {key: OmegaConf.select(config, key) for key in keys}
    values = {key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in values.items()}
    same = [row for row in published if all(yaml.safe_load(row[key]) == value for key, value in values.items())]
    return Shown(job.setting, {key: show(value) for key, value in values.items()}, float(same[0]["paper"]) if same else None)


def jobs_of_sweep(name: str, words: Sequence[str] = ()) -> list[Job]:
    """Return the jobs of `+sweep=miniature/NAME`, in their order.

    Args:
        name: of the sweep.
        words: more overrides for every job; those with commas are swept.
    """
    return [_job(job) for job in words_of_sweep(f"miniature/{name}", words)]


def words_of_sweep(sweep: str, words: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return the overrides of each job of `+sweep=SWEEP`, that of the sweep first; `words` are as in `jobs_of_sweep`."""
    make_ready()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        sweeper = compose("train", [f"+sweep={sweep}", "run_dir=unused"], return_hydra_config=True).hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    given = OverridesParser.create().parse_overrides([*params, *words])
    cases = cast(list[dict[str, Any]], OmegaConf.to_container(sweeper.cases, resolve=True))
    return [(f"+sweep={sweep}", *job) for job in jobs_of(cases, given)]


def _job(words: tuple[str, ...]) -> Job:
    seed = next(int(word.removeprefix("seed=")) for word in words if word.startswith("seed="))
    composed = composed_of(tuple(word for word in words if not word.startswith("seed=")))
    base = composed_of((f"experiment={composed.experiment}",)).values
    own = composed.values
    keys = {key for key in {**base, **own} if base.get(key) != own.get(key)}
    keys -= {key for key in keys if any(other.startswith(f"{key}.") for other in own)}  # null before it got entries
    changed = " ".join(f"{key}={own.get(key, 'null')}" for key in sorted(keys))
    return Job(words, composed.experiment or "", changed, seed, composed.config)


class Composed(NamedTuple):
    """A configuration: its preset of conf/experiment/, its values, and those that name a setting, as typed."""

    experiment: str | None
    config: dict[str, Any]
    values: dict[str, str]


@cache
def composed_of(words: tuple[str, ...]) -> Composed:
    """Compose the configuration of a run."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", [*words, "run_dir=unused"], return_hydra_config=True)
    experiment = composed.hydra.runtime.choices.experiment
    with open_dict(composed):
        del composed["hydra"]
    raw = cast(dict[str, Any], OmegaConf.to_container(composed))
    config = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    follow = {key for key, value in flat(raw) if isinstance(value, str) and re.fullmatch(r"\$\{[\w.]+\}", value)}
    values = {
        key: show(value).replace(os.environ["SIMCSE_DATA"], "$SIMCSE_DATA").replace(" ", "")
        for key, value in flat(config)
        if key not in (*UNNAMED, *follow) and key.partition(".")[0] not in UNNAMED_GROUPS
    }
    return Composed(experiment, config, values)
