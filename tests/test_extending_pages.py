"""The pages docs/extending/: the code that they show is that of examples/my_lab and of the source, and it runs.

A block of Python that begins with `# my_lab/FILE.py` or `# tests/FILE.py` is that file of the example; a line `# ...` stands
for lines that are left out. A block that begins with `# simcse_lit/FILE.py` shows an interface of that file.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml

from simcse_lit import testing
from tests.conftest import ROOT, Cli, metrics

PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))
MY_LAB = ROOT / "examples" / "my_lab"
SMALL = ("model=tiny", "trainer=cpu", "trainer.max_steps=2", "data.batch_size=8", "senteval.from_hub=false")
SCORED = ("evaluation.before=false", "evaluation.test=false", "tasks@dev=samples-dev")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown(folder: str) -> list[tuple[str, str]]:
    """(file, lines) of every block of Python whose first line names a file of a folder."""
    first = re.compile(rf"# ({folder}/[\w/]+\.py)\n(.*)", re.DOTALL)
    return [(found[1], found[2]) for page in PAGES for block in python_blocks(page) if (found := first.match(block))]


@pytest.mark.parametrize(("name", "lines"), [*shown("my_lab"), *shown("tests")])
def test_code_of_the_example_is_shown_as_it_is(name: str, lines: str) -> None:
    rest = (MY_LAB / name).read_text(encoding="utf-8")
    for part in re.split(r"^ *# \.\.\.\n", lines, flags=re.MULTILINE):
        found, _, rest = rest.partition(part)
        assert rest or found != part, f"{name} does not hold:\n{part}"


def test_every_file_of_the_example_is_shown() -> None:
    files = {str(path.relative_to(MY_LAB)) for folder in ("my_lab", "tests") for path in (MY_LAB / folder).glob("*.py")}
    assert {name for name, _ in [*shown("my_lab"), *shown("tests")]} == files - {"my_lab/__init__.py"}


@pytest.mark.parametrize(("name", "lines"), shown("simcse_lit"))
def test_an_interface_is_that_of_the_source(name: str, lines: str) -> None:
    source = ast.parse((ROOT / "src" / name).read_text(encoding="utf-8"))
    classes = {node.name: members(node) for node in source.body if isinstance(node, ast.ClassDef)}
    for node in ast.parse(lines).body:
        assert isinstance(node, ast.ClassDef)
        assert members(node).items() <= classes[node.name].items()


def members(node: ast.ClassDef) -> dict[str, str]:
    """The attributes of a class, and the arguments and results of its methods, by name."""
    found = {}
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            found[each.name] = f"({ast.unparse(each.args)}) -> {ast.unparse(each.returns) if each.returns else ''}"
        elif isinstance(each, ast.AnnAssign):
            found[ast.unparse(each.target)] = ast.unparse(each)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of one's own that the pages show, which Python finds, as it does the example."""
    for page in PAGES:
        for block in re.findall(r"^```(?:python|yaml)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            if named := re.match(r"# ((?:my_conf/)?\w[\w/]*\.(?:py|yaml))\n", block):
                path = tmp_path / named[1]
                if path.suffix == ".yaml" or path.parent == tmp_path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block[named.end() :], encoding="utf-8")
    monkeypatch.syspath_prepend(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_python_can_be_run(page: Path, folder: Path) -> None:
    for block in python_blocks(page):
        if not block.startswith("# simcse_lit/"):
            exec(compile(block, page.name, "exec"), {"__name__": "shown"})


def test_the_shortest_example_passes_its_test(folder: Path) -> None:
    (found,) = [block for block in python_blocks(ROOT / "docs" / "extending" / "index.md") if "check_term" in block]
    names: dict[str, object] = {}
    exec(found, names)
    testing.check_formula(names["Alignment"], lambda vectors_BVD: _alignment(vectors_BVD))  # type: ignore[arg-type]
    testing.check_processes(names["Alignment"])  # type: ignore[arg-type]


def _alignment(vectors_BVD: "testing.Tensor") -> float:
    """By the law of cosines: 2 - 2 cos."""
    cosines = [float(row[0] @ row[1] / (row[0].norm() * row[1].norm())) for row in vectors_BVD]
    return sum(2 - 2 * cosine for cosine in cosines) / len(cosines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config-dir", "my_conf", "loss=aligned", "data=file", "data.train_file=sentences.txt"),
        ("--config-dir", "my_conf", "loss=momentum_queue", "data=samples"),
        ("--config-dir", "my_conf", "loss=unsup", "callbacks=early", "data=samples"),
        ("--config-dir", "my_conf", "loss=sup", "data=two_positives", "data.train_file=triplets.csv"),
    ],
    ids=lambda arguments: arguments[2],
)
def test_files_of_ones_own_train(arguments: tuple[str, ...], folder: Path, warm_cli: Cli) -> None:
    (folder / "sentences.txt").write_text("".join(f"The river has {number} bridges.\n" for number in range(20)))
    rows = "".join(f"A man eats {number}.,Someone is eating {number}.,Nobody eats {number}.\n" for number in range(20))
    (folder / "triplets.csv").write_text(f"sent0,sent1,hard_neg\n{rows}")
    done = warm_cli(*arguments, *SMALL, *SCORED, "hydra.run.dir=run", env={"PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr
    logged = metrics(folder / "run")
    assert "train/loss/contrastive" in logged
    assert ("train/loss/alignment" in logged) == ("loss=aligned" in arguments)
    assert yaml.safe_load((folder / "run" / "config.yaml").read_text())["loss"]["name"] in arguments[2]
