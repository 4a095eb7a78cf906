"""The jobs of a sweep over a list of cases (conf/hydra/sweeper/cases.yaml)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


def jobs_of(cases: Iterable[Mapping[str, Any]], overrides: Sequence[Override]) -> list[list[str]]:
    """Each case with every combination of what else is swept: most tables of the paper are such lists, and no products.

    Args:
        cases: the overrides of each, key to value; a value with commas is several cases.
        overrides: those of all cases; they win over a case's.

    Returns:
        The overrides of each job, no job twice.
    """
    jobs: dict[frozenset[str], list[str]] = {}
    for case in cases:
        words = [f"{key}={'null' if value is None else value}" for key, value in case.items()]
        own = OverridesParser.create().parse_overrides(words)
        for job in BasicSweeper.split_arguments([*own, *overrides], None)[0]:
            jobs.setdefault(frozenset(job), job)
    return list(jobs.values())
