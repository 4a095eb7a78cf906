"""The front end: three spellings of one command, the list of verbs, and what each verb's file looks like."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from simcse_lit import __version__
from simcse_lit.cli.verbs import VERBS, about, listed
from tests.conftest import LIMIT_S, ROOT, inherited

SCRIPT = Path(sys.executable).with_name("simcse-lit")


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command], capture_output=True, text=True, env=inherited(), timeout=LIMIT_S)


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "-m", *arguments)


@pytest.mark.parametrize(
    "arguments", [["train", "--cfg", "job", "loss=sup"], ["encode", "max_lenght=5"], ["report", "nowhere"]]
)
def test_three_spellings_are_one_command(arguments: list[str]) -> None:
    verb, *rest = arguments
    answers = [run(str(SCRIPT), *arguments), python("simcse_lit", *arguments), python(f"simcse_lit.{verb}", *rest)]
    assert len({(done.returncode, done.stdout, done.stderr) for done in answers}) == 1, answers


def test_without_a_verb_all_are_listed_with_a_line_each() -> None:
    done = run(str(SCRIPT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == listed() + "\n" == run(str(SCRIPT), "--help").stdout
    lines = done.stdout.splitlines()
    for verb in VERBS:
        assert any(line.split()[:1] == [verb] and line.endswith(about(verb).splitlines()[0]) for line in lines), verb
    assert max(map(len, lines)) <= 80


def test_version() -> None:
    assert run(str(SCRIPT), "--version").stdout == f"simcse-lit {__version__}\n"


def test_a_mistyped_verb_is_answered_with_the_nearest_one() -> None:
    done = run(str(SCRIPT), "evalute", "checkpoint=x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("\nError: evalute: there is no such verb. Did you mean evaluate?\n")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_file_starts_the_front_end_before_it_imports_anything(verb: str) -> None:
    tree = ast.parse((ROOT / "src" / "simcse_lit" / f"{verb}.py").read_text(encoding="utf-8"))
    docstring, start = tree.body[:2]
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(start) == (f"if __name__ == '__main__':\n    from simcse_lit.cli.cli import run\n    run('{verb}')")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_how_it_is_called(verb: str) -> None:
    done = python("simcse_lit", verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"simcse-lit {verb}" in done.stdout
    assert about(verb).splitlines()[0] in done.stdout


def test_a_multirun_of_a_verb_that_makes_none_is_refused_in_one_line() -> None:
    done = python("simcse_lit", "encode", "-m", "checkpoint=a,b", "input=x.txt", "output=v.npy")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "Error: -m: encode supports no multirun; train and evaluate do. Run the command once for each value."
    )
