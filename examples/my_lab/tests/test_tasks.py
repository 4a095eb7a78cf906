"""The score of Retrieval where the right answers are known."""

from collections.abc import Sequence

import torch
from my_lab.tasks import Retrieval
from torch import Tensor

from simcse_lit.evaluation.task import score


def test_recall_is_the_share_of_questions_whose_own_answer_is_nearest() -> None:
    vectors = {"q1": [1.0, 0.0], "q2": [0.0, 1.0], "a1": [2.0, 0.1], "a2": [1.0, 0.2]}

    def embed(sentences: Sequence[str]) -> Tensor:
        return torch.tensor([vectors[sentence] for sentence in sentences])

    task = Retrieval(None, "two", questions=["q1", "q2"], answers=["a1", "a2"])
    assert score(task, embed).score == 100.0
    task = Retrieval(None, "swapped", questions=["q1", "q2"], answers=["a2", "a1"])
    assert score(task, embed).score == 0.0
