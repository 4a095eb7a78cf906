"""The house: no module's name stands twice, and imports inside functions are few and say why."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

SRC = ROOT / "src" / "simcse_lit"
FILES = sorted(SRC.rglob("*.py"))
# Packages of the extras in pyproject.toml, by the names under which they are imported.
EXTRAS = {"faiss", "onnx", "onnxruntime", "onnxscript", "peft", "sentence_transformers", "wandb_workspaces"}
MOST = 15
# Pairs that may share a name: a verb and the module below it, and one run and a sweep.
SHARED = {"encode", "evaluate", "export", "figures", "index", "tables", "train"}


def in_functions(file: Path) -> Iterator[tuple[str, int]]:
    """Every module that is imported inside a function of a file, and the line."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield str(node.module), node.lineno


def test_imports_inside_functions_are_optional_extras_or_few_that_say_why() -> None:
    found = {(file, name, line) for file in FILES for name, line in in_functions(file)}
    own = [(file, name, line) for file, name, line in found if name.partition(".")[0] not in EXTRAS]
    assert len(own) <= MOST
    for file, name, line in own:
        assert "#" in file.read_text(encoding="utf-8").splitlines()[line - 1], f"{file}, line {line}: why is {name} here?"


def test_the_extras_that_may_be_imported_late_are_those_of_pyproject() -> None:
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    declared = set(re.findall(r'"([a-z0-9-]+)', extras.split("\n[")[0]))
    packages = {"faiss": "faiss-cpu"}
    assert {packages.get(name, name.replace("_", "-")) for name in EXTRAS} <= declared


def test_no_module_has_the_name_of_another() -> None:
    names = Counter(file.stem for file in FILES if file.stem != "__init__")
    folders = {file.parent.name for file in FILES} - {"simcse_lit"}
    assert {name for name, count in names.items() if count > 1} <= SHARED
    assert {name for name in names if name in folders} <= {"encoder", "cli"}  # the folder's main module


def test_the_layers_that_contributing_shows_are_those_of_the_contract() -> None:
    contract = re.findall(
        r'^    "([\w |]+)",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1], re.M
    )
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| layer |")[1].split("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in page.splitlines()[2:]]
    assert [["__main__"], *rows] == [line.split(" | ") for line in contract]
