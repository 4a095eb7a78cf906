"""The training curve of one run as a PNG: loss, score on the development set, learning rate over steps."""

import csv
from pathlib import Path


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Each metric of a `metrics.csv` as (step, value) in the order of steps; empty cells are skipped."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    curves.setdefault(name, []).append((int(row["step"]), float(value)))
    return curves


def training_curve(curves: dict[str, list[tuple[int, float]]], dev: str, best: float, path: Path) -> None:
    """Draw `train/loss`, `val/sts` and the learning rate below each other; legible in greyscale.

    Args:
        curves: from `read_metrics`.
        dev: name of the development set, for the axis.
        best: score of the checkpoint that is exported.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rate = next((name for name in curves if name.startswith("lr-")), "")
    panels = [
        ("train/loss", "training loss (nats)", ""),
        ("val/sts", f"{dev}\nSpearman × 100", "o"),
        (rate, "learning rate", ""),
    ]
    shown = [panel for panel in panels if panel[0] in curves]
    figure = Figure(figsize=(7, 2.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, label, marker) in zip(axes, shown, strict=True):
        steps, values = zip(*curves[name], strict=True)
        axis.plot(steps, values, color="black", linewidth=1.2, marker=marker, markersize=4)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if name == "val/sts":
            axis.set_title(f"best {best:.2f}", loc="right", fontsize=9)
    axes[-1].set_xlabel("step")
    figure.savefig(path, dpi=150)
