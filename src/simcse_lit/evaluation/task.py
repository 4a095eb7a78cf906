"""The interface of an evaluation task: it lists the sentences to encode and computes a score from their vectors.

`sts.py` and `transfer.py` hold the kinds of tasks. Each entry of `conf/tasks/` names a function that makes one task.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.families import Family

Embed = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Result:
    """The result of one encoder on a task. Shares and correlations are multiplied by 100.

    Args:
        score: the number shown in tables, in the metric of the task's family; higher is better.
        metrics: all other numbers of the whole task, by name.
        subsets: metrics of each part of the task; empty for a task with one part.
        cosine: for STS, the cosine similarity of each pair, (pairs,), for the bootstrap.
        gold: for STS, the human score of each pair, (pairs,).
    """

    score: float
    metrics: Mapping[str, Any]
    subsets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cosine: np.ndarray | None = None
    gold: np.ndarray | None = None


class Task(Protocol):
    """A task. Tasks of the same family share a table, a metric and an average."""

    @property
    def name(self) -> str:
        """Name of the task, the column in tables."""

    @property
    def family(self) -> Family:
        """`STS` or `TRANSFER` of `simcse_lit.families`, or your own `Family`."""

    @property
    def in_average(self) -> bool:
        """Whether the family's average includes the task; false for a development set."""

    def sentences(self) -> Iterable[str]:
        """Yield every sentence to encode. Duplicates may occur."""

    def score(self, embed: Embed) -> Result:
        """Compute the result of an encoder.

        Args:
            embed: maps N sentences to their vectors in the same order, (N, H) float32.
        """


def score(task: Task, embed: Embed) -> Result:
    """Compute the result of an encoder on a task, and check that the score is finite.

    Args:
        task: what is scored.
        embed: maps N sentences to their vectors, (N, H) float32.

    Raises:
        UserError: the score is not a finite number, or `task.score` raised it.
    """
    result = task.score(embed)
    if not math.isfinite(result.score):
        raise UserError(
            f"tasks.{task.name}: its score is {result.score}, which is not a finite number.\n"
            "The encoder's vectors, or the values that they are compared with, are constant or missing."
        )
    return result
