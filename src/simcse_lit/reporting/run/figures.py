"""Figures of the analyses and of a training run, drawn from their numbers alone. `sweep/figures.py` draws those of a sweep.

Every figure is legible in greyscale. It is written as PNG and as SVG, which keeps text as text.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from simcse_lit.tables import shortened

Results = Mapping[str, Mapping[str, Any]]
Draw = Callable[[Results, Path], None]

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "text.parse_math": False,  # $ and _ are characters of names and paths
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "simcse-lit",  # without it, ids are random
}
WIDTH = 7.0  # inches
LABEL_LENGTH = 32
DASHES = ["-", "--", ":", "-.", (0, (7, 2, 1, 2, 1, 2)), (0, (1, 4))]
GREYS = ["0.0", "0.45", "0.0", "0.45", "0.0", "0.45"]
MARKERS = "os^Dv*"

UNIFORMITY = "uniformity (nats; lower is more uniform)"
ALIGNMENT = "alignment (lower is more aligned)"

styled = matplotlib.rc_context(STYLE)


@styled
def draw_alignment_uniformity(results: Results, path: Path) -> None:
    """Draw a point for each encoder, as in Figure 3 of the paper. The best are at the lower left.

    Args:
        results: the result of `AlignmentUniformity.compute` by the label of the encoder, and `score`, the STS average, if
            known.
        path: file to write; its suffix becomes .png and .svg.
    """
    figure = canvas(WIDTH, 4.2 + 0.1 * len(results))
    axis = figure.subplots()
    points, texts = [], []
    for place, (label, result) in enumerate(_labelled(results).items()):
        aligned = result["alignment"]
        style: dict[str, Any] = {"marker": MARKERS[place % 6], "color": GREYS[place % 6], "markersize": 9}
        style["fillstyle"] = "full" if place % 2 else "none"
        points += axis.plot(result["uniformity"], np.nan if aligned is None else aligned, linestyle="", **style)
        average = f", STS {result['score']:.2f}" if "score" in result else ""
        texts.append(f"{label}{average}" + (" (no positive pairs)" if aligned is None else ""))
    axis.set_title("Alignment and uniformity")
    _plane(axis)
    _legend(figure, points, texts)
    save(figure, path)


@styled
def draw_density(results: Results, path: Path) -> None:
    """Draw the cosines of each group of gold scores, as in Figure G.1: a panel for each encoder, a ridge for each group.

    Args:
        results: the result of `Density.compute` by the label of the encoder.
        path: file to write; its suffix becomes .png and .svg.
    """
    columns = min(2, len(results))
    rows = -(-len(results) // columns)
    figure = canvas(WIDTH, 0.5 + 2.6 * rows)
    figure.set_layout_engine("constrained", wspace=0.06)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis in axes[len(results) :]:
        axis.remove()
    lowest = 0.9
    for axis, (label, result) in zip(axes, _labelled(results).items(), strict=False):
        groups = result["groups"]
        for place, group in enumerate(groups):
            lowest = min(lowest, _draw_ridge(axis, place, np.array(result["grid"]), group))
        axis.set_title(label)
        axis.set_yticks(np.arange(len(groups)) + 0.45, [f"{group['above']:g}–{group['up_to']:g}" for group in groups])
        axis.set_ylim(0, len(groups))
        axis.tick_params(left=False, labelbottom=True)
        axis.grid(axis="y", visible=False)
    axes[0].set_xlim(np.floor(10 * lowest) / 10, 1)
    figure.supxlabel("cosine similarity (dashed: mean; every ridge to its own scale)", fontsize=9)
    figure.supylabel("gold score", fontsize=9)
    save(figure, path)


def _draw_ridge(axis: Axes, place: int, grid_G: np.ndarray, group: Mapping[str, Any]) -> float:
    """Draw a group of `Density.compute` on the line `place`. Return the cosine at which it begins; 1 if it is empty."""
    note, start = f"{group['pairs']:,} pairs", 1.0
    if group["pairs"]:
        height_G = np.array(group["density"]) / max(group["density"])
        visible = height_G > 0.005
        start = float(grid_G[visible][0])
        ridge_G = np.where(visible, place + 0.85 * height_G, np.nan)
        axis.fill_between(grid_G, place, ridge_G, color="0.8", linewidth=0)
        axis.plot(grid_G, ridge_G, color="black", linewidth=0.9)
        top = place + 0.85 * np.interp(group["mean"], grid_G, height_G)
        axis.plot([group["mean"]] * 2, [place, top], color="black", linestyle="--", linewidth=1)
        note += f"\nmean {_number(group['mean'], 2)}"
    axis.axhline(place, color="black", linewidth=0.5)
    axis.text(1.02, place + 0.45, note, transform=axis.get_yaxis_transform(), fontsize=8, va="center")
    return start


@styled
def draw_spectrum(results: Results, path: Path) -> None:
    """Draw the singular values divided by the largest, as in Figure F.1. A flatter curve uses more of the space.

    Args:
        results: the result of `Spectrum.compute` by the label of the encoder.
        path: file to write; its suffix becomes .png and .svg.
    """
    figure = canvas(WIDTH, 3.9 + 0.1 * len(results))
    axis = figure.subplots()
    lines, texts = [], []
    for place, (label, result) in enumerate(_labelled(results).items()):
        values = np.array(result["singular_values"])
        style: dict[str, Any] = {"linestyle": DASHES[place % 6], "color": GREYS[place % 6], "marker": MARKERS[place % 6]}
        lines += axis.plot(np.arange(1, len(values) + 1), values, markevery=0.1, markersize=4, linewidth=1.3, **style)
        texts.append(f"{label}, effective rank {result['effective_rank']:.1f}")
    axis.set_yscale("log")
    # The last values of a collapsed encoder are rounding errors, and would stretch the axis to 1e-17.
    smallest = min(min(result["singular_values"]) for result in results.values())
    axis.set_ylim(min(max(smallest / 1.5, 1e-3), 0.05), 1.3)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set(
        title="Spectrum of the sentence vectors", xlabel="rank of the singular value", ylabel="singular value / largest"
    )
    _legend(figure, lines, texts)
    save(figure, path)


@styled
def draw_anisotropy(results: Results, path: Path) -> None:
    """Draw a histogram of the cosines of random pairs, in a row for each encoder.

    Args:
        results: the result of `Anisotropy.compute` by the label of the encoder.
        path: file to write; its suffix becomes .png and .svg.
    """
    figure = canvas(WIDTH, 0.7 + 1.3 * len(results))
    axes = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    lowest = 0.0
    for axis, (label, result) in zip(axes, _labelled(results).items(), strict=True):
        counts, edges = result["histogram"]["counts"], result["histogram"]["edges"]
        axis.stairs(100 * np.array(counts) / result["pairs"], edges, fill=True, color="0.75")
        axis.stairs(100 * np.array(counts) / result["pairs"], edges, color="black", linewidth=0.8)
        axis.axvline(result["mean_cosine"], color="black", linestyle="--", linewidth=1.2)
        axis.set_title(label)
        note = f"mean {_number(result['mean_cosine'], 3)}, sd {_number(result['std_cosine'], 3)}"
        axis.set_title(note, loc="right", fontsize=9)
        axis.set_ylim(bottom=0)
        lowest = min(lowest, edges[np.flatnonzero(counts)[0]])
    axes[-1].set(xlim=(np.floor(10 * lowest) / 10, 1), xlabel="cosine similarity of two random sentences (dashed: mean)")
    figure.supylabel("share of the pairs (%)", fontsize=9)
    save(figure, path)


DRAW: Mapping[str, Draw] = {
    "alignment_uniformity": draw_alignment_uniformity,
    "density": draw_density,
    "spectrum": draw_spectrum,
    "anisotropy": draw_anisotropy,
}


@styled
def draw_trajectory(
    steps: Sequence[int], alignments: Sequence[float], uniformities: Sequence[float], scores: Sequence[float], path: Path
) -> None:
    """Draw the path of a training run through alignment and uniformity, as in Figure 2.

    Args:
        steps: steps of the validations, ascending.
        alignments: alignment of the development set at each step.
        uniformities: uniformity of the development set at each step, in nats.
        scores: Spearman × 100 on the development set at each step; darker points are higher.
        path: file to write; its suffix becomes .png and .svg.
    """
    figure = canvas(WIDTH, 4.6)
    axis = figure.subplots()
    way = np.column_stack([uniformities, alignments])
    axis.plot(uniformities, alignments, color="0.5", linewidth=1)
    size = 45 if len(steps) <= 25 else 15
    points = axis.scatter(uniformities, alignments, c=scores, s=size, cmap="Greys", edgecolors="black", zorder=3)
    _draw_arrows(axis, way)
    marked, names = [], []
    last, first = ("D", f"trained, step {steps[-1]:,}"), ("s", "raw" if steps[0] == 0 else f"step {steps[0]:,}")
    for end, (marker, name) in sorted({len(steps) - 1: last, 0: first}.items()):
        style: dict[str, Any] = {"marker": marker, "color": "black", "markerfacecolor": "white", "markersize": 11}
        marked += axis.plot(*way[end], linestyle="", zorder=4, **style)
        names.append(f"{name} ({scores[end]:.2f})")
    axis.set_title("Alignment and uniformity during training")
    _plane(axis)
    _legend(figure, marked, names)
    figure.colorbar(points, ax=axis, label="Spearman × 100 on the development set")
    save(figure, path)


def _draw_arrows(axis: Axes, way: np.ndarray) -> None:
    """Draw an arrow on the path at every tenth of the figure, so that arrows do not overlap where points are close."""
    lengths = np.hypot(*(np.diff(way, axis=0) / np.ptp(way, axis=0).clip(1e-9)).T)
    for place in np.flatnonzero(np.diff(np.cumsum(lengths) // 0.1, prepend=0)):
        start, end = way[place], way[place + 1]
        arrow = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", start + 0.6 * (end - start), start, arrowprops=arrow, zorder=2)


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG (150 dpi) and as SVG. The same figure gives the same bytes.

    Args:
        figure: the figure.
        path: its suffix becomes .png and .svg.
    """
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def canvas(width: float, height: float) -> Figure:
    """Create an empty figure, without pyplot, which would keep it in memory.

    Args:
        width: in inches.
        height: in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plane(axis: Axes) -> None:
    """Label the axes of alignment against uniformity, and widen them around few or equal points."""
    axis.margins(0.1)
    for low, high, least, narrow in ((*axis.get_xlim(), 0.5, axis.set_xlim), (*axis.get_ylim(), 0.1, axis.set_ylim)):
        missing = max(0.0, least - (high - low)) / 2
        narrow(low - missing, high + missing)
    axis.set(xlabel=UNIFORMITY, ylabel=ALIGNMENT)


def _number(value: float, digits: int) -> str:
    """Format a number without the sign of a negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _labelled(results: Results) -> Results:
    """Shorten the labels to fit. If two labels become equal, number all of them."""
    short = [shortened(label, LABEL_LENGTH) for label in results]
    if len(set(short)) < len(short):
        short = [f"{place}: {label}" for place, label in enumerate(short, start=1)]
    return dict(zip(short, results.values(), strict=True))


def _legend(figure: Figure, handles: Sequence[Artist], texts: Sequence[str]) -> None:
    """Add a legend below the axes, where it covers no data."""
    legend = figure.legend(handles, ["·"] * len(texts), loc="outside lower left", frameon=False, fontsize=9)
    # Texts are set afterwards: matplotlib before 3.10 leaves out labels that begin with an underscore.
    for shown, text in zip(legend.get_texts(), texts, strict=True):
        shown.set_text(text)
