"""The presets of other launchers: each runs two jobs of real training, of the smallest model."""

import json
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from simcse_lit.config.cli import CONF_DIR

from .conftest import Cli
from .test_training import TINY

SHORT = (*TINY, "trainer.max_steps=2", "evaluation.before=false", "evaluation.test=false", "hydra.sweep.dir=sweep")


@pytest.mark.parametrize(
    ("preset", "plugin"), [("joblib", "hydra_joblib_launcher"), ("submitit", "hydra_submitit_launcher")]
)
def test_a_preset_runs_two_jobs_each_in_its_own_folder(cli: Cli, tmp_path: Path, preset: str, plugin: str) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    done = cli("-m", f"+sweep={preset}", "trainer=cpu", *SHORT, "seed=1,2")
    assert done.returncode == 0, done.stderr
    for number, seed in (("0", 1), ("1", 2)):
        assert yaml.safe_load((tmp_path / "sweep" / number / "config.yaml").read_text())["seed"] == seed
        assert json.loads((tmp_path / "sweep" / number / "scores.json").read_text())["after"]


def test_optuna_runs_two_trials(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = cli("-m", "+sweep=optuna", "hydra.sweeper.n_trials=2", *SHORT, "loss.temperature=interval(0.05,0.5)")
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    scores = [json.loads((tmp_path / "sweep" / number / "scores.json").read_text())["after"]["Pairs-dev"] for number in "01"]
    assert best["best_value"] == pytest.approx(max(scores))


def test_the_preset_for_slurm_composes_with_its_launcher() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", ["+sweep=slurm", "hydra.launcher.partition=gpu"], return_hydra_config=True)
    launcher = composed.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.gpus_per_node, launcher.array_parallelism) == ("gpu", 1, 16)
