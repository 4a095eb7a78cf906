"""The decoupled loss and its weights against loops over the pairs of both views."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.methods.dclw import VonMisesFisher
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_formula, check_term
from simcse_lit.training.build import build_objective
from tests.conftest import train_config

SIGMA, TAU = 0.5, 0.1
Options = dict[str, Any]
DECOUPLED: Options = {"denominator": "negatives", "own_view": True, "directions": "both"}


def weighted(**options: Any) -> InfoNCE:
    return InfoNCE(TAU, positive=VonMisesFisher(SIGMA), **options)


def reference(vectors_BVD: Tensor, *, is_weighted: bool) -> float:
    """Mean over both views of -w_i s_ii / tau + log of the sum over all vectors of other examples."""
    views = [[row / row.norm() for row in vectors_BVD[:, view]] for view in (0, 1)]
    count = len(vectors_BVD)
    powers = [math.exp(float(views[0][i] @ views[1][i]) / SIGMA) for i in range(count)]
    losses = []
    for view in (0, 1):
        for i in range(count):
            own = float(views[view][i] @ views[1 - view][i])
            weight = 2 - powers[i] / (sum(powers) / count) if is_weighted else 1.0
            others = [float(views[view][i] @ views[other][j]) for other in (0, 1) for j in range(count) if j != i]
            losses.append(math.log(sum(math.exp(each / TAU) for each in others)) - weight * own / TAU)
    return sum(losses) / len(losses)


def test_the_positive_and_the_vectors_of_the_same_example_are_not_in_the_denominator() -> None:
    check_formula(partial(InfoNCE, TAU, **DECOUPLED), partial(reference, is_weighted=False), views=2)


def test_a_positive_that_is_closer_than_others_counts_less() -> None:
    check_formula(partial(weighted, **DECOUPLED), partial(reference, is_weighted=True), views=2)


def test_the_weights_have_no_gradient() -> None:
    cosine = torch.tensor([0.9, 0.5, -0.3], requires_grad=True)
    weighted_cosine = VonMisesFisher(SIGMA)(cosine)
    weighted_cosine.sum().backward()
    torch.testing.assert_close(cosine.grad, (weighted_cosine / cosine).detach())


def test_the_weights_hold_what_a_term_must() -> None:
    check_term(partial(weighted, **DECOUPLED), views=2)


def test_sigma_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma=0: must be greater than 0"):
        VonMisesFisher(0)


@pytest.mark.parametrize("name", ["dcl", "dclw"])
def test_the_losses_of_these_names_are_decoupled(name: str) -> None:
    term: Any = build_objective(train_config(f"loss={name}", "model=tiny")).terms["contrastive"]
    assert {option: getattr(term, option) for option in DECOUPLED} == DECOUPLED
    assert term.temperature == 0.1
    assert (None if term.positive is None else term.positive.sigma) == {"dcl": None, "dclw": 0.5}[name]
