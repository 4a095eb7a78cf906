"""RankCSE: two terms about how an anchor ranks the sentences of the batch, beside InfoNCE (conf/loss/rankcse.yaml).

Shapes: B anchors of this process, N sentences of all processes, D numbers of a vector.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from simcse_lit.objective.contrastive import similarities
from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term


class Consistency(Term):
    """Let both views of a sentence rank the batch alike: the mean Jensen-Shannon divergence of their distributions.

    P_i is the softmax over j of cos(anchor_i, positive_j) / temperature, and Q_i that of cos(positive_i, anchor_j) /
    temperature, over the sentences of all processes. The term is the mean over i of (KL(P_i || M_i) + KL(Q_i || M_i)) / 2,
    where M_i = (P_i + Q_i) / 2. It is at least 0 and at most ln 2.

    The code that the community wrote for this paper bounds log M from below at 1e-7, which is above every logarithm of a
    probability. This is not copied.

    Args:
        temperature: divides the cosines.

    Source: Liu et al. 2023, RankCSE, section "ranking consistency".
    """

    needs = frozenset({"positive"})

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = _above_0("temperature", temperature)

    def forward(self, step: Step) -> Tensor:
        """Compute the divergence in nats, the mean over this process's anchors, a scalar."""
        anchor_BD, positive_BD = step.of("anchor"), step.of("positive")
        p_BN = self._logs(anchor_BD, step.gather(positive_BD))
        q_BN = self._logs(positive_BD, step.gather(anchor_BD))
        mixed_BN = torch.logaddexp(p_BN, q_BN) - torch.log(p_BN.new_tensor(2.0))
        divergence_BN = p_BN.exp() * (p_BN - mixed_BN) + q_BN.exp() * (q_BN - mixed_BN)
        return divergence_BN.sum(1).mean() / 2

    def _logs(self, rows_BD: Tensor, columns_ND: Tensor) -> Tensor:
        return (similarities(rows_BD, columns_ND, similarity="cosine") / self.temperature).log_softmax(1)


class Distill(Term):
    """Let the encoder rank the other sentences of the batch as frozen teachers do.

    Row i of the scores has the cosines of anchor i with the positives of all other sentences of all processes. A sentence's
    own positive is not ranked. The scores of the teachers are the weighted mean of the teachers' cosines. With student
    scores s, teacher scores t and the permutation o that sorts t from high to low, the term is the mean over the rows of

    - `listnet`: - sum over j of softmax(t / teacher_temperature)_j log softmax(s / temperature)_j
    - `listmle`: - mean over k of log(exp(s_o(k) / temperature) / sum over l >= k of exp(s_o(l) / temperature))

    The paper sums over k. The mean keeps the term independent of the size of the batch. To get the sum, multiply the weight
    by N - 1. Equal scores of the teachers keep the order of the batch.

    Args:
        teachers: weight of each teacher, by its name in `loss.beside`. Weights are divided by their sum; 0 leaves one out.
        ranking: `listnet` or `listmle`.
        temperature: divides the student's cosines.
        teacher_temperature: divides the teachers' cosines; only `listnet` uses it.

    Raises:
        ValueError: no teacher has a weight, a weight is negative, the ranking is unknown, or a temperature is not positive.

    Source: Liu et al. 2023, RankCSE, section "ranking distillation"; Cao et al. 2007 (ListNet); Xia et al. 2008 (ListMLE).
    """

    needs = frozenset({"positive"})

    def __init__(
        self,
        teachers: Mapping[str, float],
        ranking: str = "listnet",
        temperature: float = 0.05,
        teacher_temperature: float = 0.025,
    ) -> None:
        super().__init__()
        if ranking not in ("listnet", "listmle"):
            raise ValueError(f"ranking={ranking}: must be listnet or listmle")
        if not any(teachers.values()) or any(weight < 0 for weight in teachers.values()):
            raise ValueError(f"teachers={dict(teachers)}: one must have a weight above 0, and none a negative weight")
        self.temperature = _above_0("temperature", temperature)
        self.teacher_temperature = _above_0("teacher_temperature", teacher_temperature)
        total = sum(teachers.values())
        self.shares = {name: weight / total for name, weight in teachers.items() if weight}
        self.ranking, self.encoders = ranking, tuple(self.shares)

    def forward(self, step: Step) -> Tensor:
        """Compute the loss in nats, the mean over this process's anchors, a scalar; 0 if there is no other sentence."""
        anchor_BD = step.of("anchor")
        if len(anchor_BD) * step.processes == 1:
            return anchor_BD.sum() * 0
        student_BN = similarities(anchor_BD, step.gather(step.of("positive")), similarity="cosine") / self.temperature
        teacher_BN = torch.stack([share * self._taught(step, name) for name, share in self.shares.items()]).sum(0)
        own_BN = torch.zeros_like(student_BN, dtype=torch.bool)
        own_BN.diagonal(step.first).fill_(True)
        if self.ranking == "listmle":
            return _list_mle(student_BN, teacher_BN, own_BN)
        target_BN = (teacher_BN / self.teacher_temperature).masked_fill(own_BN, -torch.inf).softmax(1)
        logs_BN = student_BN.masked_fill(own_BN, -torch.inf).log_softmax(1).masked_fill(own_BN, 0)
        return -(target_BN * logs_BN).sum(1).mean()

    def _taught(self, step: Step, name: str) -> Tensor:
        """Return a teacher's cosines, (B, N)."""
        places = [step.places(role)[0] for role in ("anchor", "positive")]
        anchor_BD, positive_BD = step.encoded_by(name, places).unbind(1)
        return similarities(anchor_BD, step.gather(positive_BD), similarity="cosine")


def _list_mle(student_BN: Tensor, teacher_BN: Tensor, own_BN: Tensor) -> Tensor:
    """Compute the mean negative log-likelihood of the teachers' order of all columns that are not a row's own."""
    order_BN = teacher_BN.masked_fill(own_BN, torch.inf).argsort(dim=1, descending=True, stable=True)
    sorted_BN = student_BN.gather(1, order_BN[:, 1:])  # without the own column, which comes first
    rest_BN = sorted_BN.flip(1).logcumsumexp(1).flip(1)
    return (rest_BN - sorted_BN).mean()


def _above_0(name: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f"{name}={value}: must be greater than 0")
    return value
