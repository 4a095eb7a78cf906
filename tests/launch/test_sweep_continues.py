"""A sweep that was stopped goes on: finished jobs are known by their resolved configuration, and none is run twice.

The jobs leave what training leaves and train nothing, so they start in a second.
"""

import subprocess
from pathlib import Path

import pytest
import yaml

from simcse_lit.config.same_run import identity
from simcse_lit.report import report
from tests.launch.test_launcher import finish, start

JOB = """
import json, os, time
from pathlib import Path
from omegaconf import OmegaConf
from simcse_lit.cli.cli import run
from simcse_lit.config.checks.train import validate
from simcse_lit.errors import UserError

def task(composed):
    config = validate(composed)
    folder = Path(config.run_dir)
    with open(os.environ["STARTS"], "a") as file:
        file.write(f"{config.loss.temperature} {config.seed} {folder.name} {config.resume}\\n")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True))
    if config.seed == 13 and not config.resume:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        raise UserError("seed=13: is unlucky.")
    score = 100 * config.loss.temperature + config.seed
    (folder / "scores.json").write_text(json.dumps({"after": {"dev": {"STS-B-dev": score}, "test": {"STS-B": 1.0}}}))
    if os.environ.get("STOP_IN") == folder.name:
        os.kill(os.getppid(), 2)
        time.sleep(5)
    return score

if __name__ == "__main__":
    run("train", task)
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


def sweep(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return finish(
        start(folder, "-m", "trainer=cpu", "hydra.sweep.dir=sweep", *arguments, STARTS=str(folder / "starts"), **env)
    )


def started(folder: Path) -> list[str]:
    """What ran since the last look: temperature, seed, folder, resume."""
    lines = (folder / "starts").read_text().splitlines() if (folder / "starts").exists() else []
    (folder / "starts").write_text("")
    return lines


@pytest.mark.long
def test_stopped_after_two_of_six_jobs_the_same_command_runs_four_and_the_report_has_six(job: Path) -> None:
    grid = ("loss.temperature=0.01,0.05,0.1", "seed=1,2")
    stopped = sweep(job, *grid, STOP_IN="1")
    assert stopped.returncode == 130, stopped.stderr
    assert started(job) == ["0.01 1 0 None", "0.01 2 1 None"]
    listed = report(job / "sweep").read_text()
    assert "2 finished, 4 not started" in listed

    done = sweep(job, *grid)
    assert (done.returncode, done.stderr) == (0, "")
    assert started(job) == ["0.05 1 2 None", "0.05 2 3 None", "0.1 1 4 None", "0.1 2 5 None"]
    assert "Job 0   finished  2.00 in sweep/0  loss.temperature=0.01 seed=1" in done.stdout
    page = report(job / "sweep").read_text()
    assert "6 runs: 6 finished." in page and page.count("python -m job") == 6


def test_a_job_is_known_by_its_configuration_wherever_it_stands_and_another_one_overwrites_nothing(job: Path) -> None:
    assert sweep(job, "loss.temperature=0.01,0.05", "seed=1").returncode == 0
    started(job)
    done = sweep(job, "loss.temperature=0.1,5e-2", "seed=1")  # 0.05 is job 1 again, 0.1 would take the folder of 0.01
    assert done.returncode == 0, done.stderr
    assert started(job) == ["0.1 1 0-2 None"]
    assert yaml.safe_load((job / "sweep/0/config.yaml").read_text())["loss"]["temperature"] == 0.01
    assert sweep(job, "loss.temperature=0.05", "seed=1", "tasks=transfer").returncode == 0  # other scores: another run
    assert len(started(job)) == 1


def test_no_data_folder_is_the_same_whether_the_variable_is_empty_or_not_set(job: Path) -> None:
    assert sweep(job, "seed=1", SIMCSE_DATA="").returncode == 0
    assert started(job) == ["0.05 1 0 None"]
    for again in (sweep(job, "seed=1", SIMCSE_DATA=""), sweep(job, "seed=1")):
        assert "Job 0   finished" in again.stdout, again.stderr
    assert started(job) == []
    needed = sweep(job, "seed=1", "data=file", "data.train_file=${oc.env:SIMCSE_DATA}/nli.csv", SIMCSE_DATA="")
    assert "SIMCSE_DATA is not set" in needed.stderr


def test_a_job_that_failed_says_why_in_its_folder_and_goes_on_from_its_checkpoint(job: Path) -> None:
    failed = sweep(job, "seed=1,13")
    assert failed.returncode == 1
    assert (job / "sweep/1/error.txt").read_text() == "seed=13: is unlucky.\n"
    assert "seed=13: is unlucky." in report(job / "sweep").read_text()
    started(job)
    again = sweep(job, "seed=1,13")
    assert again.returncode == 0, again.stderr
    assert started(job) == ["0.05 13 1 auto"]
    assert not (job / "sweep/1/error.txt").exists()
    assert "2 runs: 2 finished." in report(job / "sweep").read_text()


def test_the_identity_of_a_run_is_everything_but_its_place() -> None:
    here = {"run_dir": "/a/0", "resume": None, "seed": 1, "callbacks": {"last": {"dirpath": "/a/0/checkpoints"}}}
    there = {"run_dir": "/b/7", "resume": "auto", "seed": 1, "callbacks": {"last": {"dirpath": "/b/7/checkpoints"}}}
    assert identity(here) == identity(there)
    assert identity(here) == identity({**there, "demo": {"corpus": None, "queries": [], "next": ["another command"]}})
    assert identity(here) != identity({**there, "seed": 2})
    assert identity(here) != identity({**there, "callbacks": {"last": {"dirpath": "/elsewhere"}}})
