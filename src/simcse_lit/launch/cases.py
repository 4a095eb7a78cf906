"""Computes the jobs of a sweep over a list of cases (`conf/hydra/sweeper/cases.yaml`)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


def jobs_of(cases: Iterable[Mapping[str, Any]], overrides: Sequence[Override]) -> list[list[str]]:
    """Combine each case with every combination of the other swept keys.

    Most tables of the paper are such lists of cases and not products.

    Args:
        cases: overrides of each case, key to value; a value with commas stands for several cases.
        overrides: overrides of all cases; they win over a case's.

    Returns:
        The overrides of each job, without duplicates.
    """
    jobs: dict[frozenset[str], list[str]] = {}
    for case in cases:
        words = [f"{key}={'null' if value is None else value}" for key, value in case.items()]
        own = OverridesParser.create().parse_overrides(words)
        for job in BasicSweeper.split_arguments([*own, *overrides], None)[0]:
            jobs.setdefault(frozenset(job), job)
    return list(jobs.values())
