"""The paper's tables as presets and folders: every job composes, is a row of the paper's, and stands in the README."""

import csv
import itertools
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, flag_override

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.train import validate
from simcse_lit.launch.cases import jobs_of
from tests.conftest import ROOT, Cli

EXPERIMENTS = sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md"))
NAMES = [folder.name for folder in EXPERIMENTS]
SCALES = ["paper", "miniature"]
NEEDED = {"objective": ["data.train_file=documents.txt"]}  # what the user has to name


def preset(name: str, scale: str) -> tuple[str, str]:
    """(command, the override that selects the preset)."""
    compares = (CONF_DIR / "comparison" / f"{name}.yaml").exists()
    command, group = ("evaluate", "comparison") if compares else ("train", "sweep")
    return command, f"+{group}={'miniature/' if scale == 'miniature' else ''}{name}"


@cache
def composed(name: str, scale: str, groups: tuple[str, ...] = ()) -> DictConfig:
    """The preset with options of groups, and Hydra's own settings."""
    command, chosen = preset(name, scale)
    needed = NEEDED.get(name, []) if scale == "paper" else []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(command, ["run_dir=unused", chosen, *needed, *groups], return_hydra_config=True)


def split(cases: list[Any], *overrides: str) -> list[list[str]]:
    return jobs_of(cases, OverridesParser.create().parse_overrides(list(overrides)))


@cache
def jobs(name: str, scale: str) -> list[list[str]]:
    """The overrides of every job with the first seed; of other seeds nothing else differs."""
    sweeper = composed(name, scale).hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    every = split(sweeper.cases, *params) if "cases" in sweeper else [[]]
    return [job for job in every if "seed=0" in job or not any(part.startswith("seed=") for part in job)]


def resolved(name: str, scale: str, job: list[str]) -> DictConfig:
    """The configuration of a job; what is no group is set in a copy, since composing takes half a second."""
    parsed = OverridesParser.create().parse_overrides(job)
    groups = [str(part.input_line) for part in parsed if "." not in part.key_or_group and part.key_or_group != "seed"]
    config = composed(name, scale, tuple(groups)).copy()
    with flag_override(config, ["struct", "readonly"], False):
        del config["hydra"]
    for override in parsed:
        if override.input_line not in groups:
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=override.is_add())
    return config


def published(name: str) -> list[dict[str, str]]:
    path = ROOT / "experiments" / name / "paper.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", str(ROOT / "tests"))  # a folder that exists


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_job_of_every_experiment_composes_and_validates(name: str, scale: str) -> None:
    found = jobs(name, scale)
    assert found
    if scale == "miniature" and found == jobs(name, "paper"):
        found = found[:1]
    for job in found:
        config = resolved(name, scale, job)
        if preset(name, scale)[0] == "train":
            own = dict(word.split("=", 1) for word in job).get("name", name)  # successors names each method
            assert validate(config).name == own
            continue
        config.checkpoint = "none"  # a pattern needs exports that match
        if str(config.postprocess.fit_on).startswith("/"):
            config.postprocess.fit_on = __file__
        assert validate_evaluation(config).name == name


@pytest.mark.parametrize("name", [name for name in NAMES if published(name)])
def test_jobs_at_the_papers_scale_and_rows_of_the_papers_table_are_the_same(name: str) -> None:
    rows = published(name)
    keys = [key for key in rows[0] if key not in ("metric", "paper", "source")]
    told = [[yaml.safe_load(row[key]) for key in keys] for row in rows]
    ran = []
    for job in jobs(name, "paper"):
        config = resolved(name, "paper", job)
        values = [OmegaConf.select(config, key) for key in keys]
        if name == "aggregation":  # one job for all encoders
            ran += [[checkpoint] for checkpoint in values[0]]
        elif name != "postprocess" or config.postprocess.name == "whitening":  # without it: what it is compared with
            ran.append([list(value) if OmegaConf.is_list(value) else value for value in values])
    assert [values for values in told if values not in ran] == []
    assert [values for values in ran if values not in told] == []
    assert all(float(row["paper"]) > 0 and row["source"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_readme_names_the_commands_and_quotes_the_papers_figures(name: str) -> None:
    folder = ROOT / "experiments" / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for scale in SCALES:
        command, chosen = preset(name, scale)
        assert f"make experiment NAME={name} SCALE={scale}" in text
        assert f"# python -m simcse_lit.{command} -m {chosen}" in text
    assert [line for line in text.splitlines() if line.startswith("#")][1:] == ["## The paper", "## Ours"]
    rows = published(name)
    if rows:
        table = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        lines = ["|---" * len(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |" for row in table]
        assert "\n".join(lines) in text, "\n".join(["the table of paper.csv is:", *lines])


def test_every_preset_has_a_folder_and_every_folder_a_preset_at_both_scales() -> None:
    found: set[str] = set()
    for group in ("sweep", "comparison"):
        names = {path.stem for path in (CONF_DIR / group).glob("*.yaml")} - {"optuna", "joblib", "slurm", "submitit"}
        assert names == {path.stem for path in (CONF_DIR / group / "miniature").glob("*.yaml")}
        found |= names
    assert found == set(NAMES)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=4), st.sampled_from("abz"))
def test_each_case_is_run_with_every_combination_of_the_rest(cases: list[dict[str, int]], swept: str) -> None:
    expected = []
    for case, value, seed in itertools.product(cases, (7, 8), (1, 2)):
        job = {**{key: str(number) for key, number in case.items()}, swept: str(value), "seed": str(seed)}
        if job not in expected:
            expected.append(job)
    made = split(cases, f"{swept}=7,8", "seed=1,2")
    as_dicts = [dict(part.split("=") for part in job) for job in made]
    assert sorted(map(sorted, (job.items() for job in as_dicts))) == sorted(map(sorted, (job.items() for job in expected)))


def test_cases_come_in_order_and_each_job_once() -> None:
    jobs = split([{"a": 1}, {"b": "2,3"}, {"c": 4, "a": 1}, {"a": 1, "c": 4}], "s=1,2")
    assert [" ".join(job) for job in jobs[:6]] == ["a=1 s=1", "a=1 s=2", "b=2 s=1", "b=2 s=2", "b=3 s=1", "b=3 s=2"]
    assert [" ".join(job) for job in jobs[6:]] == ["c=4 a=1 s=1", "c=4 a=1 s=2"]


@pytest.mark.long
def test_a_preset_runs_its_jobs(cli: Cli, tmp_path: Path) -> None:
    """Of six cases the command line leaves two different ones."""
    sweep = ("-m", "+sweep=temperature", "loss.temperature=0.05,0.1", "loss.similarity=cosine", "seed=0")
    tiny = (
        "model=tiny",
        "data=samples",
        "senteval.from_hub=false",
        "trainer=cpu",
        "data.batch_size=8",
        "trainer.max_steps=1",
    )
    done = cli(*sweep, *tiny, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent for path in (tmp_path / "sweep").glob("*/scores.json"))
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    assert [config["loss"]["temperature"] for config in configs] == [0.05, 0.1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("NAME=temperature", "SCALE=miniature", "ARGS=seed=7"),
            [
                "python -m experiments.run temperature seed=7",
                "python -m experiments.evidence",
            ],
        ),
        (
            ("NAME=temperature", "SCALE=paper", "ARGS=trainer=gpu"),
            [
                "python -m simcse_lit.train -m +sweep=temperature hydra.sweep.dir=multirun/temperature/paper resume=auto "
                "trainer=gpu",
                "python -m simcse_lit.report multirun/temperature/paper paper=experiments/temperature/paper.csv "
                "out=experiments/temperature/paper",
            ],
        ),
        (
            ("NAME=postprocess", "SCALE=paper"),
            ["python -m simcse_lit.evaluate -m +comparison=postprocess hydra.sweep.dir=multirun/postprocess/paper"],
        ),
    ],
)
def test_make_experiment_runs_the_preset_and_reports_beside_the_papers_figures(
    arguments: tuple[str, ...], expected: list[str]
) -> None:
    plan = subprocess.run(["make", "-n", "experiment", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [
        " ".join(line.split()) for line in plan.stdout.splitlines() if "-m simcse_lit" in line or "-m experiments" in line
    ]
    assert [command[command.index("python") :] for command in commands] == expected
