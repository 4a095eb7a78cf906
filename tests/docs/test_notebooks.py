"""The tutorials: each runs in an empty folder without an error, and what is stored in it can be shown to anybody."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from tests.conftest import LIMIT_S, ROOT, inherited

TUTORIALS = ROOT / "docs" / "tutorials"
LARGEST_IMAGE = 60_000  # bytes of a PNG, so that a clone stays small
MACHINE = re.compile(r"/(tmp|work|home|root|usr|opt|Users|var)/")


def run() -> Any:
    """The script that `make notebooks` runs."""
    spec = importlib.util.spec_from_file_location("tutorials_run", TUTORIALS / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = run().names()


def stored(name: str) -> Any:
    return nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)


def texts(notebook: Any) -> list[str]:
    """Every text that is an output."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def test_the_list_and_the_site_have_every_tutorial() -> None:
    listed = re.findall(r"\]\(([\w-]+)\.ipynb\)", (TUTORIALS / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == NAMES
    toc = yaml.safe_load((ROOT / "docs" / "toc.yml").read_text(encoding="utf-8"))
    entries = re.findall(r"docs/tutorials/([\w-]+)", str(toc))
    assert [name for name in entries if name != "index"] == listed


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_a_whole_execution_and_names_no_machine(name: str) -> None:
    notebook = stored(name)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and notebook.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in notebook.cells] == [f"cell-{number:02d}" for number in range(len(notebook.cells))]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(cell.metadata for cell in notebook.cells)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    for text in texts(notebook):
        assert "\r" not in text and "\x1b" not in text
        assert not MACHINE.search(text), MACHINE.search(text)
        assert "Traceback" not in text
    images = [output.data.get("image/png", "") for cell in code for output in cell.outputs if "data" in output]
    assert max(map(len, images), default=0) < LARGEST_IMAGE * 4 / 3


@pytest.mark.parametrize("name", NAMES)
def test_prose_keeps_to_its_width_and_says_what_it_needs(name: str) -> None:
    prose = [cell.source for cell in stored(name).cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ") and "**You need**" in prose[0]
    assert not re.search(r"\b\d+(\.\d+)? ?(s|ms|seconds|minutes)\b", "\n".join(prose))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs(name: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_CACHE", str(cache_dir))
    notebook = run().executed(name, tmp_path)
    run().clean(notebook, tmp_path)
    for text in texts(notebook):
        assert "\r" not in text and str(tmp_path) not in text


@pytest.mark.long
def test_the_script_of_the_python_tutorial_runs(tmp_path: Path, cache_dir: Path) -> None:
    script = ROOT / "examples" / "from_python.py"
    environment = {**inherited(), "SIMCSE_CACHE": str(cache_dir)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "export" / "config.json").is_file()
