"""The benchmarks: what a script reports, the page that is made of it, and that no other document repeats a timing."""

import json
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tests.test_docs import DOCUMENTS

BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if path.name not in ("checkout.py", "harness.py", "page.py"))
GENERATED = (
    ROOT / "docs" / "performance" / "benchmarks.md",
    ROOT / "docs" / "reproduce" / "cost.md",
    ROOT / "docs" / "reproduce" / "evidence.md",
)
TIMING = r"\d(?: ?(?:ms|s|MB|MiB|GB)| (?:seconds|minutes|hours|(?:lines|sentences|searches)/s))\b|\d\.\d+ ?x\b"

SECTION = """\
**Two ways.** Measures both.

| way | time (s) | rate (lines/s) | sizes | note |
| --- | ---: | ---: | ---: | --- |
| a | 2.00 (1.50 to 2.25) | 1,234 | 1,000 20 |  |
| b | 0.50 |  |  | slow |

- Command: `python benchmarks/two.py --rounds 3`
- Machine: a processor, 2 threads
- Versions: Python 3.11, torch not installed
- Commit: not recorded, 2026-01-31
"""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("page")


def test_there_are_results() -> None:
    assert {"training_step", "train_overhead", "encoding", "evaluation", "gpu", "startup"} <= {path.stem for path in RESULTS}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_names_the_script_that_printed_it(path: Path) -> None:
    command = json.loads(path.read_text(encoding="utf-8"))["command"]
    (script,) = [script for script in SCRIPTS if command == f"python benchmarks/{script.name}"]
    assert path.stem.startswith(script.stem)


def test_a_section_shows_numbers_units_and_where_they_come_from(page: ModuleType) -> None:
    columns = [("way", "", ""), ("time", "s", ".2f"), ("rate", "lines/s", ""), ("sizes", "", ""), ("note", "", "")]
    result = {
        "title": "Two ways",
        "description": "Measures both.",
        "command": "python benchmarks/two.py",
        "options": ["--rounds", "3"],
        "machine": {
            "processor": "a processor",
            "threads": 2,
            "versions": {"Python": "3.11", "torch": None},
            "commit": None,
            "date": "2026-01-31",
        },
        "columns": [dict(zip(("name", "unit", "format"), column, strict=True)) for column in columns],
        "rows": [
            ["a", {"median": 2, "min": 1.5, "max": 2.25}, 1234, [1000, 20], None],
            ["b", {"median": 0.5, "min": 0.5, "max": 0.5}, None, None, "slow"],
        ],
    }
    assert page.section(result) == SECTION


def test_the_page_is_what_the_results_say(page: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    committed = page.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(sys, "argv", ["page.py"])
    assert page.main() == 0
    assert (tmp_path / "benchmarks.md").read_text(encoding="utf-8") == committed


def test_the_check_fails_for_a_page_that_was_edited(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["page.py", "--check"])
    assert page.main() == 0
    edited = tmp_path / "benchmarks.md"
    edited.write_text(re.sub(r"(\d\.\d+) \|", r"9\1 |", page.PAGE.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", edited)
    assert page.main() == 1
    assert "Run: python benchmarks/page.py" in capsys.readouterr().err


def test_a_report_keeps_numbers_and_the_first_paragraph_of_the_script(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = import_module("harness")
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/two.py", "--rounds", "3"])
    columns = [harness.Column("way"), harness.Column("time", "s", ".1f")]
    rows = [["a", harness.summary([3.0, 1.0, 2.00049])]]
    harness.report("two_fast", "Measures\nboth.\n\nRun: it.", "Two ways", columns, rows, harness.machine("no-such-package"))
    result = json.loads((tmp_path / "two_fast.json").read_text(encoding="utf-8"))
    assert result["rows"] == [["a", {"median": 2.0, "min": 1.0, "max": 3.0}]]
    assert (result["description"], result["command"]) == ("Measures both.", "python benchmarks/two.py")
    assert result["options"] == ["--rounds", "3"]
    assert result["machine"]["versions"]["no-such-package"] is None
    assert "| a | 2.0 (1.0 to 3.0) |" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_to_run_it(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    assert f"Run: python benchmarks/{script.name}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
def test_the_script_for_gpus_runs_every_way_on_a_cpu() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--smoke", "--blocks", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    errors = [float(line.split(": ")[1].split()[0]) for line in lines if line.endswith("from padded rows")]
    assert len(errors) == 3  # padded, in chunks, packed
    assert max(errors) < 1e-5
    assert len(lines) == 3 + 2 * 4, "two kinds of step, each also with sentence-transformers"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_to_a_benchmark_leads_to_a_result(document: Path) -> None:
    linked = set(re.findall(r"benchmarks\.md#([\w-]+)", document.read_text(encoding="utf-8")))
    assert linked <= {path.stem for path in RESULTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_page_of_benchmarks_holds_timings(document: Path) -> None:
    if document not in GENERATED:
        assert re.findall(rf".*(?:{TIMING}).*", document.read_text(encoding="utf-8")) == []
