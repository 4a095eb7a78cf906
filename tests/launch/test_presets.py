"""The presets of other launchers and sweepers: each runs two jobs, which train nothing."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR
from tests.launch.test_launcher import finish, job, start

__all__ = ["job"]


@pytest.mark.parametrize(
    ("preset", "plugin"), [("joblib", "hydra_joblib_launcher"), ("submitit", "hydra_submitit_launcher")]
)
def test_a_preset_runs_two_jobs_each_in_its_own_folder(job: Path, preset: str, plugin: str) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    done = finish(start(job, "-m", f"+sweep={preset}", "trainer=cpu", "seed=1,2", "hydra.sweep.dir=sweep"))
    assert done.returncode == 0, done.stderr
    for number, seed in (("0", "seed=1"), ("1", "seed=2")):
        assert (job / "sweep" / number / "facts-0.json").is_file()
        assert seed in yaml.safe_load((job / "sweep" / number / ".hydra" / "overrides.yaml").read_text())


def test_optuna_runs_two_trials_and_knows_the_higher(job: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ("+sweep=optuna", "hydra.sweeper.n_trials=2", "seed=range(1,9)")
    done = finish(start(job, "-m", *search, "trainer=cpu", "hydra.sweep.dir=sweep"))
    assert done.returncode == 0, done.stderr
    overrides = [yaml.safe_load((job / "sweep" / number / ".hydra" / "overrides.yaml").read_text()) for number in "01"]
    seeds = [int(word.partition("=")[2]) for words in overrides for word in words if word.startswith("seed=")]
    best = yaml.safe_load((job / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(seeds) and len(seeds) == 2


def test_the_preset_for_slurm_composes_with_its_launcher() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", ["+sweep=slurm", "hydra.launcher.partition=gpu"], return_hydra_config=True)
    launcher = composed.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.gpus_per_node, launcher.array_parallelism) == ("gpu", 1, 16)
