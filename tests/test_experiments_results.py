"""What experiments/ says of our own runs: README figures are those of the CSV, and no file names a folder of a machine."""

import csv
import re
import statistics
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCALES = ("miniature", "paper")
FOLDERS = sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md"))
RESULTS = sorted((ROOT / "experiments").glob("*/*/results.csv"))


def table_of(path: Path) -> list[str]:
    """The lines of a README table: what varied, runs, mean ± sample standard deviation of each score."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    seed = head.index("seed")
    keys, metrics = head[2:seed], head[seed + 1 :]
    settings: dict[tuple[str, ...], list[list[float]]] = {}
    for row in rows:
        assert row[1] == "finished", f"{path}: run {row[0]} is {row[1]}"
        settings.setdefault(tuple(row[2:seed]), []).append([float(value) for value in row[seed + 1 :]])
    lines = [f"| {' | '.join([*keys, 'runs', *metrics])} |", "|---" * (len(keys) + 1 + len(metrics)) + "|"]
    for values, runs in settings.items():
        cells = [f"{statistics.mean(scores):.2f}" for scores in zip(*runs, strict=True)]
        if len(runs) > 1:
            spread = [statistics.stdev(scores) for scores in zip(*runs, strict=True)]
            cells = [f"{cell} ± {std:.2f}" for cell, std in zip(cells, spread, strict=True)]
        lines.append(f"| {' | '.join([*values, str(len(runs)), *cells])} |")
    return lines


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_readme_and_report_have_the_means_and_deviations_of_the_csv(path: Path) -> None:
    expected = table_of(path)
    readme = (path.parents[1] / "README.md").read_text(encoding="utf-8")
    assert "\n".join(expected) in readme, "\n".join([f"the table of {path} is:", *expected])
    report = [line.replace("\\", "") for line in (path.parent / "report.md").read_text(encoding="utf-8").splitlines()]
    for line in expected[2:]:
        assert any(found.startswith(line.rstrip("|")) for found in report), line


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_readme_says_what_was_run_and_what_was_not(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    for scale in SCALES:
        (said,) = re.findall(rf"^\| {scale} \| (.*) \|$", text, re.MULTILINE)
        assert (said == "not run here") == (not (folder / scale / "results.csv").exists()), f"{scale}: {said}"
        assert said == "not run here" or re.fullmatch(r"run on \d{4}-\d\d-\d\d, below", said)
    if (folder / "miniature" / "results.csv").exists():
        assert "**A miniature: none of these is a figure of the paper's setting.**" in text
        assert re.search(r"commit [0-9a-f]{7}", text) and "bf16-mixed" in text


def test_no_file_that_is_kept_names_a_folder_of_a_machine() -> None:
    """The page does, since it has the commands; .gitignore leaves it out."""
    for path in (ROOT / "experiments").rglob("*"):
        if path.is_file() and path.suffix in (".md", ".csv"):
            found = re.findall(r"/(?:tmp|dev|work|home|root|Users)/\S*", path.read_text(encoding="utf-8"))
            assert not found, (path, found[:3])
