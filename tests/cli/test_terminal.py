"""Terminals that cannot show every character: nothing that we print ends in an error, and files are UTF-8 all the same."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from simcse_lit.cli.cli import say_anything
from simcse_lit.launch.processes import Supervisor
from tests.cli.test_train import TINY
from tests.conftest import Cli

# In the last two Python itself takes files for ASCII, or Latin-1 where the machine has it.
TERMINALS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]
TEXT = "▁▂▃ … × Δ 语料 é ☃"


def written(stream: Any) -> bytes:
    return bytes(stream.buffer.getvalue())


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", "caf\\xe9 \\u2581 \\U0001f9c3"), ("cp1252", "café \\u2581 \\U0001f9c3")]
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_an_encoding_lacks_is_written_by_its_number(
    monkeypatch: pytest.MonkeyPatch, encoding: str, expected: str, errors: str
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors))
    say_anything()
    for stream in (sys.stdout, sys.stderr):
        print("café ▁ 🧃", file=stream, end="", flush=True)
        assert written(stream).decode(encoding) == expected


def test_a_choice_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no encoding
    say_anything()
    print("é", end="", flush=True)
    assert written(sys.stdout) == b"?"


@pytest.mark.parametrize("env", TERMINALS)
def test_a_run_prints_its_tables_and_curve_and_its_log_is_utf_8(cli: Cli, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "corpus.txt").write_text(f"{TEXT}\nRain falls on the harbour.\n", encoding="utf-8")
    demo = ("demo.corpus=corpus.txt", "demo.queries=[rain]", "trainer.val_check_interval=1", "trainer.max_steps=2")
    done = cli(*TINY, *demo, env=env)
    assert done.returncode == 0, done.stderr
    assert "UnicodeEncodeError" not in done.stdout + done.stderr
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert TEXT in log and "Curve" in log


@pytest.mark.parametrize("env", TERMINALS)
@pytest.mark.parametrize("arguments", [["--help"], ["trainer.max_steps=0"]])
def test_help_and_errors_are_printed(cli: Cli, env: dict[str, str], arguments: list[str]) -> None:
    done = cli(*TINY, *arguments, env=env)
    assert "UnicodeEncodeError" not in done.stdout + done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 1)


@pytest.mark.parametrize("env", TERMINALS[:2])
def test_the_page_of_a_run_is_written(cli: Cli, tmp_path: Path, env: dict[str, str]) -> None:
    done = cli(*TINY, "trainer.max_steps=2", f"name='{TEXT[8:15]}'", env=env)
    assert done.returncode == 0, done.stderr
    done = cli("run", command="report", env=env)
    assert done.returncode == 0, done.stderr


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
