"""Reads the numbers that a run logged, and draws its curve: loss, development score and learning rate over steps."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from simcse_lit.reporting.run.figures import canvas


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a `metrics.csv`.

    Returns:
        (step, value) of each number, by name, in the order of steps and without empty cells. The learning rate is named
        `lr`: Lightning's monitor appends the name of the optimiser.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rate = next((name for name in reader.fieldnames or () if name.startswith("lr-")), None)
        for row in reader:
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    curves.setdefault("lr" if name == rate else name, []).append((int(row["step"]), float(value)))
    return curves


def training_curve(curves: Mapping[str, Sequence[tuple[int, float]]], dev: str, best: float, path: Path) -> None:
    """Draw loss, development score and learning rate in three panels, as a PNG that is legible in greyscale.

    Args:
        curves: from `read_metrics`.
        dev: name of the development set, for the label of the axis.
        best: score of the exported checkpoint.
        path: the PNG to write.
    """
    labels = {
        "train/loss": "training loss (nats)",
        "val/sts": f"{dev}\nSpearman × 100",
        "val/mlm_loss": f"{dev}\nnats per masked token",
        "val/mlm_accuracy": "held-out accuracy\n% of the masked tokens",
        "lr": "learning rate",
    }
    shown = [name for name in labels if name in curves]
    figure = canvas(7, 2.2 * len(shown))
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, shown, strict=True):
        steps, values = zip(*curves[name], strict=True)
        axis.plot(steps, values, color="black", linewidth=1.2, marker="o" if name.startswith("val/") else "", markersize=4)
        axis.set_ylabel(labels[name])
        axis.grid(alpha=0.3)
        if name in ("val/sts", "val/mlm_loss"):
            axis.set_title(f"best {best:.2f}", loc="right", fontsize=9)
    axes[-1].set_xlabel("step")
    figure.savefig(path, dpi=150)
