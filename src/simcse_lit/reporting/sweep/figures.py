"""Figures of a sweep: scores by setting, a heat map, curves over steps, alignment against uniformity.

Figures are as wide as a phone, so that text stays legible there. Settings differ in shade, dash and marker, so that they
are distinct in greyscale. `comparison.py` computes the numbers.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simcse_lit.reporting.keys import CURVES, other_curves
from simcse_lit.reporting.run.figures import ALIGNMENT, DASHES, MARKERS, STYLE, UNIFORMITY, canvas, save
from simcse_lit.reporting.sweep.comparison import Comparison, Setting, show
from simcse_lit.reporting.sweep.paper import Published, of_metric
from simcse_lit.tables import shortened

WIDTH = 4.3  # inches
DRAWN = 6  # at most so many settings are highlighted in a figure; the others are grey
LABEL_LENGTH = 40
LINE_LENGTH = 24

styled = matplotlib.rc_context(STYLE)


@styled
def draw_scores(comparison: Comparison, published: Sequence[Published], path: Path) -> None:
    """Draw runs as points with each setting's mean ± std, and published scores on the right, on another scale."""
    metric, settings = comparison.metric, comparison.settings
    theirs = {row.ours.values: row.score for row in of_metric(published, metric) if row.ours is not None}
    labels = [_wrapped(setting.label) for setting in settings]
    lines = max(label.count("\n") for label in labels)
    figure = canvas(WIDTH, 1.5 + (0.3 + 0.16 * lines) * len(settings))
    axes = figure.subplots(1, 1 + bool(theirs), sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + bool(theirs)])[0]
    places = np.arange(len(settings))
    for place, setting in zip(places, settings, strict=True):
        scores, mean, std = setting.scores(metric), setting.mean(metric), setting.std(metric)
        axes[0].plot(scores, [place] * len(scores), linestyle="", marker="o", color="0.6", markersize=5, zorder=2)
        bar: dict[str, Any] = {"color": "black", "capsize": 4, "marker": "|", "markersize": 13, "zorder": 3}
        axes[0].errorbar([np.nan if mean is None else mean], [place], xerr=[std or 0], **bar)
    several = any(len(setting.scores(metric)) > 1 for setting in settings)
    each = "runs, mean ± std" if several else "one run each"
    axes[0].set(xlabel=f"{metric}, {comparison.unit(metric)}:\n{each}", title="Ours")
    figure.suptitle(_axes_label(comparison), x=0.01, ha="left", fontsize=8.5)
    if theirs:
        values = [theirs.get(setting.values, np.nan) for setting in settings]
        axes[1].plot(values, places, linestyle="--", color="black", marker="D", fillstyle="none", linewidth=0.8)
        axes[1].set(xlabel=metric, title="Published")
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(len(settings) - 0.5, -0.5)
    save(figure, path)


@styled
def draw_heat_map(comparison: Comparison, path: Path) -> None:
    """Draw a matrix of two axes, with the mean score in each cell."""
    metric, (down, across) = comparison.metric, comparison.axes
    cells = np.full((len(down.values), len(across.values)), np.nan)
    for setting in comparison.settings:
        mean, place = setting.mean(metric), (down.values.index(setting.values[0]), across.values.index(setting.values[1]))
        cells[place] = np.nan if mean is None else mean
    figure = canvas(WIDTH, 1.5 + 0.42 * len(down.values))
    axis = figure.subplots()
    shades = axis.imshow(cells, cmap="Greys", aspect="auto")
    low, high = shades.get_clim()
    for (row, column), value in np.ndenumerate(cells):
        dark = (value - low) > 0.55 * ((high - low) or 1)
        text = "–" if math.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
    axis.set_xticks(range(len(across.values)), [shortened(show(value), 14) for value in across.values])
    axis.set_yticks(range(len(down.values)), [_wrapped(show(value)) for value in down.values])
    axis.set(xlabel=shortened(across.key, 44), ylabel=shortened(down.key, 30), title=f"{metric}, mean over seeds")
    axis.grid(visible=False)
    save(figure, path)


@styled
def draw_plane(comparison: Comparison, path: Path) -> None:
    """Draw alignment against uniformity of the kept weights, as in Figure 3: small points are runs, large ones means."""
    figure = canvas(WIDTH, 2.9 + _legend_height(comparison))
    axis = figure.subplots()
    for setting, style in _styles(comparison):
        spots = np.array([spot for run in setting.runs if (spot := kept_spot(run.history))])
        if not len(spots):
            continue
        point = {key: style[key] for key in ("color", "marker", "zorder")}
        axis.plot(spots[:, 0], spots[:, 1], linestyle="", markersize=3.5, alpha=0.6, **point)
        axis.plot(*spots.mean(0), linestyle="", markersize=9, label=style["label"], markeredgecolor="black", **point)
    axis.set(xlabel=UNIFORMITY, ylabel=ALIGNMENT, title="Alignment and uniformity of the kept weights")
    axis.margins(0.1)
    axis.locator_params(axis="x", nbins=5)  # labels of close values are long
    _legend(figure, [axis], comparison)
    save(figure, path)


def kept_spot(history: Any) -> tuple[float, float] | None:
    """Return (uniformity, alignment) at the best development score; None if they were not measured."""
    scores = {step: value for step, value in history.get("val/sts", ()) if value == value}
    ways = [dict(history.get(f"val/{name}", ())) for name in ("uniformity", "alignment")]
    common = [step for step in scores if all(step in way for way in ways)]
    if not common:
        return None
    best = max(common, key=lambda step: (scores[step], -step))
    return ways[0][best], ways[1][best]


@styled
def draw_curves(comparison: Comparison, title: str, labels: Mapping[str, str], path: Path) -> None:
    """Draw logged numbers over steps, a panel for each: the mean of each setting, with mean ± std over seeds shaded.

    Args:
        comparison: of the runs.
        title: of the figure.
        labels: label of each number, by its name; on its axis, or above the panel if there are several panels.
        path: file to write; its suffix becomes .png and .svg.
    """
    several = len(labels) > 1
    height = 0.6 + 1.5 * len(labels)
    figure = canvas(WIDTH, height + _legend_height(comparison))
    axes = figure.subplots(len(labels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        for setting, style in _styles(comparison):
            steps, mean, std = mean_curve(setting, name)
            if not len(steps):
                continue
            axis.plot(steps, mean, linewidth=1.4, markersize=4, markevery=max(1, len(steps) // 8), **style)
            axis.fill_between(steps, mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0, zorder=1)
        if several:
            axis.set_title(shortened(label, 48), fontsize=9)
        else:
            axis.set_ylabel(shortened(label, LINE_LENGTH))
        if name == "lr":
            axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    if several:
        figure.suptitle(shortened(title, 48), x=0.01, ha="left", fontsize=10)
    else:
        axes[0].set_title(shortened(title, 48))
    axes[-1].set_xlabel("step")
    axes[-1].locator_params(axis="x", integer=True)
    _legend(figure, axes, comparison)
    save(figure, path)


def mean_curve(setting: Setting, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, and mean and standard deviation (n - 1; 0 for one run) over the runs that logged the number."""
    by_step: dict[int, list[float]] = {}
    for run in setting.runs:
        for step, value in dict(run.history.get(name, ())).items():
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    std = [np.std(by_step[step], ddof=1) if len(by_step[step]) > 1 else 0.0 for step in steps]
    return np.array(steps), np.array([np.mean(by_step[step]) for step in steps]), np.array(std)


def draw_all(comparison: Comparison, published: Sequence[Published], folder: Path) -> dict[str, str]:
    """Draw every figure for which there are numbers, as PNG and SVG, and return the captions by name."""
    drawn: dict[str, str] = {}

    def draw(name: str, caption: str, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments, folder / f"{name}.png")
        drawn[name] = caption

    folder.mkdir(parents=True, exist_ok=True)
    if len(comparison.settings) > 1:
        draw("scores", f"{comparison.metric} of every setting and run", draw_scores, comparison, published)
    sizes = [len(axis.values) for axis in comparison.axes]
    if len(sizes) == 2 and 2 * len(comparison.settings) > sizes[0] * sizes[1]:  # most cells of a random search are empty
        first, second = (axis.key for axis in comparison.axes)
        draw("heat_map", f"{comparison.metric} by {first} and {second}", draw_heat_map, comparison)
    if any(kept_spot(run.history) for setting in comparison.settings for run in setting.runs):
        draw("alignment_uniformity", "Alignment against uniformity of every setting", draw_plane, comparison)
    logged = {name for setting in comparison.settings for run in setting.runs for name in run.history}
    curves = {name for name in logged if any(len(mean_curve(setting, name)[0]) > 1 for setting in comparison.settings)}
    for name, curve in CURVES.items():
        if name in curves:
            caption = f"{curve.title} over steps"
            draw(name.replace("/", "_"), caption, draw_curves, comparison, curve.title, {name: curve.unit})
    for title, labels in other_curves(curves).items():
        draw(re.sub(r"\W+", "_", title).lower(), f"{title} over steps", draw_curves, comparison, title, labels)
    return drawn


def _styles(comparison: Comparison) -> list[tuple[Setting, dict[str, Any]]]:
    """Choose a style for each setting. With more than DRAWN settings, all but the best and the baseline are grey."""
    settings = list(comparison.settings)
    if len(settings) > DRAWN:
        first = [comparison.baseline] if comparison.baseline else []
        first += [setting for setting in comparison.ranked() if setting is not comparison.baseline]
        settings = [setting for setting in settings if any(setting is one for one in first[:DRAWN])]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, max(len(settings), 2)))
    styles = []
    for setting in comparison.settings:
        place = next((place for place, one in enumerate(settings) if one is setting), None)
        if place is None:
            style: dict[str, Any] = {"color": "0.8", "linestyle": "-", "marker": ".", "zorder": 1, "label": "_nolegend_"}
        else:
            note = " (baseline)" if setting is comparison.baseline else ""
            label = shortened(setting.label, LABEL_LENGTH) + note
            style = {"color": shades[place], "linestyle": DASHES[place % 6], "marker": MARKERS[place % 6], "zorder": 3}
            style["label"] = f" {label}"  # matplotlib leaves out labels that begin with an underscore
        styles.append((setting, style))
    return styles


def _legend(figure: Figure, axes: Iterable[Axes], comparison: Comparison) -> None:
    """Add a legend of all settings below the axes."""
    if len(comparison.settings) < 2:
        return
    shown: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        shown = {**dict(zip(labels, handles, strict=True)), **shown}
    grey = len(comparison.settings) - DRAWN
    title = _axes_label(comparison) + (f"\n(grey: {grey} others)" if grey > 0 else "")
    style: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "alignment": "left", "handlelength": 3}
    style |= {"title": title, "ncols": _columns(comparison)}
    legend = figure.legend(shown.values(), shown.keys(), loc="outside lower left", **style)
    legend.get_title().set_fontsize(8.5)


def _columns(comparison: Comparison) -> int:
    """Count the legend's columns: two if all labels are short."""
    return 2 if all(len(setting.label) < 20 for setting in comparison.settings) else 1


def _legend_height(comparison: Comparison) -> float:
    """Return the height, in inches, that `_legend` will take."""
    several = len(comparison.settings) > 1
    rows = math.ceil(min(len(comparison.settings), DRAWN) / _columns(comparison)) + (len(comparison.settings) > DRAWN)
    return 0.2 + 0.165 * rows if several else 0.0


def _axes_label(comparison: Comparison) -> str:
    return shortened(", ".join(axis.key for axis in comparison.axes), 60)


def _wrapped(label: str) -> str:
    """Break a label after commas into lines of at most LINE_LENGTH characters."""
    lines = [""]
    for part in re.split(r"(?<=,)", shortened(label, 4 * LINE_LENGTH)):
        if lines[-1] and len(lines[-1] + part) > LINE_LENGTH:
            lines.append("")
        lines[-1] += shortened(part if lines[-1] else part.lstrip(), LINE_LENGTH)
    return "\n".join(lines)
