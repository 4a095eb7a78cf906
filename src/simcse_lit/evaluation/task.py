"""What every evaluation task is: sentences to encode, and a score made from their vectors. A task's file adds one kind.

`conf/tasks/` says which tasks there are: each entry names a function that makes the task from SentEval's files.
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
    """What a task gives for one encoder. Every share and correlation is times 100.

    Args:
        score: the figure that stands in tables, by the metric of the task's family; higher is better.
        metrics: everything else that belongs to the whole task, by name.
        subsets: the same for each part of the task; empty for a task of one part.
        cosine: for STS, cosine similarity of each pair, (pairs,); the bootstrap resamples it.
        gold: for STS, the human score of each pair, (pairs,).
    """

    score: float
    metrics: Mapping[str, Any]
    subsets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cosine: np.ndarray | None = None
    gold: np.ndarray | None = None


class Task(Protocol):
    """A task of one family; tasks of a family share a table and an average."""

    @property
    def name(self) -> str:
        """As in the paper's tables."""

    @property
    def family(self) -> Family:
        """`STS` or `TRANSFER` of `simcse_lit.families`, or one of your own."""

    @property
    def in_average(self) -> bool:
        """Whether the family's average takes it in; a development set stands beside."""

    def sentences(self) -> Iterable[str]:
        """Every sentence that has to be encoded, repeated as it stands."""

    def score(self, embed: Embed) -> Result:
        """The result for an encoder; `embed` gives the vectors of sentences in their order, (N, H) float32."""


def score(task: Task, embed: Embed) -> Result:
    """A task's result for an encoder.

    Raises:
        UserError: as `task.score`, or the score that it gives is no finite number.
    """
    result = task.score(embed)
    if not math.isfinite(result.score):
        raise UserError(
            f"tasks.{task.name}: its score is {result.score}, which is no number to compare or to choose by.\n"
            "What the encoder gives, or what it is compared with, is constant or missing."
        )
    return result
