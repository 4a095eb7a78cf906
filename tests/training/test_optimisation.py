"""Clipping the gradient, by its norm and by its numbers, against the formula; and an optimiser that refuses an argument."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from simcse_lit.errors import UserError
from simcse_lit.training.optimisation import clip_gradient, optimisation
from tests.conftest import train_config

TRAINER: Any = SimpleNamespace(precision_plugin=SimpleNamespace(), strategy=None)


def with_gradient(*values: float) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.zeros(len(values), dtype=torch.float64))
    parameter.grad = torch.tensor(values, dtype=torch.float64)
    return parameter, torch.optim.SGD([parameter], lr=1.0)


def clipped(limit: float | None, *, by_value: bool = False, measure: bool = True) -> tuple[list[float], Any]:
    parameter, optimizer = with_gradient(3.0, -4.0)
    norm = clip_gradient(TRAINER, optimizer, limit, by_value=by_value, measure=measure)
    assert parameter.grad is not None
    return parameter.grad.tolist(), norm


def test_a_norm_above_the_limit_is_scaled_to_it_and_returned_as_it_was() -> None:
    gradient, norm = clipped(1.0, measure=False)
    assert gradient == pytest.approx([0.6, -0.8], abs=1e-6)
    assert float(norm) == 5.0


def test_a_norm_below_the_limit_is_left_alone() -> None:
    assert clipped(6.0)[0] == [3.0, -4.0]


@pytest.mark.parametrize("limit", [None, 0.0])
def test_without_a_limit_the_norm_is_only_measured(limit: float | None) -> None:
    gradient, norm = clipped(limit)
    assert (gradient, float(norm)) == ([3.0, -4.0], 5.0)
    assert clipped(limit, measure=False) == ([3.0, -4.0], None)


def test_each_number_is_clipped_by_value() -> None:
    gradient, norm = clipped(3.5, by_value=True)
    assert (gradient, float(norm)) == ([3.0, -3.5], 5.0)


def test_an_optimiser_that_refuses_an_argument_is_named_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match=r"optimizer: torch\.optim\.AdamW: .*betta"):
        optimisation(train_config("model=tiny", "+optimizer.extra.betta=1").optimizer)
