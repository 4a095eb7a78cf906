"""Scores an encoder during training: collects the vectors of a pass over sentences, then scores the tasks with them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import Analysis, measure, numbers
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.suite import Suite, averages, unique_sentences
from simcse_lit.evaluation.task import Task, score
from simcse_lit.launch.meeting import shared


class Scorer:
    """The tasks of a run, and the vectors of the current pass.

    Args:
        suite: validation and test tasks; the data module serves `dev_sentences` and `test_sentences` in their order.
        analyses: further measurements on the development set.
    """

    def __init__(self, suite: Suite, analyses: Sequence[Analysis]) -> None:
        self.suite = suite
        self.dev_sentences = unique_sentences([suite.dev])
        self.test_sentences = unique_sentences(suite.test)
        self._analyses = analyses
        self._embeddings = Embeddings([])

    def start(self, sentences: Sequence[str]) -> None:
        """Prepare for the vectors of one pass over these sentences."""
        self._embeddings = Embeddings(sentences)

    def add(self, index_N: Tensor, vectors_NH: Tensor) -> None:
        """Store vectors, (N, H), of the sentences at these places, (N,)."""
        self._embeddings.add(index_N, vectors_NH)

    def dev(self, device: torch.device) -> dict[str, float]:
        """Score the development set with the vectors of all processes, which share the work.

        Args:
            device: device over which processes communicate.

        Returns:
            `sts`, and every float that an analysis measures.

        Raises:
            UserError: as for `task.score`, or two analyses give a number the same name.
        """
        embed, task = self._finished(device), self.suite.dev

        def floats(analysis: Analysis) -> dict[str, float]:
            found = numbers(measure(analysis, task, embed))
            return {name: value for name, value in found.items() if isinstance(value, float)}

        def choose() -> dict[str, float]:
            return {"sts": score(task, embed).score}

        jobs: list[Callable[[], dict[str, float]]] = [choose, *(partial(floats, analysis) for analysis in self._analyses)]
        dev, *found = shared(jobs)
        for analysis, measured in zip(self._analyses, found, strict=True):
            if taken := sorted(dev.keys() & measured.keys()):
                raise UserError(
                    f"analyses: {analysis.name} measures {taken[0]}, which is already logged. Rename that number."
                )
            dev |= measured
        return dev

    def test(self, device: torch.device) -> dict[str, float]:
        """Score the test tasks in the same way; return the score of each task and the averages of their families."""
        embed, tasks = self._finished(device), self.suite.test

        def scored(task: Task) -> float:
            return score(task, embed).score

        found = shared([partial(scored, task) for task in tasks])
        scores = {task.name: value for task, value in zip(tasks, found, strict=True)}
        return scores | averages(tasks, scores)

    def _finished(self, device: torch.device) -> Embeddings:
        finished, self._embeddings = self._embeddings, Embeddings([])
        finished.share(device)
        return finished
