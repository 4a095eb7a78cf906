"""Compares the runs of a sweep: keys that varied, scores of each setting over its seeds, and tests of differences.

A setting is a combination of values that several seeds share. This module computes numbers. `figures.py` draws them, and
`page.py` and `tables.py` write them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simcse_lit.config.resume import FREE, FREE_KEYS
from simcse_lit.errors import UserError
from simcse_lit.evaluation.statistics import holm, spread, welch
from simcse_lit.families import STS, Family
from simcse_lit.reporting.sweep.runs import FINISHED, Run
from simcse_lit.tables import columns, ordered

NEVER = ("seed", "run_dir", "resume")  # keys that are never an axis


@dataclass(frozen=True)
class Axis:
    """A key or group that varied.

    Args:
        key: a dotted key of the configuration, or a group.
        values: its values in order.
        along: other keys whose values follow from it, so that they need no axis.
    """

    key: str
    values: Sequence[Any]
    along: Sequence[str]


@dataclass(frozen=True)
class Setting:
    """A value on each axis, and the runs (seeds) with these values."""

    values: tuple[Any, ...]
    runs: Sequence[Run]

    @property
    def label(self) -> str:
        """Short name: the values, or the name of the run if nothing varied."""
        return ", ".join(map(show, self.values)) or self.runs[0].label

    def is_where(self, typed: Mapping[str, str]) -> bool:
        """Tell whether the keys have these values, given as typed."""
        return all(same(self.runs[0].facts.get(key), value) for key, value in typed.items())

    def scores(self, metric: str) -> list[float]:
        """Return the score of each run that has it."""
        return [run.scores[metric] for run in self.runs if metric in run.scores]

    def mean(self, metric: str) -> float | None:
        """Return the mean of a score over the runs; None if no run has it."""
        return float(np.mean(scores)) if (scores := self.scores(metric)) else None

    def std(self, metric: str) -> float | None:
        """Return the sample standard deviation (n - 1) of a score over the runs; None with fewer than two."""
        return spread(scores)[1] if len(scores := self.scores(metric)) > 1 else None


@dataclass(frozen=True)
class Difference:
    """A setting compared with the baseline.

    Args:
        difference: mean of the setting minus mean of the baseline.
        p: two-sided p-value of Welch's t test over seeds; None if either has fewer than two scores, or no score differs.
        p_holm: p-value corrected by Holm's method for all settings that are tested.
    """

    difference: float
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """The comparison of all finished runs.

    Args:
        axes: the keys that varied.
        settings: in the order of the axes' values.
        metrics: names of the scores: the development set, then the others in the order of `tables.columns`.
        families: families of the tasks by name, if the runs recorded them.
        metric: the score that ranks the settings and is tested.
        baseline: the setting that the others are tested against, or None.
        baseline_note: why this setting is the baseline, or why there is none.
    """

    axes: Sequence[Axis]
    settings: Sequence[Setting]
    metrics: Sequence[str]
    families: Mapping[str, Family]
    metric: str
    baseline: Setting | None
    baseline_note: str

    def unit(self, name: str) -> str:
        """Return the metric of a score for display. The development set of an old run counts as STS."""
        dev = {name: STS} if name == self.metrics[0] else {}
        (family,) = columns([name], {**dev, **self.families})
        return family.metric.replace(" x ", " × ")

    def sign(self, name: str) -> int:
        """Return 1 if a higher score is better, and -1 if a lower one is."""
        return -1 if name in self.families and self.families[name].lower_is_better else 1

    def ranked(self) -> list[Setting]:
        """Return the settings with a mean score, best first."""
        means = {setting.values: setting.mean(self.metric) for setting in self.settings}
        scored = [setting for setting in self.settings if (mean := means[setting.values]) is not None and mean == mean]
        sign = self.sign(self.metric)
        return sorted(scored, key=lambda setting: -sign * (means[setting.values] or 0))

    def differences(self) -> dict[tuple[Any, ...], Difference]:
        """Return the difference of each setting from the baseline, by the values of the setting; {} without a baseline."""
        if self.baseline is None:
            return {}
        base = self.baseline.scores(self.metric)
        others = [one for one in self.settings if one is not self.baseline and one.scores(self.metric)]
        if not base:
            return {}
        p_values = [welch(one.scores(self.metric), base) for one in others]
        corrected = iter(holm([p for p in p_values if p is not None]))
        return {
            one.values: Difference(
                float(np.mean(one.scores(self.metric)) - np.mean(base)), p, None if p is None else next(corrected)
            )
            for one, p in zip(others, p_values, strict=True)
        }


def compare(
    runs: Sequence[Run],
    *,
    metric: str | None,
    baseline: Mapping[str, str] | None,
    defaults: Mapping[str, Any] | None,
) -> Comparison:
    """Compare the finished runs.

    Args:
        runs: all runs that were found, in any state.
        metric: name of a score; None for the development set.
        baseline: values, as typed, by key, of the setting to test against; None for the setting with the default values.
        defaults: default values by key, from `common_defaults`; None if they are unknown.

    Raises:
        UserError: there is no such score or no such baseline.
    """
    finished = [run for run in runs if run.state == FINISHED]
    axes = find_axes(finished)
    grouped: dict[str, list[Run]] = {}
    for run in finished:
        grouped.setdefault(_canonical([run.facts.get(axis.key) for axis in axes]), []).append(run)
    settings = [Setting(tuple(group[0].facts.get(axis.key) for axis in axes), group) for group in grouped.values()]
    settings.sort(key=lambda one: [_place(axis, value) for axis, value in zip(axes, one.values, strict=True)])
    dev = next(iter(finished[0].scores)) if finished else ""
    families = {name: family for run in finished for name, family in run.families.items()}
    names = {name for run in finished for name in run.scores}
    metrics = [dev, *(name for name in ordered(names, families) if name != dev)]
    if metric is not None and metric not in metrics:
        raise UserError(f"metric={metric}: no run has this score. Scores: {', '.join(metrics)}.")
    chosen, note = _baseline(axes, settings, baseline, defaults)
    return Comparison(axes, settings, metrics if finished else [], families, metric or dev, chosen, note)


def find_axes(runs: Sequence[Run]) -> list[Axis]:
    """Find what varied: overrides that differ between runs, and other keys whose values do not follow from these.

    For example, the keys that a group such as `model` changes follow from the group. The seed is never an axis.
    """
    differing = [key for key in _keys(runs) if len({_canonical(run.facts.get(key)) for run in runs}) > 1]
    differing = [key for key in differing if key not in NEVER]
    common = set.intersection(*(set(run.overrides) for run in runs)) if runs else set()
    typed = dict.fromkeys(
        override.partition("=")[0].lstrip("+~") for run in runs for override in run.overrides if override not in common
    )
    chosen = [key for key in typed if key in differing]
    for key in differing:
        if not _free(key) and not _follows(runs, key, chosen):
            chosen.append(key)
    rest = [key for key in differing if key not in chosen and not _free(key)]
    return [
        Axis(key, _in_order([run.facts.get(key) for run in runs]), [other for other in rest if _follows(runs, other, [key])])
        for key in chosen
    ]


def _keys(runs: Sequence[Run]) -> list[str]:
    """Return all keys. Keys that name a choice (`pooler.name`) come first, since other keys follow from them."""
    keys = dict.fromkeys(key for run in runs for key in run.facts)
    return sorted(keys, key=lambda key: not key.endswith(("name", "name_or_path")))


def _free(key: str) -> bool:
    """Tell whether a key decides only where and how a run is computed and watched, and not its result."""
    group, _, leaf = key.partition(".")
    return group.partition("@")[0] in FREE or leaf in FREE_KEYS.get(group, ())


def _follows(runs: Sequence[Run], key: str, others: Sequence[str]) -> bool:
    """Tell whether the values of other keys determine the value of this one."""
    by_others: dict[str, set[str]] = {}
    for run in runs:
        by_others.setdefault(_canonical([run.facts.get(other) for other in others]), set()).add(
            _canonical(run.facts.get(key))
        )
    return all(len(values) == 1 for values in by_others.values())


def _baseline(
    axes: Sequence[Axis],
    settings: Sequence[Setting],
    asked: Mapping[str, str] | None,
    defaults: Mapping[str, Any] | None,
) -> tuple[Setting | None, str]:
    """Find the baseline, and explain why it is this setting or why there is none.

    Raises:
        UserError: the requested baseline matches no setting, or several.
    """
    keys = [axis.key for axis in axes]
    if asked is not None:
        unknown = next((key for key in asked if not any(key in (axis.key, *axis.along) for axis in axes)), None)
        if unknown is not None:
            raise UserError(f"baseline={unknown}=...: this key did not vary. Keys that varied: {', '.join(keys) or 'none'}.")
        found = [one for one in settings if one.is_where(asked)]
        if len(found) != 1:
            typed = ",".join(f"{key}={value}" for key, value in asked.items())
            there = "; ".join(one.label for one in settings)
            raise UserError(f"baseline={typed}: matches {len(found)} settings. Settings of {', '.join(keys)}: {there}.")
        return found[0], "chosen with baseline="
    if len(settings) < 2:
        return None, "there is only one setting"
    if defaults is None:
        return None, "the default values are not known; choose a setting with baseline=KEY=VALUE"
    told = ", ".join(f"{key} = {show(defaults.get(key))}" for key in keys)
    for one in settings:
        if all(_canonical(value) == _canonical(defaults.get(key)) for key, value in zip(keys, one.values, strict=True)):
            return one, f"the default, {told}"
    return None, f"the default ({told}) is not among the settings; choose a setting with baseline=KEY=VALUE"


def show(value: Any) -> str:
    """Format a value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(show, value))}]"
    return str(value)


def same(value: Any, typed: str) -> bool:
    """Tell whether a value equals a typed one. Numbers are compared as numbers: 0.05 equals 5e-2."""
    if isinstance(value, bool):
        return show(value) == typed
    try:
        return float(value) == float(typed)
    except (TypeError, ValueError):
        return show(value) == typed


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Return the distinct values: first those that are not numbers, in the order of the runs, then numbers by size."""
    distinct = list({_canonical(value): value for value in values}.values())
    numbers = [value for value in distinct if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return [value for value in distinct if value not in numbers] + sorted(numbers)


def _place(axis: Axis, value: Any) -> int:
    return [_canonical(one) for one in axis.values].index(_canonical(value))
