"""The figures: written in both forms, filled, legible in greyscale, and true to labels of any spelling."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from simcse_lit.evaluation.analyses import AlignmentUniformity, Analysis, Anisotropy, Density, Spectrum
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Embed
from simcse_lit.reporting.run.figures import DRAW, draw_alignment_uniformity, draw_density, draw_trajectory, save

AllResults = Mapping[str, Mapping[str, dict[str, Any]]]

ANALYSES: list[Analysis] = [
    AlignmentUniformity(positives_above=4.0, alpha=2.0, t=2.0),
    Density([0, 1, 2, 3, 4, 5]),
    Spectrum(),
    Anisotropy(pairs=500, seed=0),
]
AXES = {
    "alignment_uniformity": ["uniformity (nats; lower is more uniform)", "alignment (lower is more aligned)"],
    "density": ["cosine similarity (dashed: mean; every ridge to its own scale)", "gold score", "0–1", "4–5"],
    "spectrum": ["rank of the singular value", "singular value / largest"],
    "anisotropy": ["cosine similarity of two random sentences (dashed: mean)", "share of the pairs (%)"],
}
LONG = "outputs/unsup/2026-01-01_10-00-00/temperature=0.05/seed=42/encoder"
LABELS = ["_plain $x_1$ & <b>", LONG, LONG.replace("10-00", "11-00"), "50 % of \\alpha", "collapsed", "sixth"]
SHORT = [LABELS[0], *["outputs/unsup/2…/seed=42/encoder"] * 2, *LABELS[3:]]
TASK = STSTask("toy", [(f"s{k}", f"s{k + 1}") for k in range(0, 120, 2)], np.linspace(0, 5, 60))


def encoder(label: str) -> Embed:
    """Random vectors, more anisotropic the later the label stands, or hardly different from each other."""
    z_NH = torch.randn(120, 16, generator=torch.Generator().manual_seed(LABELS.index(label)))
    z_NH = 1 + 1e-6 * z_NH if label == "collapsed" else z_NH + 0.3 * LABELS.index(label)
    return lambda sentences: z_NH[[int(sentence[1:]) for sentence in sentences]]


@pytest.fixture(scope="module")
def results() -> AllResults:
    """Each analysis' numbers of six encoders."""
    return {analysis.name: {label: analysis.compute(TASK, encoder(label)) for label in LABELS} for analysis in ANALYSES}


def texts(path: Path) -> list[str]:
    """Every text of an SVG, in the order of drawing."""
    return ["".join(element.itertext()) for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def inked(path: Path) -> float:
    """Share of pixels of a PNG, 1050 wide, that are not background."""
    with Image.open(path) as image:
        assert image.width == 1050
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_there_is_a_figure_for_each_analysis() -> None:
    assert set(DRAW) == {analysis.name for analysis in ANALYSES} == set(AXES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_figure_names_its_axes_and_encoders_and_is_not_blank(name: str, results: AllResults, tmp_path: Path) -> None:
    DRAW[name](results[name], tmp_path / f"{name}.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.png", f"{name}.svg"]
    assert 0.01 < inked(tmp_path / f"{name}.png") < 0.6
    drawn = texts(tmp_path / f"{name}.svg")
    assert set(AXES[name]) <= set(drawn)
    # Two are alike without their middle, so all are numbered.
    for place, label in enumerate(SHORT, start=1):
        assert sum(text.startswith(f"{place}: {label}") for text in drawn) == 1, drawn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_a_collapsed_encoder_alone_is_drawn_under_its_own_label(name: str, results: AllResults, tmp_path: Path) -> None:
    DRAW[name]({"collapsed": results[name]["collapsed"]}, tmp_path / name)
    assert inked(tmp_path / f"{name}.png") > 0.01
    drawn = texts(tmp_path / f"{name}.svg")
    assert any(text.startswith("collapsed") for text in drawn)
    assert not any("e−" in text for text in drawn)  # no axis is stretched to the size of rounding errors


def test_the_same_numbers_give_the_same_bytes(results: AllResults, tmp_path: Path) -> None:
    for place in ("one", "two"):
        draw_alignment_uniformity(results["alignment_uniformity"], tmp_path / place)
    for suffix in (".png", ".svg"):
        assert (tmp_path / "one").with_suffix(suffix).read_bytes() == (tmp_path / "two").with_suffix(suffix).read_bytes()


def test_legend_gives_the_score_where_there_is_one_and_says_what_cannot_be_placed(tmp_path: Path) -> None:
    one = {"alignment": 0.2, "uniformity": -2.5, "pairs": 9, "sentences": 99}
    draw_alignment_uniformity(
        {"scored": {**one, "score": 76.254}, "not": one, "lost": {**one, "alignment": None}}, tmp_path / "figure"
    )
    drawn = texts(tmp_path / "figure.svg")
    assert {"scored, STS 76.25", "not", "lost (no positive pairs)"} <= set(drawn)


def test_density_gives_pairs_and_mean_of_each_group_and_leaves_an_empty_one_empty(tmp_path: Path) -> None:
    groups = [
        {"above": 0.0, "up_to": 2.5, "pairs": 1234, "mean": -0.001, "std": 0.1, "density": [0.0, 1.0, 0.0]},
        {"above": 2.5, "up_to": 5.0, "pairs": 0, "mean": None, "std": None, "density": [0.0, 0.0, 0.0]},
    ]
    draw_density({"one": {"grid": [-1.0, 0.0, 1.0], "groups": groups}}, tmp_path / "figure")
    drawn = texts(tmp_path / "figure.svg")
    assert {"0–2.5", "2.5–5", "1,234 pairs", "mean 0.00", "0 pairs"} <= set(drawn)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([0, 10, 20, 30], ["raw (60.00)", "trained, step 30 (63.00)"]),
        ([125, 250], ["step 125 (60.00)", "trained, step 250 (61.00)"]),
        ([0], ["raw (60.00)"]),
        (list(range(0, 12600, 100)), ["raw (60.00)", "trained, step 12,500 (185.00)"]),
    ],
    ids=["four", "not from the start", "one", "many"],
)
def test_trajectory_names_its_ends(steps: list[int], named: list[str], tmp_path: Path) -> None:
    way = np.arange(len(steps))
    draw_trajectory(steps, list(0.3 - 0.001 * way), list(-1 - 0.01 * way), list(60.0 + way), tmp_path / "trajectory.png")
    drawn = texts(tmp_path / "trajectory.svg")
    assert [text for text in drawn if "(" in text and "lower" not in text] == named
    assert {*AXES["alignment_uniformity"], "Spearman × 100 on the development set"} <= set(drawn)
    assert inked(tmp_path / "trajectory.png") > 0.01


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that would have been written."""
    figures: list[Figure] = []
    monkeypatch.setattr("simcse_lit.reporting.run.figures.save", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.filterwarnings("error")
def test_a_run_that_stays_where_it_is_is_not_magnified(drawn: list[Figure]) -> None:
    draw_trajectory([0, 10, 20], [0.2] * 3, [-2.0] * 3, [70.0] * 3, Path("trajectory"))
    axis = drawn[0].axes[0]
    assert axis.get_xlim() == pytest.approx((-2.25, -1.75))
    assert axis.get_ylim() == pytest.approx((0.15, 0.25))


def test_arrows_of_a_trajectory_point_from_step_to_step(drawn: list[Figure]) -> None:
    draw_trajectory([0, 10, 20], [0.2, 0.3, 0.1], [-1.0, -2.0, -3.0], [70.0, 71.0, 72.0], Path("trajectory"))
    arrows = [annotation for annotation in drawn[0].axes[0].texts if not annotation.get_text()]
    starts, heads = [arrow.xyann for arrow in arrows], [arrow.xy for arrow in arrows]  # type: ignore[attr-defined]
    assert np.array(starts) == pytest.approx(np.array([[-1.0, 0.2], [-2.0, 0.3]]))
    assert np.array(heads) == pytest.approx(np.array([[-1.6, 0.26], [-2.6, 0.18]]))


def test_drawing_leaves_matplotlib_s_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = Figure()
    FigureCanvasAgg(figure)
    save(figure, tmp_path / "empty")
    assert dict(matplotlib.rcParams) == before
