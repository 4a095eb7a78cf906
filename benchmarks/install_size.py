"""Measure what `pip install simcse-lit` and each extra bring, and write the table of docs/start/install.md.

The sizes are those of the files that the current environment has installed, by the RECORD of each distribution, so it needs
no network. An extra counts what it adds to the packages that simcse-lit needs in any case.

Run: python benchmarks/install_size.py [--print]
"""

import argparse
import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "start" / "install.md"
START, END = "<!-- sizes: python benchmarks/install_size.py -->", "<!-- end of sizes -->"
PURPOSE = {
    "": "train, evaluate, encode, report, exact search",
    "offline": "weights of all-MiniLM-L6-v2 as a package, for a machine without the Hub: `model=minilm`, `model=minilm-l3`",
    "sentence-transformers": "read and write folders of sentence-transformers",
    "search": "approximate indexes with faiss: `index=hnsw`, `ivf`, `pq`",
    "serve": "the page and the JSON API: `simcse-lit serve`",
    "onnx": "export to ONNX and run it",
    "sweep": "Optuna: `+sweep=optuna`",
    "joblib": "Hydra's joblib launcher: `+sweep=joblib`",
    "submitit": "SLURM: `+sweep=slurm`, `+sweep=submitit`",
    "tensorboard": "`logger=tensorboard`",
    "dashboard": "a W&B report of a sweep: `simcse-lit dashboard`",
    "lora": "LoRA: `adapter=lora`",
    "docs": "build this site: `make docs`",
    "dev": "tests, lint and types: `make check`",
}


def project() -> dict[str, list[str]]:
    """Requirements by extra; those that are always installed are under ''."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements bring, with what these require.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    found: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                queue += [(Requirement(text), wanted) for text in distribution(name).requires or ()]
    return {name for name, _ in found}


def megabytes(names: Iterable[str]) -> float:
    """Size of the installed files of distributions, in 10^6 bytes."""
    total = 0
    for name in names:
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.is_file():
                total += path.stat().st_size
    return total / 1e6


def rows() -> list[tuple[str, str, int, float]]:
    """Extra, purpose, packages and megabytes; what an extra adds to the base, which is first."""
    wanted = project()
    base = closure(wanted[""])
    found = [("", PURPOSE[""], len(base), megabytes(base))]
    for extra, requirements in wanted.items():
        if extra:
            added = closure(requirements) - base
            found.append((extra, PURPOSE[extra], len(added), megabytes(added)))
    return found


def table() -> str:
    """The table in Markdown, and what it was measured on."""
    lines = ["| extra | what for | packages | MB |", "|---|---|---:|---:|"]
    for extra, purpose, packages, size in rows():
        name, plus = (f"`{extra}`", "+") if extra else ("(none)", "")
        amount = f"{size:.0f}" if size >= 1 else f"{size:.1f}"
        lines.append(f"| {name} | {purpose} | {plus}{packages} | {plus}{amount} |")
    torch = distribution("torch")
    made = (
        f"Measured by `python benchmarks/install_size.py`: {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, torch {torch.version}. Of the first row, torch takes {megabytes(['torch']):.0f}."
    )
    return "\n".join([*lines, "", made])


def main() -> None:
    """Write the table into the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the table and leave the page alone")
    arguments = parser.parse_args()
    try:
        made = table()
    except PackageNotFoundError as error:
        raise SystemExit(f"{error}\nInstall every extra first: make setup") from error
    if arguments.print:
        print(made)
        return
    text = PAGE.read_text(encoding="utf-8")
    between = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    PAGE.write_text(between.sub(lambda _: f"{START}\n\n{made}\n\n{END}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
