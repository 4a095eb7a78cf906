"""The pictures of the site: each that a page shows is drawn by the script, and drawing it again changes nothing."""

import importlib.util
import re
from math import erfc
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest

from tests.conftest import ROOT

CONCEPTS = ROOT / "docs" / "concepts"
HOW_TO = ROOT / "docs" / "how-to"
LARGEST = 80_000  # bytes of a picture
# Cheap to draw, and of numbers that are the same on every machine.
CHEAP = ("in-batch-negatives", "gradient-cache", "accumulation", "poolers")


@pytest.fixture(scope="session")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", CONCEPTS / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown() -> dict[str, str]:
    """The alternative text of every picture, by its path."""
    texts = [path.read_text(encoding="utf-8") for path in (*CONCEPTS.glob("*.md"), *HOW_TO.glob("*.md"))]
    found = [each for text in texts for each in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)]
    return {path.removeprefix("../concepts/"): alternative for alternative, path in found}


def test_every_picture_of_a_page_is_drawn_by_the_script_and_the_other_way_round(pictures: ModuleType) -> None:
    drawn = {f"pictures/{name}.svg" for name in pictures.DRAW}
    assert shown().keys() == drawn
    assert {f"pictures/{path.name}" for path in pictures.PICTURES.iterdir()} == drawn


def test_every_page_has_a_picture_and_every_picture_says_in_words_what_it_shows() -> None:
    for page in CONCEPTS.glob("*.md"):
        assert page.name == "index.md" or "](pictures/" in page.read_text(encoding="utf-8"), page.name
    assert all(len(alternative) > 40 for alternative in shown().values())


def test_pictures_are_small_and_undated(pictures: ModuleType) -> None:
    for path in pictures.PICTURES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert len(text) < LARGEST and "<dc:date>" not in text, path.name


@pytest.mark.parametrize("name", CHEAP)
def test_drawing_again_gives_the_same_bytes(pictures: ModuleType, tmp_path: Path, name: str) -> None:
    again = pictures.write(name, tmp_path).read_bytes()
    (tmp_path / "twice").mkdir()
    assert again == pictures.write(name, tmp_path / "twice").read_bytes()
    # Another version of matplotlib may lay a figure out otherwise.
    if f"matplotlib=={matplotlib.__version__} " in drawn_with():
        assert again == (pictures.PICTURES / f"{name}.svg").read_bytes()


def drawn_with() -> str:
    """The line of constraints.txt with the newest matplotlib, by which the pictures are drawn."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in reversed(lines) if line.startswith("matplotlib=="))


def test_the_seeds_that_mislead_are_as_many_as_the_normal_distribution_says(pictures: ModuleType) -> None:
    """The curve of one seed each, against its closed form: the difference of two normal scores."""
    with matplotlib.rc_context(pictures.OURS):
        axes = pictures.seeds().axes[0]
    gaps, wrong = axes.lines[0].get_data()
    # P(N(-gap, 2 sd^2) > 0) = erfc(gap / (2 sd)) / 2
    expected = [50 * erfc(gap / (2 * 0.84)) for gap in gaps]
    assert list(wrong) == pytest.approx(expected, abs=2.5)
