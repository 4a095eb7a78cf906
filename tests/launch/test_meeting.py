"""Processes of one run share work, and wait for each other for longer than a process group would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simcse_lit.launch.meeting import shared, together
from tests.cli.test_train import TINY
from tests.conftest import LIMIT_S, inherited, metrics
from tests.launch.test_environment import set_only

SHORT = (*TINY, "trainer=ddp_cpu", "trainer.max_steps=2", "trainer.log_every_n_steps=1")
LIMIT = ("+trainer.strategy.timeout._target_=datetime.timedelta", "+trainer.strategy.timeout.seconds=8")

# Our command with a corpus that takes long to tokenise and tasks that take long to score.
SLOW = """
import os, time
from pathlib import Path
from simcse_lit.cli.cli import run

def slow(owner, name, seconds, rank=None):
    method = getattr(owner, name)
    def slowed(self, *arguments, **options):
        if rank in (None, os.environ.get("RANK")):
            with Path(f"{name}-{os.environ.get('RANK')}.txt").open("a") as file:
                file.write(f"{getattr(self, 'name', '')}\\n")
            time.sleep(seconds)
        return method(self, *arguments, **options)
    setattr(owner, name, slowed)

def task(config):
    from simcse_lit.cli.tasks import task_of
    from simcse_lit.data.datamodule import SimCSEDataModule
    from simcse_lit.evaluation.sts import STSTask
    slow(SimCSEDataModule, "prepare_corpus", float(os.environ["TOKENISING"]), "0")
    slow(STSTask, "score", float(os.environ["SCORING"]))
    return task_of("train")(config)

if __name__ == "__main__":
    run("train", task)
"""

MEET = """
import json, os, sys, time
from simcse_lit.errors import UserError
from simcse_lit.launch import meeting
rank = int(os.environ["RANK"])
meeting.SAY_S = 0.5
print(meeting.together(lambda: (time.sleep(2 * rank), f"of {rank}")[1]))
print(meeting.shared([lambda number=number: {"job": number, "by": rank} for number in range(5)]))
print(meeting.shared([]))
print(meeting.together(lambda: float("nan")))
def fails():
    if rank == 1:
        raise UserError("rank 1 does not like it.")
    return 1
try:
    meeting.together(fails)
except UserError as error:
    print(error)
"""


def ranks(code: str, size: int, folder: Path, **env: str) -> "list[subprocess.CompletedProcess[str]]":
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 10000)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**inherited(), **place, "RANK": str(rank), "LOCAL_RANK": str(rank), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    out = [process.communicate(timeout=LIMIT_S) for process in started]
    return [subprocess.CompletedProcess("", one.returncode, *said) for one, said in zip(started, out, strict=True)]


def test_every_process_gets_what_each_has_done(tmp_path: Path) -> None:
    for rank, done in enumerate(ranks(MEET, 2, tmp_path)):
        assert done.returncode == 0, done.stderr
        every, dealt, none, nan, failed = done.stdout.splitlines()
        assert every == "['of 0', 'of 1']"
        assert dealt == str([{"job": number, "by": number % 2} for number in range(5)])
        assert none == "[]" and nan == "[nan, nan]"
        assert failed == ("rank 1: rank 1 does not like it." if rank == 0 else "rank 1 does not like it.")


def test_alone_the_work_is_done_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    set_only(monkeypatch, {})
    kept = object()
    assert together(lambda: kept) == [kept]
    assert shared([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


def start(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    (folder / "slow.py").write_text(SLOW)
    environment = {**inherited(), "SIMCSE_CACHE": str(folder / "cache"), **env}
    command = [sys.executable, "-m", "slow", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.mark.long
def test_tokenising_and_scoring_may_take_longer_than_the_limit_of_the_process_group(tmp_path: Path) -> None:
    done = start(tmp_path, *SHORT, *LIMIT, "analyses=[]", "evaluation.before=false", TOKENISING="12", SCORING="12")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "prepare_corpus-0.txt").is_file() and (tmp_path / "score-0.txt").is_file()
    assert not (tmp_path / "score-1.txt").exists()  # one task at a time, which is rank 0's


@pytest.mark.long
def test_each_task_is_scored_once_with_the_numbers_of_one_process(tmp_path: Path) -> None:
    tasks = [f"+tasks.T{number}={{_target_: simcse_lit.evaluation.sts.bundled, half: test}}" for number in range(3)]
    arguments = (*SHORT, "tasks=samples", *tasks, "evaluation.before=false")
    done = start(tmp_path, *arguments, TOKENISING="0", SCORING="0")
    assert done.returncode == 0, done.stderr
    scored = [(tmp_path / f"score-{rank}.txt").read_text().split() for rank in (0, 1)]
    assert [[name for name in part if name != "Pairs-dev"] for part in scored] == [["Pairs", "T1"], ["T0", "T2"]]
    assert "Pairs-dev" in scored[0] and "Pairs-dev" not in scored[1]
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["after"]["test"]
    assert list(scores)[:4] == ["Pairs", "T0", "T1", "T2"] and len({scores[name] for name in list(scores)[:4]}) == 1
    assert {"val/sts", "val/alignment", "val/uniformity"} <= set(metrics(tmp_path / "run"))
