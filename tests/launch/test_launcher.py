"""Multiruns: each job is a process of its own, and each device of a job one more.

Most tests run `JOB`, a command as a user may write one around ours, which trains nothing and so starts in a second.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR
from simcse_lit.errors import UserError
from simcse_lit.launch import ranks
from simcse_lit.launch.command import job_arguments
from simcse_lit.launch.devices import visible_gpus
from tests.cli.test_train import TINY
from tests.conftest import LIMIT_S, Cli

JOB = """
import json, logging, os, time
from pathlib import Path
from simcse_lit.cli.cli import run
from simcse_lit.errors import UserError
from simcse_lit.launch import ranks

log = logging.getLogger("simcse_lit.job")

def task(config):
    if config.trainer.devices > 1 and config.trainer.accelerator == "cpu" and ranks.rank() is None:
        return ranks.start_ranks("job", config.trainer.devices, config.trainer.num_nodes)
    started, rank = time.time(), ranks.rank() or 0
    run_dir = Path(ranks.agree_on_run_dir(config.run_dir) if config.group == "agree" else config.run_dir)
    (run_dir / f"pid-{rank}").write_text(str(os.getpid()))
    print(f"print of seed {config.seed} rank {rank}", flush=True)
    log.info("info of rank %d", rank)
    if config.seed == 13:
        raise UserError("seed=13: is unlucky.\\nTake another one.")
    if config.seed == 14:
        os.kill(os.getpid(), 9)
    if config.seed == 15 and rank == 1:
        raise UserError("seed=15: rank 1 does not like it.")
    if config.seed == 16:
        raise RuntimeError("a mistake of ours")
    time.sleep(900 if config.seed in (15, 99) else float(os.environ.get("SLEEP", 0)))
    value = float(config.seed)
    if ranks.rank() is not None:
        import torch
        torch.distributed.init_process_group("gloo")
        parts = torch.tensor([value])
        torch.distributed.all_reduce(parts)
        value = parts.item()
        torch.distributed.destroy_process_group()
    facts = {"environment": dict(os.environ), "started": started, "ended": time.time(), "model": config.model.name_or_path}
    (run_dir / f"facts-{rank}.json").write_text(json.dumps(facts))
    return value

if __name__ == "__main__":
    run("train", task)
"""

# Of each run, by Hydra; the signature is ours.
HYDRAS_OWN = {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", ".hydra/signature"}
OF_TWO_RANKS = {*HYDRAS_OWN, "job.log", "pid-0", "pid-1", "facts-0.json", "facts-1.json"}


@pytest.fixture(autouse=True)
def job(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


def start(folder: Path, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    """`python -m job ARGUMENTS`, which SIGINT reaches even where the tests run in the background."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SIMCSE_", "CUDA_", "HYDRA_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "job", *arguments],
        cwd=folder,
        env={**inherited, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    out, error = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def files(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if "__pycache__" not in name and name != "job.py"}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_jobs_have_a_process_folder_configuration_and_log_each_and_nothing_is_anywhere_else(job: Path) -> None:
    done = finish(start(job, "-m", "trainer=cpu", "seed=1,2", "hydra.sweep.dir=sweep"))
    assert (done.returncode, done.stderr) == (0, "")
    a_job = {*HYDRAS_OWN, "job.log", "pid-0", "facts-0.json"}
    assert files(job) == {"sweep/multirun.yaml"} | {f"sweep/{number}/{name}" for number in (0, 1) for name in a_job}
    assert len({(job / f"sweep/{number}/pid-0").read_text() for number in (0, 1)}) == 2
    for number, seed in ((0, "seed=1"), (1, "seed=2")):
        overrides = yaml.safe_load((job / f"sweep/{number}/.hydra/overrides.yaml").read_text())
        assert overrides == ["trainer=cpu", seed]
        assert "info of rank 0" in (job / f"sweep/{number}/job.log").read_text()
    assert "print of seed 1 rank 0" in done.stdout  # one at a time has the terminal
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_job_that_fails_says_why_and_the_others_run(job: Path) -> None:
    done = finish(
        start(job, "-m", "trainer=cpu", "seed=13,14,16,1", "hydra.sweep.dir=sweep", "hydra.launcher.jobs_at_once=2")
    )
    assert done.returncode == 1
    assert "failed    in" in done.stdout and "done      1.00" in done.stdout
    assert done.stdout.count("Take another one.") == 1
    summary = done.stderr.removeprefix("\nError: ").splitlines()
    assert summary[0] == "3 jobs failed:"
    assert sorted(summary[1:]) == [
        "  job 0: seed=13: is unlucky.",
        "  job 1: killed by SIGKILL (out of memory?).",
        "  job 2: RuntimeError: a mistake of ours",
    ]
    assert "Traceback" not in done.stderr + done.stdout
    assert 'raise RuntimeError("a mistake of ours")' in (job / "sweep/2/console.log").read_text()
    assert "facts-0.json" in files(job / "sweep/3")


def test_jobs_side_by_side_have_a_console_and_a_part_of_the_cores_each(job: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    env = {"LOCAL_RANK": "3", "TORCHELASTIC_RUN_ID": "x", "MASTER_PORT": "1", "WORLD_SIZE": "4", "SLURM_NTASKS": "4"}
    arguments = ("-m", "trainer=cpu", "seed=1,2", "hydra.sweep.dir=sweep", "hydra.launcher.jobs_at_once=2")
    os.environ.pop("OMP_NUM_THREADS", None)
    done = finish(start(job, *arguments, **env, SLEEP="2"))
    assert done.returncode == 0, done.stderr
    assert "print of seed" not in done.stdout
    found = []
    for number in (0, 1):
        assert f"print of seed {number + 1} rank 0" in (job / f"sweep/{number}/console.log").read_text()
        found.append(json.loads((job / f"sweep/{number}/facts-0.json").read_text()))
        environment = found[-1]["environment"]
        assert environment["OMP_NUM_THREADS"] == str(max(1, cores // 2))
        assert not environment.keys() & env.keys()
    assert found[1]["started"] < found[0]["ended"] and found[0]["started"] < found[1]["ended"]


def test_gpus_are_handed_out_and_none_is_shared(job: Path) -> None:
    arguments = ("-m", "trainer=gpu", "trainer.devices=2", "seed=range(1,5)", "hydra.sweep.dir=sweep")
    done = finish(start(job, *arguments, CUDA_VISIBLE_DEVICES="4,5,6,7,8", SLEEP="1"))
    assert done.returncode == 0, done.stderr
    assert "4 jobs, 2 side by side" in done.stdout
    found = [json.loads((job / f"sweep/{number}/facts-0.json").read_text()) for number in range(4)]
    gpus = [set(facts["environment"]["CUDA_VISIBLE_DEVICES"].split(",")) for facts in found]
    assert all(len(own) == 2 and own <= set("45678") for own in gpus)
    together = 0
    for first in range(4):
        for second in range(first):
            if found[first]["started"] < found[second]["ended"] and found[second]["started"] < found[first]["ended"]:
                together += 1
                assert not gpus[first] & gpus[second]
    assert together >= 1


def test_more_gpus_than_there_are_is_a_message(job: Path) -> None:
    done = finish(start(job, "-m", "trainer=gpu", "trainer.devices=3", "seed=1,2", CUDA_VISIBLE_DEVICES="0,1"))
    assert done.returncode == 1
    assert "trainer.devices=3: only 2 GPUs are visible." in done.stderr


@pytest.mark.parametrize(("chosen", "expected"), [("", []), ("-1", []), ("2", ["2"]), ("0,GPU-a, 3", ["0", "GPU-a", "3"])])
def test_visible_gpus_are_those_that_cuda_would_see(
    chosen: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == expected


def test_two_processes_are_one_run(job: Path) -> None:
    done = finish(start(job, "trainer=ddp_cpu", "seed=5", "hydra.run.dir=run"))
    assert (done.returncode, done.stderr) == (0, "")
    assert files(job) == {
        f"run/{name}" for name in (*HYDRAS_OWN, "job.log", "pid-0", "pid-1", "facts-0.json", "facts-1.json")
    }
    assert "info of rank 0" in done.stdout and "info of rank 1" not in done.stdout
    assert "info of rank 1" not in (job / "run/job.log").read_text()
    assert yaml.safe_load((job / "run/.hydra/overrides.yaml").read_text()) == ["trainer=ddp_cpu", "seed=5"]
    threads = json.loads((job / "run/facts-1.json").read_text())["environment"]["OMP_NUM_THREADS"]
    assert threads == os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))


@pytest.mark.long
def test_optuna_is_told_what_jobs_of_two_processes_return(job: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ("trainer=ddp_cpu", "seed=choice(5,6,7)", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=sweep")
    done = finish(start(job, "-m", "+sweep=optuna", *arguments))
    assert done.returncode == 0, done.stderr
    swept = {f"sweep/{number}/{name}" for number in (0, 1) for name in OF_TWO_RANKS}
    assert files(job) == {"sweep/optimization_results.yaml"} | swept
    results = yaml.safe_load((job / "sweep/optimization_results.yaml").read_text())
    assert results["best_value"] == 2 * results["best_params"]["seed"]  # the two ranks' sum


def test_the_error_of_one_rank_is_the_runs_and_said_once(job: Path) -> None:
    started = time.monotonic()
    done = finish(start(job, "trainer=ddp_cpu", "seed=15", "hydra.run.dir=run"))
    assert done.returncode == 1
    assert done.stderr.split("Error: ")[1:] == ["seed=15: rank 1 does not like it.\n"]
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 45  # rank 0 was not waited for


def test_a_rank_that_is_killed_is_named(job: Path) -> None:
    done = finish(start(job, "trainer=ddp_cpu", "seed=14", "hydra.run.dir=run"))
    assert done.returncode == 1
    assert "killed by SIGKILL" in done.stderr and "Error: rank " in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize(
    ("signum", "code", "devices"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1), (signal.SIGKILL, -9, 2)]
)
def test_no_process_outlives_a_multirun_that_is_stopped(job: Path, signum: int, code: int, devices: int) -> None:
    trainer = "trainer=ddp_cpu" if devices == 2 else "trainer=cpu"
    process = start(job, "-m", trainer, "seed=99,98", "hydra.sweep.dir=sweep")
    pids = [job / "sweep/0" / f"pid-{rank}" for rank in range(devices)]
    last = time.monotonic() + LIMIT_S
    while not all(path.exists() and path.read_text() for path in pids) and time.monotonic() < last:
        time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(signum)
    done = finish(process)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    while any(alive(int(path.read_text())) for path in pids) and time.monotonic() < started + 600:
        time.sleep(0.1)
    assert [path for path in pids if alive(int(path.read_text()))] == []
    assert time.monotonic() - started < 800  # of themselves they would have slept for a quarter of an hour
    assert not (job / "sweep/1").exists()


def test_ranks_that_torchrun_started_agree_on_the_folder_of_rank_zero(job: Path) -> None:
    env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 10000)}
    command = [sys.executable, "-m", "job", "trainer=ddp_cpu", "seed=3", "group=agree"]
    started = []
    for rank in (1, 0):
        started.append(subprocess.Popen(command, cwd=job, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        time.sleep(1.1)  # another second, so another folder's name
    assert [process.wait(timeout=LIMIT_S) for process in started] == [0, 0]
    (folder,) = (job / "outputs/unsup").iterdir()
    assert files(job) == {str((folder / name).relative_to(job)) for name in OF_TWO_RANKS}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # a batch script, which srun has not multiplied
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8"}, 5),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
    ],
)
def test_a_rank_is_known_by_its_environment(
    environment: dict[str, str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.rank() == expected


def test_several_nodes_are_for_the_user_to_start(job: Path) -> None:
    with pytest.raises(UserError, match=r"trainer\.num_nodes=4(.|\n)*torchrun --nnodes 4 --nproc-per-node 8(.|\n)*srun"):
        ranks.start_ranks("simcse_lit.train", 8, 4)


def test_a_multirun_under_torchrun_is_refused(job: Path) -> None:
    done = finish(start(job, "-m", "seed=1,2", RANK="0", WORLD_SIZE="2"))
    assert done.returncode == 1
    assert "-m under torchrun or srun" in done.stderr


@pytest.mark.parametrize("value", ["0", "some", "-1", "1.5"])
def test_an_impossible_number_of_jobs_is_refused(job: Path, value: str) -> None:
    done = finish(start(job, "-m", "seed=1,2", f"hydra.launcher.jobs_at_once={value}"))
    assert done.returncode == 1
    assert f"hydra.launcher.jobs_at_once={value}: must be 1 or more, or auto." in done.stderr


def test_a_jobs_arguments_are_its_own_and_not_its_sweeps(job: Path) -> None:
    swept = ("hydra.sweep.dir=my sweep", "hydra/launcher=basic", "+hydra.launcher.x=1", "hydra.mode=MULTIRUN")
    kept = ("+hydra.job.env_set.A=1", "hydra.verbose=true")
    overrides = ("seed=3", "+trainer.extra.limit_val_batches=2", "~callbacks.progress")
    with initialize_config_dir(str(CONF_DIR), job_name="train", version_base="1.3"):
        config = compose("train", [*overrides, *swept, *kept, "hydra.job.num=4", "hydra.job.id=4"], return_hydra_config=True)
    arguments = job_arguments(config.hydra, "/a b/it's, {here}=1")
    assert arguments[:5] == [*overrides, *kept]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        again = compose("train", [word for word in arguments if not word.startswith("--")], return_hydra_config=True)
    assert again.hydra.run.dir == "/a b/it's, {here}=1"
    assert (again.hydra.job.num, again.hydra.sweep.dir, again.hydra.mode.name) == (4, "my sweep", "RUN")
    assert again.hydra.job.env_set.A == "1" and again.trainer.extra.limit_val_batches == 2


def test_a_users_own_configuration_reaches_the_jobs(job: Path) -> None:
    (job / "own" / "model").mkdir(parents=True)
    (job / "own" / "model" / "mine.yaml").write_text("defaults: [default, _self_]\nname_or_path: ./weights\n")
    done = finish(start(job, "--config-dir", "own", "-m", "model=mine", "trainer=cpu", "seed=1", "hydra.sweep.dir=sweep"))
    assert done.returncode == 0, done.stderr
    assert json.loads((job / "sweep/0/facts-0.json").read_text())["model"] == "./weights"


def test_training_with_two_processes_leaves_what_one_process_leaves(cli: Cli, job: Path) -> None:
    (job / "own.tsv").write_text("a\tb\tgold\nRain\tSnow\t1\nSnow\tWind\t5\n")  # one batch to score, for two processes
    own = "_target_: simcse_lit.evaluation.sts.file, path: own.tsv, columns: [a, b, gold]"
    short = ("trainer.max_steps=2", "evaluation.before=false", "~dev.STS-B-dev", f"+dev.own={{{own}}}")
    done = cli(*TINY, "trainer=ddp_cpu", *short)
    assert done.returncode == 0, done.stderr
    assert {"own", "Pairs"} == {
        task for part in json.loads((job / "run/scores.json").read_text())["after"].values() for task in part
    }
    assert done.stdout.count("Encoder ") == done.stdout.count("Run folder") == 1
    promised = {
        *HYDRAS_OWN,
        "train.log",
        "metrics.csv",
        "environment.json",
        "export/model.safetensors",
        "checkpoints/last.ckpt",
    }
    assert files(job / "run") >= promised
    assert [name for name in files(job) if name.endswith(".log")] == ["run/train.log"]
    assert {path.name for path in job.iterdir()} == {"job.py", "own.tsv", "run"}
