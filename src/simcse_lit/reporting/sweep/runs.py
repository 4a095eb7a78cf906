"""Reads run folders: the configuration of a run, its state, its scores and its logged numbers.

Only files are needed, so runs of another machine can be read. torch is not imported. `comparison.py` compares the runs.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simcse_lit.config.as_typed import quoted
from simcse_lit.config.earlier import compose, read_config, read_yaml, typed_keys
from simcse_lit.config.moved import targets_now
from simcse_lit.config.same_run import flat
from simcse_lit.errors import UserError
from simcse_lit.families import Family
from simcse_lit.launch.cases import jobs_of
from simcse_lit.launch.command import config_options
from simcse_lit.launch.handover import ERROR_FILE
from simcse_lit.reporting.run.curves import read_metrics
from simcse_lit.scores import NoScore, by_task, read_families, read_scores

FINISHED, FAILED, UNFINISHED, NOT_STARTED = "finished", "failed", "unfinished", "not started"


@dataclass(frozen=True)
class Run:
    """A run, as recorded in its folder.

    Args:
        folder: the run folder; None for a job of a sweep that was not started.
        label: path of the folder, relative to the folder of the report.
        state: `finished`, `failed`, `unfinished` or `not started`.
        note: why the run failed, or its last logged step.
        overrides: of the command line.
        command: the command that runs it again.
        facts: values of the resolved configuration by dotted key, and the option chosen in each group. Lists are tuples, so
            that values can be dictionary keys.
        scores: scores after training by task, the development set first; empty unless the run is finished.
        before: scores of the untrained encoder by task.
        history: (step, value) of each logged number by name, in the order of steps, from `read_metrics`.
        environment: versions, commit, device.
        own_files: `hydra.searchpath=...`, if the run used the user's configuration files.
        families: families of the tasks by name; empty if the version that ran it did not record them.
    """

    folder: Path | None
    label: str
    state: str
    note: str
    overrides: Sequence[str]
    command: str
    facts: Mapping[str, Any]
    scores: Mapping[str, float]
    before: Mapping[str, float]
    history: Mapping[str, Sequence[tuple[int, float]]]
    environment: Mapping[str, Any]
    own_files: Sequence[str] = ()
    families: Mapping[str, Family] = field(default_factory=dict)

    @property
    def seed(self) -> Any:
        """The seed, which distinguishes the runs of one setting."""
        return self.facts.get("seed")


def read_runs(root: Path) -> list[Run]:
    """Read every training run in a folder and below it, in numeric order, then the jobs of a sweep that were not started.

    Args:
        root: the folder of a run or of a sweep.

    Raises:
        UserError: there is no run, or a file of a run cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Name a run folder (outputs/...) or the folder of a sweep (multirun/...).")
    folders = sorted({path.parent.parent for path in root.rglob(".hydra/overrides.yaml")}, key=_natural)
    runs = [run for folder in folders if (run := _read(folder, root)) is not None]
    if not runs:
        evaluated = next(root.rglob("results.json"), None)
        seen = f"\nThe tables and figures of an evaluation are in {evaluated.parent}." if evaluated else ""
        raise UserError(
            f"{root}: no run of simcse_lit.train in it or below it (a run folder holds .hydra/overrides.yaml).{seen}"
        )
    return _completed(runs) + _not_started(root, runs)


def _natural(path: Path) -> list[Any]:
    return [[int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


def _read(folder: Path, root: Path) -> Run | None:
    """Read the run in a folder; None if it is not a training run."""
    hydra = read_yaml(folder / ".hydra" / "hydra.yaml")["hydra"]
    if hydra["job"]["config_name"] != "train":
        return None
    overrides = read_yaml(folder / ".hydra" / "overrides.yaml")
    path = folder / "config.yaml"
    config = targets_now(read_yaml(path)) if path.is_file() else {}
    choices = {name: option for name, option in hydra["runtime"]["choices"].items() if not name.startswith("hydra")}
    choices = _with_pooler(choices, config)
    try:
        scores, no_score = by_task(read_scores(folder)), ""
    except NoScore as reason:
        scores, no_score = {}, str(reason)
    history = read_metrics(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else {}
    sources = hydra["runtime"]["config_sources"]
    own = [source["path"] for source in sources if source["provider"] == "command-line"]
    error, log = folder / ERROR_FILE, folder / "environment.json"
    environment = json.loads(log.read_text(encoding="utf-8")) if log.is_file() else {}
    if scores.get("after"):
        state, note = FINISHED, ""
    elif no_score or error.is_file():
        state, note = FAILED, no_score or error.read_text(encoding="utf-8").strip()
    else:
        last = max((step for points in history.values() for step, _ in points), default=None)
        state, note = UNFINISHED, "no step logged" if last is None else f"last step logged: {last:,}"
    return Run(
        folder=folder,
        label=str(folder.relative_to(root)) if folder != root else folder.name,
        state=state,
        note=note,
        overrides=overrides,
        command=_command(hydra, overrides, environment),
        facts={**choices, **_facts(config)},
        scores=scores.get("after", {}),
        before=scores.get("before", {}),
        history=history,
        environment=environment,
        own_files=[f"hydra.searchpath=[{quoted('file://' + path)}]" for path in own],
        families=read_families(folder),
    )


def _completed(runs: list[Run]) -> list[Run]:
    """Add the keys of newer versions to runs of older ones, with their default values, so that all runs can be compared."""
    held = [_held(run) for run in runs]
    all_held = set[str]().union(*held)
    lacking = [bool(run.folder and own and all_held - own) for run, own in zip(runs, held, strict=True)]
    return [
        replace(run, facts={**_facts(read_config(run.folder)), **run.facts}) if lacks and run.folder else run
        for run, lacks in zip(runs, lacking, strict=True)
    ]


def _held(run: Run) -> set[str]:
    """Return the keys of the schema for which a run has a value, or a value of a key below."""
    return {key for key in typed_keys() if any(fact == key or fact.startswith(f"{key}.") for fact in run.facts)}


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _hashable(value) for key, value in flat(config)}


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else str(value) if isinstance(value, Mapping) else value


def _command(hydra: Mapping[str, Any], overrides: Sequence[str], environment: Mapping[str, Any]) -> str:
    """Return the command that runs this job again, in a new folder.

    It names the user's configuration folders, but not the folder `conf` of simcse-lit. In a run of another machine the
    latter is recognised by its place next to the script that `environment.json` names.
    """
    package = Path(next(iter(environment.get("command", ())), "")).parent
    own = [str(package / "conf"), *(str(parent / "conf") for parent in list(package.parents)[1:2])]
    sources = [source for source in hydra["runtime"]["config_sources"] if source["path"] not in own]
    node: Any = OmegaConf.create({"job": hydra["job"], "runtime": {"config_sources": sources}})
    module = hydra["job"]["name"]
    words = [f"simcse_lit.{module}" if module == "train" else module, *config_options(node)]
    words += [override for override in overrides if not override.startswith("resume=")]
    return f"python -m {shlex.join(words)}"


def _not_started(root: Path, runs: Sequence[Run]) -> list[Run]:
    """Return the jobs in a sweep's `multirun.yaml` that have no folder, because the sweep was stopped."""
    path = root / "multirun.yaml"
    hydra = read_yaml(path)["hydra"] if path.is_file() else {}
    sweeper = hydra.get("runtime", {}).get("choices", {}).get("hydra/sweeper")
    if sweeper not in ("basic", "cases"):
        return []
    params = [f"{key}={value}" for key, value in (hydra["sweeper"].get("params") or {}).items()]
    try:
        parsed = OverridesParser.create().parse_overrides([*params, *hydra["overrides"]["task"]])
        cases = hydra["sweeper"]["cases"] if sweeper == "cases" else [{}]
        jobs = jobs_of(cases, parsed)
    except HydraException:
        return []
    held = [_as_asked(run.overrides) for run in runs]
    environment = next((run.environment for run in runs if run.environment), {})
    return [
        Run(None, "", NOT_STARTED, "", job, _command(hydra, job, environment), {}, {}, {}, {}, {})
        for job in jobs
        if _as_asked(job) not in held
    ]


def _with_pooler(choices: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the groups. A pooler that was not chosen is that of the loss."""
    pooler = choices.get("pooler") or config.get("pooler", {}).get("name")
    return {**choices, **({"pooler": pooler} if "pooler" in choices else {})}


def _as_asked(overrides: Sequence[str]) -> list[str]:
    """Sort the overrides of a job, without `resume`, which does not change the result."""
    return sorted(override for override in overrides if not override.startswith("resume="))


def common_defaults(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Compose the overrides that all runs share. The result holds the default values of the keys that varied.

    Returns:
        Values by key, like `Run.facts`, for keys that have a value. None if the overrides cannot be composed here, for
        example because the user's files were moved.
    """
    common = [override for override in runs[0].overrides if all(override in run.overrides for run in runs)]
    try:
        composed = compose("train", [*common, *runs[0].own_files, "run_dir=unused"])
    except (HydraException, OmegaConfBaseException):
        return None
    choices = _with_pooler(composed.hydra.runtime.choices, composed)
    keys = {key for run in runs for key in run.facts if key not in choices}
    return {**choices, **{key: value for key in keys if (value := _select(composed, key)) is not None}}


def _select(composed: Any, key: str) -> Any:
    """Return the resolved value of a key; None if it has none, or if an environment variable that it needs is not set."""
    try:
        value = OmegaConf.select(composed, key)
    except OmegaConfBaseException:
        return None
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
