"""Figures of the miniatures, as SVG: settings of a table, trajectories of Figure 2, and the claims."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.verdicts import AGAINST, AS_IN_PAPER, Verdict
from simcse_lit.reporting.run.figures import ALIGNMENT, DASHES, MARKERS, STYLE, UNIFORMITY, canvas
from simcse_lit.tables import shortened

WIDTH = 4.6  # inches: the text stays legible on a phone
SHADES = [matplotlib.colormaps["viridis"](place) for place in (0.0, 0.3, 0.6, 0.85)]
LOOKS = {AS_IN_PAPER: ("o", "black", "black"), AGAINST: ("s", "black", "white")}  # marker, colour and filling
styled = matplotlib.rc_context(STYLE)


@styled
def draw_settings(
    settings: Mapping[str, Mapping[int, float]],
    paper: Mapping[str, float],
    path: Path,
    metric: str = "STS-B dev",
    title: str = "The miniature",
) -> None:
    """Draw the runs of each setting as points with mean ± standard deviation, and the paper's scores beside them.

    Args:
        settings: scores by seed, by the label of the setting.
        paper: the published score by label; settings without one may be missing.
        path: the SVG file.
        metric: what is scored.
        title: of the panel with the runs.
    """
    names = [textwrap.fill(label, 40, break_long_words=False) for label in settings]
    lines = max(name.count("\n") for name in names)
    figure = canvas(WIDTH * (1.3 if paper else 1), 1.1 + (0.3 + 0.13 * lines) * len(settings))
    panels = figure.subplots(1, 1 + bool(paper), sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + bool(paper)])[0]
    for place, by_seed in enumerate(settings.values()):
        values = list(by_seed.values())
        panels[0].plot(values, [place] * len(values), linestyle="", marker="o", color="0.6", markersize=5, zorder=2)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        bar: dict[str, Any] = {"color": "black", "capsize": 4, "marker": "|", "markersize": 13, "zorder": 3}
        panels[0].errorbar([np.mean(values)], [place], xerr=[spread], **bar)
    panels[0].set(xlabel="runs, mean ± sd", title=title)
    figure.supxlabel(f"{metric}, Spearman × 100", fontsize="medium")
    if paper:
        places = [place for place, label in enumerate(settings) if label in paper]
        theirs = [paper[label] for label in settings if label in paper]
        panels[1].plot(theirs, places, linestyle="", color="black", marker="D", fillstyle="none")
        panels[1].set(xlabel="one run", title="The paper")
    panels[0].set_yticks(range(len(settings)), names)
    panels[0].set_ylim(len(settings) - 0.5, -0.5)
    save(figure, path)


@styled
def draw_trajectories(settings: Mapping[str, Sequence[tuple[int, float, float]]], path: Path) -> None:
    """Draw alignment against uniformity along training, as in Figure 2.

    Args:
        settings: (step, uniformity, alignment) in order, by the label of the setting.
        path: the SVG file.
    """
    figure = canvas(WIDTH, 4.6)
    axis = figure.subplots()
    for place, (label, points) in enumerate(settings.items()):
        _, uniformity, alignment = zip(*points, strict=True)
        style: dict[str, Any] = {"color": SHADES[place % 4], "linestyle": DASHES[place % 6], "marker": MARKERS[place % 6]}
        axis.plot(uniformity, alignment, linewidth=1.2, markersize=5, label=label, **style)
    start = next(iter(settings.values()))[0]
    axis.annotate("untrained", start[1:], xytext=(-6, 8), textcoords="offset points", ha="right", fontsize=8.5)
    axis.set(xlabel=UNIFORMITY, ylabel=ALIGNMENT)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8.5, handlelength=3)
    save(figure, path)


@styled
def draw_dimensions(scores: Mapping[str, Mapping[int, Mapping[int, float]]], path: Path) -> None:
    """Draw what vectors score by the numbers kept of them: each run as a point, and the mean over seeds as a line.

    Args:
        scores: STS-B test by loss, width and seed.
        path: the SVG file.
    """
    figure = canvas(WIDTH, 3.2)
    axis = figure.subplots()
    for place, (label, by_width) in enumerate(scores.items()):
        means = [float(np.mean(list(by_seed.values()))) for by_seed in by_width.values()]
        style: dict[str, Any] = {"color": SHADES[2 * place], "marker": MARKERS[place]}
        axis.plot(list(by_width), means, linestyle=DASHES[place], linewidth=1.4, markersize=6, label=label, **style)
        points = [(width, score) for width, by_seed in by_width.items() for score in by_seed.values()]
        axis.plot(*zip(*points, strict=True), linestyle="", markersize=4, alpha=0.45, **style)
    axis.set_xscale("log", base=2)
    widths = sorted({width for by_width in scores.values() for width in by_width})
    axis.set_xticks(widths, [str(width) for width in widths])
    axis.minorticks_off()
    axis.set(xlabel="numbers kept of a vector", ylabel="STS-B test, Spearman × 100")
    axis.legend(frameon=False)
    save(figure, path)


@styled
def draw_claims(verdicts: Sequence[Verdict], path: Path) -> None:
    """Draw the difference of each claim about STS-B dev with its interval, turned so that the paper's side is the right.

    Args:
        verdicts: of claims with at least two pairs.
        path: the SVG file.
    """
    figure = canvas(WIDTH + 2.2, 1.1 + 0.27 * len(verdicts))
    axis = figure.subplots()
    axis.axvline(0, color="black", linewidth=0.8)
    for place, verdict in enumerate(verdicts):
        sign = 1 if verdict.claim.expected == "above" else -1
        low, high = verdict.interval
        marker, color, face = LOOKS.get(verdict.word, ("o", "0.5", "0.5"))
        axis.plot([low * sign, high * sign], [place, place], color=color, linewidth=1.4)
        axis.plot([verdict.mean * sign], [place], marker=marker, color=color, markerfacecolor=face, markersize=6)
    axis.set_yticks(range(len(verdicts)), [shortened(verdict.claim.claim, 72) for verdict in verdicts], fontsize=7.5)
    axis.set_ylim(len(verdicts) - 0.5, -0.5)
    axis.set(xlabel="difference of STS-B dev, 95 % interval")
    axis.grid(visible=True, axis="x", alpha=0.3)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG that is the same for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
