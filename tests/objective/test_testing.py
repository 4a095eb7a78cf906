"""The battery for terms: our own pass it, and a term with the fault that a check is for fails that check."""

from collections.abc import Callable
from functools import partial
from importlib import import_module

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from simcse_lit import testing
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.mlm import MaskedLanguageModel
from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term
from tests.conftest import ROOT


def test_our_terms_pass() -> None:
    testing.check_term(partial(InfoNCE, 0.05, directions="both", own_view=True, learn_temperature=True))
    testing.check_term(partial(MaskedLanguageModel, 0.3), draws=True)


def test_the_term_of_the_example_passes_with_its_head_and_its_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "my_lab")
    memory = import_module("my_lab.terms").Memory
    head = {"name": "projector", "_target_": "my_lab.heads.Projector", "when": "training", "wide": 48}
    pooler = {"name": "weighted_layers", "_target_": "my_lab.poolers.WeightedLayers", "last": 2}
    # 10 keys: batches of 4 wrap around
    testing.check_term(partial(memory, size=10, temperature=0.05), head=head, pooler=pooler)


class Plain(Term):
    """The mean distance of anchors and positives from the batch's centre."""

    def forward(self, step: Step) -> Tensor:
        centre_D = step.gather(step.vectors_BVD).flatten(0, 1).mean(0)
        return (step.vectors_BVD - centre_D).square().mean()


class OwnCentre(Plain):
    """Of this process alone."""

    def forward(self, step: Step) -> Tensor:
        return (step.vectors_BVD - step.vectors_BVD.flatten(0, 1).mean(0)).square().mean()


class Spliced(Plain):
    """The other processes' vectors without gradient, with its own among them."""

    def forward(self, step: Step) -> Tensor:
        own_BD, all_ND = step.vectors_BVD[:, 1], step.gather(step.vectors_BVD[:, 1].detach())
        spliced_ND = torch.cat([all_ND[: step.first], own_BD, all_ND[step.first + len(own_BD) :]])
        return (step.vectors_BVD[:, 0] @ spliced_ND.T).mean()


class Forgotten(Plain):
    """Keeps what it saw in an attribute."""

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        self.seen = torch.zeros(width, dtype=torch.float64)

    def forward(self, step: Step) -> Tensor:
        return super().forward(step) + (step.vectors_BVD.mean((0, 1)) * self.seen).sum()

    def after_step(self, step: Step) -> None:
        self.seen = self.seen + step.vectors_BVD.mean((0, 1))


class NotFinite(Plain):
    """Has no gradient where two vectors are the same."""

    def forward(self, step: Step) -> Tensor:
        between_BD = step.vectors_BVD[:, 0] - step.vectors_BVD[:, 1]
        distance_B: Tensor = torch.linalg.vector_norm(between_BD, dim=1)
        return distance_B.reciprocal().mean()


class Drawing(Plain):
    def forward(self, step: Step) -> Tensor:
        return super().forward(step) * (1 + torch.rand(()))


class Collapsing(Plain):
    def forward(self, step: Step) -> Tensor:
        return 1e3 * (step.vectors_BVD - 0.5).square().mean()


class Rough(Plain):
    """Another value at the next number of bfloat16."""

    def forward(self, step: Step) -> Tensor:
        return (1e4 * step.vectors_BVD).sin().mean()


class ByLength(Plain):
    """Depends on the padding."""

    def forward(self, step: Step) -> Tensor:
        ids_NL = step.ids_BVL.flatten(0, 1)
        padded = step.passes.in_chunks(lambda ids_nl, packing: torch.tensor(float(packing is None)), ids_NL)
        return super().forward(step) * sum(padded)


@pytest.mark.parametrize(
    ("make", "check", "says"),
    [
        (OwnCentre, testing.check_processes, "under two processes"),
        (Spliced, testing.check_processes, "under two processes"),
        (Forgotten, testing.check_resume, "after a stop and a resume"),
        (NotFinite, testing.check_corners, "not finite"),
        (Drawing, testing.check_draws, "draws=True"),
        (Collapsing, testing.check_training, "effective rank"),
        (ByLength, testing.check_packing, "under packing"),
        (ByLength, testing.check_micro_batches, "under micro-batches"),
        (
            partial(InfoNCE, 0.05),
            partial(testing.check_formula, reference=lambda vectors_BVD: 0.0),
            "the reference says 0.0",
        ),
        (Rough, testing.check_precision, "in bfloat16 the loss is"),
    ],
)
def test_a_fault_fails_its_check(make: Callable[[], Term], check: Callable[..., None], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check(make)


def test_a_right_term_passes_and_agrees_with_its_formula() -> None:
    testing.check_processes(Plain)
    testing.check_formula(Plain, lambda vectors_BVD: float((vectors_BVD - vectors_BVD.mean((0, 1))).square().mean()))
    assert not dist.is_initialized()
