"""DCLR's noise and its mask of false negatives against plain loops."""

from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.methods.dclr import Ascent, FalseNegatives
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_processes, check_term, step_of
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.methods.guides import guided_step
from tests.objective.test_info_nce import TAU, cross_entropy, vectors

GUIDE = {"guide": {"_target_": "tests.methods.guides.Guide"}}


def dclr() -> InfoNCE:
    return InfoNCE(0.05, negatives={"noise": Ascent(1.0, 4, 1e-3, 0.05)}, masks={"guide": FalseNegatives(0.9)})


def masked() -> InfoNCE:
    return InfoNCE(0.05, masks={"guide": FalseNegatives(0.9)})


def of(vectors_BVD: Tensor, **options: Any) -> Tensor:
    anchor, *candidates = vectors_BVD.unbind(1)
    torch.manual_seed(3)
    part = Ascent(**{"times": 0.6, "steps": 1, "rate": 1e-3, "temperature": TAU, **options})
    noise: Tensor = part(step_of(vectors_BVD), anchor, candidates)
    return noise


def test_a_step_moves_each_noise_vector_by_the_rate_along_the_gradient_of_the_loss() -> None:
    anchor, positive, negative = vectors().unbind(1)
    start, end = of(vectors(), steps=0), of(vectors(), steps=1)
    assert start.shape == (3, 6)
    gradient = torch.zeros_like(start)
    for k in range(3):
        for d in range(6):
            around = []
            for change in (1e-6, -1e-6):
                noise = start.clone()
                noise[k, d] += change
                around.append(cross_entropy(anchor, [*positive, *negative, *noise]))
            gradient[k, d] = (around[0] - around[1]) / 2e-6
    unit = torch.stack([row / row.norm() for row in gradient])
    torch.testing.assert_close(end, start + 1e-3 * unit, rtol=0, atol=1e-7)


def test_more_steps_make_a_larger_loss() -> None:
    anchor, positive, negative = vectors().unbind(1)
    losses = [cross_entropy(anchor, [*positive, *negative, *of(vectors(), steps=steps, rate=0.1)]) for steps in (0, 2, 4)]
    assert losses[0] < losses[1] < losses[2]


def test_the_ascent_gives_no_gradient_to_the_vectors() -> None:
    given = vectors().requires_grad_()
    assert not of(given).requires_grad and given.grad is None


def test_a_candidate_that_the_guide_finds_similar_adds_nothing_to_the_denominator() -> None:
    guide = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    anchor, positive, negative = vectors().unbind(1)
    others = [*guide[:, 1], *guide[:, 2]]

    def weight(row: int, column: int) -> float:
        cosine = guide[row, 0] @ others[column] / (guide[row, 0].norm() * others[column].norm())
        return 1.0 if row == column or cosine <= 0.5 else 0.0

    counted = sum(weight(row, column) for row in range(5) for column in range(10))
    assert 5 < counted < 50
    term = InfoNCE(TAU, masks={"guide": FalseNegatives(0.5)})
    loss = term(guided_step(vectors(), guide))
    assert isinstance(loss, Tensor)
    expected = cross_entropy(anchor, [*positive, *negative], factor=weight)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_another_anchor_that_the_guide_finds_similar_is_left_out_too() -> None:
    guide = torch.eye(5, 6, dtype=torch.float64)[:, None].repeat(1, 2, 1)
    guide[1, 0] = guide[0, 0]
    left_out, others = FalseNegatives(0.9)(guided_step(vectors(views=2), guide))
    assert left_out.nonzero().tolist() == [[0, 0], [1, 0], [2, 2], [3, 3], [4, 4]]
    assert (others & ~torch.eye(5, dtype=torch.bool)).nonzero().tolist() == [[0, 1], [1, 0]]


def test_it_holds_what_a_term_must() -> None:
    check_term(dclr, draws=True, beside=GUIDE)
    check_processes(masked, beside=GUIDE)


@pytest.mark.parametrize(
    ("model", "times", "threshold", "guide"),
    [
        ("bert-base", 1.0, 0.9, "princeton-nlp/unsup-simcse-bert-base-uncased"),
        ("roberta-base", 2.5, 0.85, "princeton-nlp/unsup-simcse-roberta-base"),
    ],
)
def test_the_loss_of_that_name_has_the_official_values(model: str, times: float, threshold: float, guide: str) -> None:
    config = train_config("loss=dclr", f"model={model}")
    term: Any = build_objective(config).terms["contrastive"]
    noise, mask = term.negatives["noise"], term.masks["false_negatives"]
    assert (noise.times, noise.steps, noise.rate, noise.temperature) == (times, 4, 1e-3, 0.05)
    assert (mask.threshold, list(term.encoders), config.loss.beside["guide"]["checkpoint"]) == (threshold, ["guide"], guide)
    assert (config.data.batch_size, config.optimizer.lr, config.trainer.max_epochs) == (128, 3e-5, 3)
    changed = train_config("loss=dclr", f"model={model}", "loss.terms.contrastive.masks.false_negatives.threshold=0.7")
    assert changed.loss.terms["contrastive"]["masks"]["false_negatives"]["threshold"] == 0.7
