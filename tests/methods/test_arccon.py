"""The angular margin against the arc cosine."""

import math
from functools import partial

import pytest
import torch

from simcse_lit.methods.arccon import AngularMargin
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_formula, check_term
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.objective.test_info_nce import TAU, cross_entropy


def with_margin(degrees: float, temperature: float = 0.05) -> InfoNCE:
    return InfoNCE(temperature, positive=AngularMargin(degrees))


def test_only_the_positives_angle_is_widened() -> None:
    def reference(vectors_BVD: torch.Tensor) -> float:
        anchor, positive, negative = vectors_BVD.unbind(1)
        return cross_entropy(
            anchor, [*positive, *negative], positive=lambda cosine: math.cos(math.acos(cosine) + math.radians(10))
        )

    check_formula(partial(with_margin, 10.0, TAU), reference)


def test_it_holds_what_a_term_must() -> None:
    check_term(partial(with_margin, 10.0))


def test_equal_vectors_have_a_finite_gradient_and_the_cosine_of_the_margin() -> None:
    cosine = torch.tensor([1.0, 1.0 + 1e-7, 0.5], requires_grad=True)
    widened = AngularMargin(10.0)(cosine)
    widened.sum().backward()
    assert widened[0].item() == pytest.approx(math.cos(math.radians(10)))
    assert cosine.grad is not None and cosine.grad.isfinite().all()


@pytest.mark.parametrize("degrees", [0.0, 10.0, 100.0])
def test_a_more_similar_positive_never_gets_a_smaller_logit(degrees: float) -> None:
    """Also where the angle and the margin are together more than 180 degrees."""
    cosine = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    widened = AngularMargin(degrees)(cosine)
    assert (widened.diff() > 0).all() and widened.diff().max() < 0.1


def test_a_margin_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"degrees=180\.0: must be at least 0 and below 180"):
        AngularMargin(180.0)


def test_the_loss_of_that_name_has_ten_degrees() -> None:
    margin = build_objective(train_config("loss=arccon", "model=tiny")).terms["contrastive"].positive
    assert isinstance(margin, AngularMargin) and margin.cos == pytest.approx(math.cos(math.radians(10)))
