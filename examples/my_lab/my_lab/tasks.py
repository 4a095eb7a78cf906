"""A task with its own family: is the right answer nearest to each question?

Shapes: N questions, H numbers of a vector.
"""

from collections.abc import Sequence

import torch.nn.functional as F

from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import Family

RETRIEVAL = Family("retrieval", "recall@1 in %", title="Retrieval", average="Avg. retrieval")


class Retrieval:
    """Measure the share of questions whose nearest answer is the right one.

    Args:
        files: SentEval's files, which this task does not use.
        name: the name of the task, the key of its node.
        questions: one question for each answer.
        answers: the answers, in the order of the questions.
    """

    family, in_average = RETRIEVAL, True

    def __init__(self, files: object, name: str, *, questions: Sequence[str], answers: Sequence[str]) -> None:
        self.name, self.questions, self.answers = name, questions, answers

    def sentences(self) -> list[str]:
        """Return every sentence that `score` needs."""
        return [*self.questions, *self.answers]

    def score(self, embed: Embed) -> Result:
        """Compute recall at 1 by cosine, in %."""
        question_NH, answer_NH = (F.normalize(embed(texts), dim=1) for texts in (self.questions, self.answers))
        nearest_N = (question_NH @ answer_NH.T).argmax(1).tolist()
        right = sum(found == place for place, found in enumerate(nearest_N))
        return Result(100 * right / len(nearest_N), {"n": len(nearest_N)})
