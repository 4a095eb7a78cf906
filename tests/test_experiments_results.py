"""What experiments/ says of our own runs: what was run at which scale, and that no file names a folder of a machine."""

import re
from pathlib import Path

import pytest

from experiments.readmes import BEGIN, NOT_THE_PAPERS
from tests.conftest import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_readme_says_what_was_run_and_what_was_not(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| (miniature|paper) \| (.*) \|$", text, re.MULTILINE))
    assert said == {"miniature": "below" if BEGIN in text else "not run here", "paper": "not run here"}
    assert not (folder / "paper").exists()  # a result of the paper's scale belongs into the README
    assert BEGIN not in text or NOT_THE_PAPERS in text or "\nNot run yet.\n" in text


def test_no_file_that_is_kept_names_a_folder_of_a_machine() -> None:
    for path in (ROOT / "experiments").rglob("*"):
        if path.is_file() and path.suffix in (".md", ".csv", ".svg", ".yaml"):
            found = re.findall(r"/(?:tmp|dev|work|home|root|Users)/\S*", path.read_text(encoding="utf-8"))
            assert not found, (path, found[:3])
