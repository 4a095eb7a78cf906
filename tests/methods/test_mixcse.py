"""Mixed negatives against loops over rows, alone and together with a queue of a momentum encoder."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from simcse_lit.methods.mixcse import Mixed
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.queue import Queue
from simcse_lit.objective.step import Step
from simcse_lit.testing import check_processes, check_term, step_of
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.objective.test_info_nce import TAU, cross_entropy, vectors

MOMENTUM = {"slow": {"_target_": "simcse_lit.training.beside.Momentum", "decay": 0.9}}


def with_mixtures(temperature: float = 0.05, **more: Any) -> InfoNCE:
    return InfoNCE(temperature, negatives={"mixed": Mixed(0.2), **more})


def with_queue(size: int, temperature: float = 0.05) -> InfoNCE:
    return with_mixtures(temperature, queue=Queue(size, encoder="slow"))


def mixtures(positives: Tensor) -> list[Tensor]:
    unit = [row / row.norm() for row in positives]
    mixed = [0.2 * unit[i] + 0.8 * unit[(i + 1) % len(unit)] for i in range(len(unit))]
    return [row / row.norm() for row in mixed]


def loss_of(term: InfoNCE, step: Step) -> Tensor:
    loss = term(step)
    assert isinstance(loss, Tensor)
    return loss


def test_each_anchor_meets_its_own_mixture_and_no_other() -> None:
    anchor, positive, negative = vectors().unbind(1)

    def own(row: int, column: int) -> float:
        return 1.0 if column < 10 or column - 10 == row else 0.0

    expected = cross_entropy(anchor, [*positive, *negative, *mixtures(positive)], factor=own)
    assert loss_of(with_mixtures(TAU), step_of(vectors())).item() == pytest.approx(expected, rel=1e-12)


def test_no_gradient_goes_through_the_mixture() -> None:
    given = vectors(views=2).requires_grad_()
    loss_of(with_mixtures(TAU), step_of(given)).backward()
    got = given.grad
    fixed = torch.stack(mixtures(given.detach()[:, 1]))
    again = given.detach().requires_grad_()
    unit = normalize(again, dim=2)
    own_B1 = (unit[:, 0] * fixed).sum(1, keepdim=True)
    logits = torch.cat([unit[:, 0] @ unit[:, 1].T, own_B1], dim=1) / TAU
    torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    torch.testing.assert_close(got, again.grad)


def test_one_example_has_nothing_to_be_mixed_with() -> None:
    assert loss_of(with_mixtures(TAU), step_of(vectors(batch=1, views=2))).item() == 0.0


def test_the_next_row_is_that_of_the_gathered_order() -> None:
    check_processes(with_mixtures)


def test_with_a_queue_of_a_momentum_encoder_the_loss_is_that_of_all_columns() -> None:
    term = with_queue(7, TAU)
    term.setup(6, VOCABULARY)
    term.double()
    first, second = vectors(), vectors() + 1
    slow = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    step = step_of(first)
    term.after_step(replace(step, passes=replace(step.passes, encode=lambda ids, mask, encoder: slow)))
    anchor, positive, negative = second.unbind(1)

    def own(row: int, column: int) -> float:
        return 1.0 if not 10 <= column < 15 or column - 10 == row else 0.0

    expected = cross_entropy(anchor, [*positive, *negative, *mixtures(positive), *slow], factor=own)
    assert loss_of(term, step_of(second)).item() == pytest.approx(expected, rel=1e-12)


def test_mixtures_and_a_queue_of_a_momentum_encoder_hold_what_a_term_must() -> None:
    check_term(partial(with_queue, 10), beside=MOMENTUM)


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share=1\.5: must be from 0 to 1"):
        Mixed(1.5)


def test_the_loss_of_that_name_has_mixtures() -> None:
    term: Any = build_objective(train_config("loss=mixcse", "model=tiny")).terms["contrastive"]
    mixed = term.negatives["mixed"]
    assert isinstance(mixed, Mixed) and mixed.share == 0.2
