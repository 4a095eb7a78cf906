"""What the environment says of a process: torchrun's and srun's variables, whole, in part, and left over."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from simcse_lit.errors import UserError
from simcse_lit.launch import environment
from simcse_lit.launch.processes import RANK_VARIABLES
from tests.cli.test_evaluate import raw_model
from tests.cli.test_train import TINY
from tests.conftest import LIMIT_S, Cli, inherited

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77"}
SHELL = {**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_TASK_PID": "1"}
SHORT = (*TINY, "trainer.max_steps=2", "evaluation.before=false", "tasks=[]", "evaluation.test=false", "analyses=[]")


def set_only(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in RANK_VARIABLES:
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (None, 1)),
        (TORCHRUN, (1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"RANK": "first"}, (None, 1)),
        ({"RANK": ""}, (None, 1)),
        ({"LOCAL_RANK": "1"}, (None, 1)),
        ({"WORLD_SIZE": "8"}, (None, 1)),
        (SRUN, (0, 4)),
        ({**SRUN, "SLURM_PROCID": "3"}, (3, 4)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, (None, 1)),
        (SHELL, (None, 1)),  # srun -n 4 --pty bash
        ({**SHELL, "SLURM_JOB_NAME": "interactive"}, (None, 1)),  # within salloc
        ({**SHELL, "SLURM_JOB_NAME": "mine", "SLURM_PTY_PORT": "40001"}, (None, 1)),
        ({**SHELL, "SLURM_TASK_PID": str(os.getpid())}, (0, 4)),  # srun -n 4 python, typed in that shell
        ({**SHELL, "SLURM_PROCID": "2"}, (2, 4)),
        ({**SRUN, "SLURM_JOB_NAME": "train.sh"}, (0, 4)),
    ],
)
def test_place_and_number_of_processes(
    variables: dict[str, str], expected: tuple[int | None, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, variables)
    assert (environment.rank(), environment.processes()) == expected


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RANK": "0"}, "RANK=0, but no WORLD_SIZE, no LOCAL_RANK, no MASTER_ADDR, no MASTER_PORT: "),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK=0, but no MASTER_ADDR, no MASTER_PORT: "),
        ({**TORCHRUN, "RANK": "first"}, "RANK=first: "),
        ({**TORCHRUN, "RANK": "-1"}, "RANK=-1: "),
        ({**TORCHRUN, "RANK": ""}, "no RANK: "),
        ({**TORCHRUN, "MASTER_PORT": "http"}, "RANK=1, but MASTER_PORT=http: "),
        ({**TORCHRUN, "WORLD_SIZE": "all"}, "RANK=1, but WORLD_SIZE=all: "),
        ({**TORCHRUN, "RANK": "2"}, "RANK=2 WORLD_SIZE=2: a rank must be between 0 and 1. "),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK=1 WORLD_SIZE=1: a rank must be between 0 and 0. "),
    ],
)
def test_a_rank_that_lacks_a_variable_is_told_in_one_line_what_to_type(
    variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, variables)
    with pytest.raises(UserError) as raised:
        environment.check(2, 1)
    message = str(raised.value)
    assert message.startswith(says) and "\n" not in message
    assert "env -u RANK COMMAND" in message


@pytest.mark.parametrize(
    ("variables", "devices", "says"),
    [
        (TORCHRUN, 1, "WORLD_SIZE=2: but trainer.devices=1 trainer.num_nodes=1 need 1 processes."),
        (TORCHRUN, 4, "WORLD_SIZE=2: but trainer.devices=4 trainer.num_nodes=1 need 4 processes."),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 2, "WORLD_SIZE=1: but trainer.devices=2"),
        (SRUN, 1, "srun: 4 tasks: but trainer.devices=1"),
    ],
)
def test_as_many_processes_as_are_asked_for(
    variables: dict[str, str], devices: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, variables)
    with pytest.raises(UserError, match=says):
        environment.check(devices, 1)
    if variables in (TORCHRUN, SRUN):
        environment.check(environment.processes(), 1)
        assert {name: os.environ[name] for name in variables} == variables


@pytest.mark.parametrize(
    "variables", [{"LOCAL_RANK": "1"}, {"WORLD_SIZE": "8", "MASTER_ADDR": "here"}, SHELL, {"SLURM_NTASKS": "8"}]
)
def test_what_is_left_over_is_removed_so_that_no_library_takes_the_process_for_a_rank(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, variables)
    environment.check(1, 1)
    assert not set(RANK_VARIABLES) & set(os.environ)
    assert [os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_JOB_NAME")] == [
        variables.get(name) for name in ("SLURM_JOB_ID", "SLURM_JOB_NAME")
    ]


def test_the_command_is_told_too(warm_cli: Cli, tmp_path: Path) -> None:
    done = warm_cli(*SHORT, env={"RANK": "0"})
    assert done.returncode == 1
    assert done.stderr.strip().startswith("Error: RANK=0, but no WORLD_SIZE") and "Traceback" not in done.stderr


def test_a_verb_that_has_one_process_says_and_writes_what_it_always_does(warm_cli: Cli, tmp_path: Path) -> None:
    raw_model(tmp_path / "raw", 0)
    arguments = ("checkpoint=raw", "pooler=avg", "tasks=samples", "senteval.from_hub=false")
    done = warm_cli(*arguments, command="evaluate", env={"RANK": "1"})
    assert done.returncode == 0, done.stderr
    assert "STS: Spearman x 100" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "raw"]


@pytest.mark.parametrize(
    "variables",
    [{"LOCAL_RANK": "1"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, SHELL, {"RANK": "0", "WORLD_SIZE": "1"}],
    ids=["LOCAL_RANK", "WORLD_SIZE", "srun --pty bash", "a container"],
)
def test_a_run_in_an_environment_with_left_overs_trains_alone_and_logs(
    cli: Cli, tmp_path: Path, variables: dict[str, str]
) -> None:
    """A new Python: Lightning reads the variables while it is imported."""
    done = cli(*SHORT, env=variables)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) > 2
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()


def test_a_process_whose_fellows_do_not_come_says_whom_it_waits_for(tmp_path: Path) -> None:
    code = (
        "import simcse_lit.launch.meeting as meeting; meeting.LATE_S = 0.5; import torch.distributed as dist;"
        "from datetime import timedelta; real = dist.rendezvous;"
        "dist.rendezvous = lambda url: real(url, timeout=timedelta(seconds=3));"
        "from simcse_lit.errors import UserError\n"
        "try: meeting.together(lambda: 1)\n"
        "except UserError as error: print(error)"
    )
    for rank in ("0", "1"):
        env = {**inherited(), **TORCHRUN, "RANK": rank, "MASTER_PORT": str(20000 + os.getpid() % 10000)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert f"rank {rank}: waiting at 127.0.0.1:{env['MASTER_PORT']} for the other processes (2 in all)." in done.stderr
        assert f"rank {rank}: not all 2 processes reached 127.0.0.1" in done.stdout
        assert "env -u RANK COMMAND" in done.stdout


def test_tasks_of_srun_train_together_even_if_their_job_is_called_interactive(tmp_path: Path) -> None:
    """As `srun --ntasks-per-node 2 python ...` in the shell of `salloc --ntasks-per-node 2`."""
    job = {"SLURM_JOB_NAME": "interactive", "SLURM_JOB_ID": str(10000 + os.getpid() % 9000), "SLURM_NODELIST": "127.0.0.1"}
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    task = {"SLURM_NODEID": "0", "SIMCSE_CACHE": str(tmp_path / "cache")}
    command = f"SLURM_TASK_PID=$$ exec {sys.executable} -m simcse_lit.train {' '.join([*SHORT, 'trainer=ddp_cpu'])}"
    started = [
        subprocess.Popen(
            ["sh", "-c", command.replace("=[]", "='[]'")],
            cwd=tmp_path,
            env={**inherited(), **job, **step, **task, "SLURM_PROCID": place, "SLURM_LOCALID": place},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for place in ("0", "1")
    ]
    out = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], out
    assert out[0].count("Run folder") == 1 and "Run folder" not in out[1]
    assert "2 x cpu" in out[0]
