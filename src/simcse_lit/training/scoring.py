"""Scores an encoder during training: collects the vectors of a pass over sentences, then scores the tasks with them.

In masked language modelling alone, it collects the loss and the accuracy of held-out text.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import Analysis, measure, numbers
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.suite import Suite, averages, unique_sentences
from simcse_lit.evaluation.task import Task, score
from simcse_lit.launch.meeting import shared, together


class Scorer:
    """The tasks of a run, and the vectors of the current pass.

    Args:
        suite: validation and test tasks; the data module serves `dev_sentences` and `test_sentences` in their order.
        analyses: further measurements on the development set.
    """

    def __init__(self, suite: Suite, analyses: Sequence[Analysis]) -> None:
        self.suite = suite
        self.dev_sentences = unique_sentences([suite.dev] if suite.dev else [])
        self.test_sentences = unique_sentences(suite.test)
        self._analyses = analyses
        self._embeddings = Embeddings([])
        self._held_out: dict[int, Tensor] = {}  # what `mlm_counts` returned for each batch of held-out text
        self._batches = 0

    def start(self, sentences: Sequence[str]) -> None:
        """Prepare for the vectors of one pass over these sentences."""
        self._embeddings, self._held_out = Embeddings(sentences), {}

    def add(self, index_N: Tensor, vectors_NH: Tensor) -> None:
        """Store vectors, (N, H), of the sentences at these places, (N,)."""
        self._embeddings.add(index_N, vectors_NH)

    def add_masked(self, batch: int, batches: int, counts_3: Tensor) -> None:
        """Store what `mlm_counts` returned for a batch of held-out text, (3,). There are so many batches in all."""
        self._held_out[batch], self._batches = counts_3, batches

    def dev(self, device: torch.device) -> dict[str, float]:
        """Score the development set with the vectors of all processes, which share the work.

        Args:
            device: device over which processes communicate.

        Returns:
            The scores of the validation and every float that an analysis measures, by their names without `val/`.

        Raises:
            UserError: as for `task.score`, or two analyses give a number the same name; or the loss of held-out text is not
                finite.
        """
        if self.suite.dev is None:
            return self._masked()
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

    def _masked(self) -> dict[str, float]:
        """Return the loss and the accuracy over the masked tokens of all processes. A batch may be in several of them."""
        parts = together(lambda: {str(batch): counts_3.tolist() for batch, counts_3 in self._held_out.items()})
        batches = {batch: counts for part in parts for batch, counts in part.items()}
        if len(batches) < max(self._batches, 1):
            raise UserError(
                f"data.held_out: {len(batches)} of {self._batches} batches of held-out text were scored.\n"
                "A callback, or limit_val_batches of the Trainer, skips some. Remove it: the loss needs all."
            )
        loss, right, tokens = (math.fsum(column) for column in zip(*batches.values(), strict=True))
        if not tokens:
            raise UserError("data.held_out: no token of the held-out text is masked. Hold out more rows.")
        if not math.isfinite(loss):
            raise UserError(
                f"data.held_out: the loss of the held-out text is {loss}, so training has diverged.\n"
                "Use a lower optimizer.lr."
            )
        return {"mlm_loss": loss / tokens, "mlm_accuracy": 100 * right / tokens}

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
