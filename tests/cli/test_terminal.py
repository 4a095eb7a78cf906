"""Terminals that cannot show every character: nothing that we print ends in an error, and files are UTF-8 all the same."""

import io
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from simcse_lit.cli.cli import say_anything
from simcse_lit.launch.processes import Supervisor
from tests.cli.test_train import TINY
from tests.conftest import inherited

Shown = Callable[..., tuple[int, str]]

# In the last two Python itself takes files for ASCII, or Latin-1 where the machine has it.
TERMINALS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]
TEXT = "▁▂▃ … × Δ 语料 é ☃"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", b"caf\\xe9 \\u2581 \\U0001f9c3"), ("cp1252", b"caf\xe9 \\u2581 \\U0001f9c3")]
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_an_encoding_lacks_is_written_by_its_number(
    monkeypatch: pytest.MonkeyPatch, name: str, encoding: str, expected: bytes, errors: str
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(terminal, encoding=encoding, errors=errors))
    say_anything()
    print("café ▁ 🧃", file=getattr(sys, name), end="", flush=True)
    assert terminal.getvalue() == expected


def test_a_choice_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="ascii", errors="replace"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no encoding
    say_anything()
    print("é", end="", flush=True)
    assert terminal.getvalue() == b"?"


@pytest.fixture
def shown(tmp_path: Path, cache_dir: Path) -> Shown:
    """Run a command in such a terminal; returns its exit status and what is seen there."""

    def run(env: Mapping[str, str], *arguments: str, command: str = "train") -> tuple[int, str]:
        whole = [sys.executable, "-m", f"simcse_lit.{command}", *arguments]
        environment = {**inherited(), "SIMCSE_CACHE": str(cache_dir), **env}
        done = subprocess.run(whole, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode(env.get("PYTHONIOENCODING", "utf-8"))

    return run


@pytest.mark.parametrize("env", TERMINALS)
def test_a_run_prints_its_tables_and_curve_and_its_log_is_utf_8(shown: Shown, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "corpus.txt").write_text(f"{TEXT}\nRain falls on the harbour.\n", encoding="utf-8")
    demo = ("demo.corpus=corpus.txt", "demo.queries=[rain]", "trainer.val_check_interval=1", "trainer.max_steps=2")
    status, out = shown(env, *TINY, *demo)
    assert (status, "UnicodeEncodeError" in out) == (0, False), out
    assert "Curve" in out and ("☃" in out or "\\u2603" in out)
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert TEXT in log and "Curve" in log


def test_a_log_holds_lines_and_no_bars(shown: Shown, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"Sentence {number}.\n" for number in range(400)), encoding="utf-8")
    model = ("checkpoint=run/export", "device=cpu")
    steps = ("loss=sup", "trainer.max_epochs=1", "trainer.val_check_interval=5")
    said = [
        shown({}, *TINY, *steps),
        shown({}, *model, "tasks=samples", "hydra.run.dir=scored", command="evaluate"),
        shown({}, *model, "input=corpus.txt", "output=corpus.npy", command="encode"),
        shown({}, *model, "input=corpus.txt", "folder=index", command="index"),
    ]
    for status, out in said:
        assert (status, "\r" in out, "\x1b" in out) == (0, False, False), out
    lines = said[0][1].splitlines()
    assert {"5/13", "10/13", "13/13"} <= {line.split()[1] for line in lines if line.startswith("Step ")}
    assert not [line for _, out in said for line in out.splitlines() if len(line) > 80]


@pytest.mark.parametrize("env", TERMINALS)
@pytest.mark.parametrize(
    ("arguments", "expected"), [(["--help"], 0), (["trainer.max_steps=0"], 1), (["name='語☃'", "seed=-1"], 1)]
)
def test_help_and_errors_are_printed(shown: Shown, env: dict[str, str], arguments: list[str], expected: int) -> None:
    status, out = shown(env, *TINY, *arguments)
    assert (status, "UnicodeEncodeError" in out) == (expected, False), out


@pytest.mark.parametrize("env", TERMINALS[:2])
def test_the_page_of_a_run_is_written(shown: Shown, tmp_path: Path, env: dict[str, str]) -> None:
    assert shown(env, *TINY, "trainer.max_steps=2", "evaluation.before=false")[0] == 0
    status, out = shown(env, "run", command="report")
    assert (status, "UnicodeEncodeError" in out) == (0, False), out


def test_the_console_of_a_job_is_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Supervisor(grace=1, announce=False) as supervisor:
        child = supervisor.start(
            [sys.executable, "-c", f"print({TEXT!r})"],
            cwd=str(tmp_path),
            variables={},
            console=tmp_path / "console.log",
        )
        supervisor.ended()
    assert child.outcome().error is None
    assert (tmp_path / "console.log").read_text(encoding="utf-8") == f"{TEXT}\n"
