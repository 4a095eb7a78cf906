"""Hydra finds plugins only in the namespace `hydra_plugins`, and uses only classes that are defined there."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from simcse_lit.launch.cases import jobs_of


class CaseSweeper(BasicSweeper):
    """Hydra's basic sweeper over a list of cases (`simcse_lit.launch.cases`).

    Args:
        cases: overrides of each case, key to value.
        params: other swept keys; the command line adds to them and overrides them.
        max_batch_size: jobs given to the launcher at a time; None for all.
    """

    def __init__(
        self, cases: Sequence[Mapping[str, Any]], params: dict[str, str] | None = None, max_batch_size: int | None = None
    ) -> None:
        super().__init__(max_batch_size, params)
        self.cases = cases

    def split_arguments(  # type: ignore[override]  # static there, but called through self
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return all jobs, in batches."""
        return list(self.split_overrides_to_chunks(jobs_of(self.cases, overrides), max_batch_size))
