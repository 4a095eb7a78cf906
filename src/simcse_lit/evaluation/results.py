"""Results of an evaluation as data: scores, intervals, comparisons, and their JSON form. `reporting/` shows them.

docs/reference/results.md describes results.json. Raise SCHEMA when its form changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor

from simcse_lit.config.schema import BootstrapConfig
from simcse_lit.evaluation.statistics import interval, p_value, resampled_spearman, spread
from simcse_lit.evaluation.task import Result, Task
from simcse_lit.families import STS, Family

SCHEMA = 1


@dataclass(frozen=True)
class EncoderResult:
    """All results of one encoder.

    Args:
        label: a short name, for tables and figures.
        description: source, kind, pooler, projection and so on.
        encoding: counts and time of the encoder pass.
        results: the result of each task, by name.
        resampled: Spearman x 100 of the resamples of each STS task, (S,), by name.
        averages: mean score of each family, by the name of the average.
        averaged: names of the STS tasks in the average of STS, if there is one.
        analyses: the numbers of each analysis, by name.
    """

    label: str
    description: Mapping[str, Any]
    encoding: Mapping[str, Any]
    results: Mapping[str, Result]
    resampled: Mapping[str, np.ndarray]
    averages: Mapping[str, float]
    averaged: Sequence[str] = ()
    analyses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """The score of each task, then the averages: a row of a table."""
        return {name: result.score for name, result in self.results.items()} | dict(self.averages)

    def intervals(self, confidence: float) -> dict[str, tuple[float, float]]:
        """Compute the bootstrap interval of each STS task, and of their average if there is one."""
        return {name: interval(values_S, confidence) for name, values_S in self.resampled_with_average().items()}

    def resampled_with_average(self) -> dict[str, np.ndarray]:
        """Return `resampled` and, if there is one, the average over the sets, which are resampled independently."""
        resampled = dict(self.resampled)
        average = STS.average
        if average in self.averages and all(name in resampled for name in self.averaged):
            resampled[average] = np.mean([resampled[name] for name in self.averaged], axis=0)
        return resampled


def resample(results: Mapping[str, Result], bootstrap: BootstrapConfig) -> dict[str, np.ndarray]:
    """Compute Spearman x 100 of the resamples of every STS task; {} for zero samples."""
    if not bootstrap.samples:
        return {}
    return {
        name: resampled_spearman(result.cosine, result.gold, samples=bootstrap.samples, seed=bootstrap.seed)
        for name, result in results.items()
        if result.cosine is not None and result.gold is not None
    }


@dataclass(frozen=True)
class Difference:
    """Score of the second encoder minus that of the first on one task, with its bootstrap interval and p-value."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Labels of two encoders, and their difference on each STS task and on the average."""

    first: str
    second: str
    by_task: Mapping[str, Difference]


def compare(first: EncoderResult, second: EncoderResult, confidence: float) -> Comparison:
    """Compare two encoders by the paired bootstrap. Source: Koehn 2004."""
    one, other = first.resampled_with_average(), second.resampled_with_average()
    found = {}
    for name in one:
        differences_S = other[name] - one[name]
        low, high = interval(differences_S, confidence)
        found[name] = Difference(second.scores[name] - first.scores[name], low, high, p_value(differences_S))
    return Comparison(first.label, second.label, found)


def over_seeds(encoders: Sequence[EncoderResult]) -> dict[str, tuple[float, float]]:
    """Compute mean and sample standard deviation of each score over several encoders."""
    return {name: spread([encoder.scores[name] for encoder in encoders]) for name in encoders[0].scores}


def labels(sources: Sequence[str]) -> list[str]:
    """Make short labels of encoders: the parts that their paths do not share, or the last informative part of a single path.

    Parts that say nothing (`export`) are left out at the end, and of a longer path only as many parts are kept, two or more,
    as keep the labels apart. Labels are unique, since tables and figures are keyed by them. If two short labels were equal,
    all sources are used as they are.

    Args:
        sources: different names of folders, files or Hub ids.
    """
    parts = [[part for part in PurePosixPath(source.removeprefix("pkg://")).parts if part != "/"] for source in sources]
    if len(parts) == 1:
        return [_informative(parts[0])[-1]]
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    while all(len(part) > 1 for part in parts) and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    telling = list(map(_informative, parts))
    for kept in range(2, max([2, *map(len, telling)]) + 1):
        short = ["/".join(part[-kept:]) for part in telling]
        if len(set(short)) == len(short):
            return short
    short = ["/".join(part) for part in parts]
    return short if len(set(short)) == len(short) else list(sources)


def _informative(parts: list[str]) -> list[str]:
    kept = len(parts)
    while kept and parts[kept - 1] in ("export", "checkpoints", "model"):
        kept -= 1
    return parts[:kept] or parts


def as_json(
    encoders: Sequence[EncoderResult],
    tasks: Sequence[Task],
    *,
    confidence: float,
    compared: Comparison | None,
    seeds: Mapping[str, tuple[float, float]],
    missing: Mapping[str, str],
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the content of results.json. NaN and infinities become null."""
    families = {task.name: task.family for task in tasks}
    content = {
        "schema": SCHEMA,
        **made,
        "families": {family.name: asdict(family) for family in families.values()},
        "encoders": [_encoder(encoder, families, confidence) for encoder in encoders],
        "comparison": compared
        and {
            "first": compared.first,
            "second": compared.second,
            "by_task": {name: vars(difference) for name, difference in compared.by_task.items()},
        },
        "over_encoders": {name: {"mean": mean, "std": std} for name, (mean, std) in seeds.items()},
        "missing": dict(missing),
    }
    return dict(plain(content))


def _encoder(encoder: EncoderResult, families: Mapping[str, Family], confidence: float) -> dict[str, Any]:
    intervals = encoder.intervals(confidence)
    tasks = {}
    for name, result in encoder.results.items():
        ours = {"family": families[name].name, "score": result.score, "interval": intervals.get(name)}
        tasks[name] = {**ours, **result.metrics, **ours, "subsets": result.subsets}
    return {
        "label": encoder.label,
        **encoder.description,
        "encoding": encoder.encoding,
        "tasks": tasks,
        "averages": {name: {"score": score, "interval": intervals.get(name)} for name, score in encoder.averages.items()},
        "analyses": encoder.analyses,
    }


def plain(value: Any) -> Any:
    """Convert a value to plain JSON types: arrays and tensors to lists, NaN and infinities to None."""
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(child) for child in value]
    if isinstance(value, (np.ndarray, Tensor)):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
