"""`scores.json` of a run folder: what the encoder scored before and after training, on which set, by which metric."""

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

# "before" or "after" training, then "dev" (the one set that chooses the checkpoint) or "test" (all others and their
# averages), then the task: a score by the metric of its family.
Scores = dict[str, dict[str, dict[str, float]]]


class NoScore(UserError):
    """A score is NaN or infinite."""


def write_scores(folder: Path, scores: Scores, families: Mapping[str, Family]) -> None:
    """Write a run's scores; at any moment the old file or the new one is there.

    Args:
        folder: of the run.
        scores: of the run.
        families: of the tasks, by name.

    Raises:
        OSError: the file cannot be written.
        ValueError: a score is no finite number.
    """
    partial = folder / f".{FILE}.partial"
    recorded: dict[str, dict[str, Any]] = {}
    for task, family in families.items():
        recorded.setdefault(family.name, {**asdict(family), "tasks": []})["tasks"].append(task)
    content = {**scores, "families": recorded}
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    durable_replace(partial, folder / FILE)


def read_scores(folder: Path) -> Scores:
    """Read a run's scores; {} if it has none yet.

    Version 0.1 wrote each stage as one mapping with the development set first; it is read as the form of today. It also
    wrote NaN and infinities, which no encoder has as its score.

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
                    f"{path}: {task} {stage} training is {score}, which is no score: its gold scores are all the same, or\n"
                    "the encoder gave every sentence the same vector. To hear which, remove the file and score the run\n"
                    f"again: resume={folder}"
                )
    return scores


def read_families(folder: Path) -> dict[str, Family]:
    """Read the families of a run's tasks, by task; {} if it recorded none, as older versions did.

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
    """Each stage's scores by task, the development set first."""
    return {stage: {**row["dev"], **row["test"]} for stage, row in scores.items()}


def dev_score(row: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """Name and score of the development set of one stage."""
    return next(iter(row["dev"].items()))
