"""Keep what a comparison of encoders measured: experiments/NAME/miniature.csv and its figures, from `make experiment`.

Run: python -m experiments.compared NAME [FOLDER]. FOLDER, multirun/NAME/miniature by default, is that of
`simcse-lit evaluate -m +comparison=miniature/NAME`.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

HERE = Path(__file__).parent
SEEDLESS = {"lm": "untrained", "miniature-unsup-0": "miniature-unsup", "miniature-sup-0": "miniature-sup"}


def average(encoder: Mapping[str, Any]) -> dict[str, float]:
    """The average of the seven sets, in the three ways of appendix B."""
    ways = {"Avg.": "spearman", "mean of subsets": "spearman_mean", "weighted mean": "spearman_weighted_mean"}
    tasks = encoder["tasks"].values()  # a set without subsets has one way only
    return {name: fmean(task.get(key, task["spearman"]) for task in tasks) for name, key in ways.items()}


def plain_average(encoder: Mapping[str, Any]) -> dict[str, float]:
    """The average of the seven sets."""
    return {"Avg.": average(encoder)["Avg."]}


def plane(encoder: Mapping[str, Any]) -> dict[str, float]:
    """Alignment, uniformity and the average of the seven sets."""
    found = encoder["analyses"]["alignment_uniformity"]
    return {"alignment": found["alignment"], "uniformity": found["uniformity"], **plain_average(encoder)}


def spectrum(encoder: Mapping[str, Any]) -> dict[str, float]:
    """Effective rank, and singular values relative to the largest."""
    found = encoder["analyses"]["spectrum"]
    values = {f"singular value {place}": found["singular_values"][place - 1] for place in (2, 10, 100)}
    return {"effective rank": found["effective_rank"], **values}


def density(encoder: Mapping[str, Any]) -> dict[str, float]:
    """Mean cosine of each group of gold scores."""
    groups = encoder["analyses"]["density"]["groups"]
    return {f"cosine at gold {group['above']:g} to {group['up_to']:g}": group["mean"] for group in groups}


COMPARISONS: dict[str, Callable[[Mapping[str, Any]], dict[str, float]]] = {
    "aggregation": average,
    "postprocess": plain_average,
    "alignment-uniformity-scatter": plane,
    "singular-values": spectrum,
    "similarity-density": density,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=COMPARISONS)
    parser.add_argument("folder", nargs="?", type=Path, help="of the sweep; default: multirun/NAME/miniature")
    given = parser.parse_args()
    folder = given.folder or Path("multirun", given.name, "miniature")
    results = sorted(folder.glob("*/results.json"), key=lambda path: int(path.parent.name))
    if not results:
        raise SystemExit(f"{folder}: no results. Run: make experiment NAME={given.name} SCALE=miniature")
    with (HERE / given.name / "miniature.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["encoder", "postprocess", "fitted on", "measured", "value"])
        for path in results:
            for encoder, made, measured in _measured(given.name, path):
                writer.writerows([encoder, *made, name, f"{value:.5g}"] for name, value in measured.items())
    for path in results[0].parent.glob("*.svg"):
        shutil.copy(path, HERE / given.name / "miniature.svg")
    return 0


def _measured(name: str, path: Path) -> Iterator[tuple[str, tuple[str, str], dict[str, float]]]:
    """Yield the name of each encoder of a job, how its vectors were changed, and its numbers."""
    for encoder in json.loads(path.read_text(encoding="utf-8"))["encoders"]:
        parts = [part for part in PurePath(encoder["checkpoint"]).parts if part != "export"]
        step = encoder["postprocess"] or {}
        fitted = "" if not step else PurePath(step["fit_on"]).name if step.get("fit_on") else "the task"
        yield SEEDLESS.get(parts[-1], parts[-1]), (step.get("name", "none"), fitted), COMPARISONS[name](encoder)


def table(path: Path) -> list[list[str]]:
    """Return the table of a miniature.csv: a row for each encoder and post-processing."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    keys = [key for key in ("encoder", "postprocess", "fitted on") if len({line[key] for line in lines}) > 1]
    names = list(dict.fromkeys(line["measured"] for line in lines))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for line in lines:
        found.setdefault(tuple(line[key] or "–" for key in keys), {})[line["measured"]] = _short(float(line["value"]))
    return [[*keys, *names], *([*values, *(numbers[name] for name in names)] for values, numbers in found.items())]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
