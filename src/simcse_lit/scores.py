"""Reads and writes `scores.json` of a run folder: scores before and after training. `evaluation/` computes them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simcse_lit.disk import durable_replace
from simcse_lit.errors import UserError
from simcse_lit.families import Family

FILE = "scores.json"
STAGES = ("before", "after")

# Stage ("before" or "after" training), then part ("dev", the set that chooses the checkpoint, or "test", all other sets and
# their averages), then task: a score in the metric of the task's family.
Scores = dict[str, dict[str, dict[str, float]]]


class NoScore(UserError):
    """A score is NaN or infinite."""


def write_scores(folder: Path, scores: Scores, families: Mapping[str, Family]) -> None:
    """Write the scores of a run. The file is replaced atomically.

    Args:
        folder: the run folder.
        scores: of the run.
        families: the family of each task, by the name of the task.

    Raises:
        OSError: the file cannot be written.
        ValueError: a score is not finite.
    """
    partial = folder / f".{FILE}.partial"
    recorded: dict[str, dict[str, Any]] = {}
    for task, family in families.items():
        recorded.setdefault(family.name, {**asdict(family), "tasks": []})["tasks"].append(task)
    content = {**scores, "families": recorded}
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    durable_replace(partial, folder / FILE)


def read_scores(folder: Path) -> Scores:
    """Read the scores of a run.

    Version 0.1 wrote each stage as one mapping with the development set first. It is converted to the current form. That
    version could also write NaN and infinities, which are refused.

    Args:
        folder: the run folder.

    Returns:
        The scores; {} if the run has none yet.

    Raises:
        NoScore: a score is NaN or infinite.
        UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        scores = {stage: _parted(found[stage]) for stage in STAGES if found.get(stage)}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    for stage, row in by_task(scores).items():
        for task, score in row.items():
            if not math.isfinite(score):
                raise NoScore(
                    f"{path}: {task} {stage} training is {score}, which is no score. Its gold scores are all equal, or the\n"
                    "encoder gave every sentence the same vector. To find out which, remove the file and score the run\n"
                    f"again: resume={folder}"
                )
    return scores


def read_families(folder: Path) -> dict[str, Family]:
    """Read the family of each task of a run, by the name of the task; {} for older versions, which recorded none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")).get("families", {}).values()
        made = [(each.pop("tasks"), Family(**each | {"columns": tuple(each["columns"])})) for each in recorded]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    return {task: family for tasks, family in made for task in tasks}


def _parted(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    if not all(isinstance(part, Mapping) for part in row.values()):
        dev, *tests = row.items()
        row = {"dev": dict([dev]), "test": dict(tests)}
    return {part: {str(task): float(score) for task, score in row[part].items()} for part in ("dev", "test")}


def by_task(scores: Scores) -> dict[str, dict[str, float]]:
    """Merge the parts of each stage: scores by task, the development set first."""
    return {stage: {**row["dev"], **row["test"]} for stage, row in scores.items()}


def to_maximise(row: Mapping[str, Mapping[str, float]], families: Mapping[str, Family]) -> float:
    """Return what a sweeper maximises: the score of the development set of one stage, or minus a loss.

    Args:
        row: scores of the stage.
        families: the family of each task by name, if known.
    """
    name, score = dev_score(row)
    return -score if name in families and families[name].lower_is_better else score


def dev_score(row: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """Return name and score of the development set of one stage."""
    return next(iter(row["dev"].items()))
