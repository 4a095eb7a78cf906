"""Gaussian negatives against a loop over rows and columns."""

from functools import partial
from typing import Any

import pytest
import torch

from simcse_lit.methods.gs_infonce import Gaussian
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_term, step_of
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.objective.test_info_nce import TAU, cross_entropy, vectors


def with_noise(size: int, temperature: float = 0.05) -> InfoNCE:
    return InfoNCE(temperature, negatives={"noise": Gaussian(size)})


def test_the_noise_stands_in_the_denominator_of_every_anchor() -> None:
    anchor, positive, negative = vectors().unbind(1)
    torch.manual_seed(5)
    noise = torch.randn(7, 6, dtype=torch.float64)
    torch.manual_seed(5)
    loss = with_noise(7, TAU)(step_of(vectors()))
    assert isinstance(loss, torch.Tensor)
    assert loss.item() == pytest.approx(cross_entropy(anchor, [*positive, *negative, *noise]), rel=1e-12)


def test_it_holds_what_a_term_must() -> None:
    check_term(partial(with_noise, 10), draws=True)


def test_a_size_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="size=0: must be 1 or more"):
        Gaussian(0)


def test_the_loss_of_that_name_has_the_official_noise_and_dropout() -> None:
    config = train_config("loss=gs_infonce", "model=tiny")
    term: Any = build_objective(config).terms["contrastive"]
    noise = term.negatives["noise"]
    assert isinstance(noise, Gaussian) and noise.size == 192 and config.model.dropout == 0.2
