"""Barlow Twins against loops over the numbers of the vectors."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from simcse_lit.methods.barlow import BarlowTwins
from simcse_lit.testing import check_formula, check_term, step_of
from simcse_lit.training.build import build_objective
from tests.conftest import train_config


def reference(vectors_BVD: Tensor) -> float:
    """Each number standardised over the examples, then the sum over pairs of numbers."""
    anchors, positives = vectors_BVD[:, 0].T, vectors_BVD[:, 1].T
    loss = 0.0
    for d, anchor in enumerate(anchors):
        for e, positive in enumerate(positives):
            x, y = ((row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() for row in (anchor, positive))
            correlation = float((x * y).mean())
            loss += (1 - correlation) ** 2 if d == e else 0.3 * correlation**2
    return loss


def test_it_is_a_term_and_agrees_with_loops_over_the_numbers() -> None:
    check_formula(partial(BarlowTwins, 0.3), reference)
    check_term(partial(BarlowTwins, 0.3))


def test_scale_and_shift_of_a_number_do_not_matter() -> None:
    vectors_BVD = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = vectors_BVD * torch.tensor([1.0, 30.0, 5.0, 100.0]) + torch.arange(4)
    ours, same = (BarlowTwins(0.3)(step_of(each))[0] for each in (vectors_BVD, moved))
    torch.testing.assert_close(ours, same, rtol=1e-4, atol=0)


def test_the_loss_of_that_name_is_this_term_alone() -> None:
    config = train_config("loss=barlow", "model=tiny")
    objective = build_objective(config)
    term: Any = objective.terms["barlow"]
    assert list(objective.terms) == ["barlow"] and isinstance(term, BarlowTwins) and term.redundancy == 0.0051
    assert (config.data.batch_size, config.optimizer.lr) == (128, 1e-5)
