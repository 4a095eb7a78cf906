"""Tasks of a family of their own: which answer is nearest to each question.

Shapes: N questions, H numbers of a vector.
"""

from collections.abc import Sequence

import torch.nn.functional as F

from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import Family

RETRIEVAL = Family("retrieval", "recall@1 in %", title="Retrieval", average="Avg. retrieval")


class Retrieval:
    """The share of questions whose nearest answer is their own.

    Args:
        files: SentEval's, not needed.
        name: of the task.
        questions: one for each answer.
        answers: in the order of the questions.
    """

    family, in_average = RETRIEVAL, True

    def __init__(self, files: object, name: str, *, questions: Sequence[str], answers: Sequence[str]) -> None:
        self.name, self.questions, self.answers = name, questions, answers

    def sentences(self) -> list[str]:
        """All of both."""
        return [*self.questions, *self.answers]

    def score(self, embed: Embed) -> Result:
        """Recall at 1 of the cosines, in %."""
        question_NH, answer_NH = (F.normalize(embed(texts), dim=1) for texts in (self.questions, self.answers))
        nearest_N = (question_NH @ answer_NH.T).argmax(1).tolist()
        right = sum(found == place for place, found in enumerate(nearest_N))
        return Result(100 * right / len(nearest_N), {"n": len(nearest_N)})
