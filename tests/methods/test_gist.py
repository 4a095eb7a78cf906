"""The guided mask of GISTEmbed against loops over rows and columns."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.methods.gist import Guided
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_term, step_of
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.methods.guides import guided_step
from tests.objective.test_info_nce import TAU, vectors


def guide(batch: int = 5, views: int = 3) -> Tensor:
    return torch.randn(batch, views, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def gist() -> InfoNCE:
    return InfoNCE(0.05, own_view="all", masks={"guided": Guided(0.1, "relative")})


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def reference(vectors_BVD: Tensor, guide_BVD: Tensor, margin: float, relative: bool) -> float:
    """One row for an anchor: anchor-positive, anchor-anchor, positive-positive, anchor-negative, without what is masked."""
    losses = []
    count = len(vectors_BVD)
    for i in range(count):
        own = cosine(guide_BVD[i, 0], guide_BVD[i, 1])
        threshold = own - margin * (abs(own) if relative else 1.0)
        total = 0.0
        for mine, theirs in ((0, 1), (0, 0), (1, 1), (0, 2)):
            for j in range(count):
                if j == i and mine == theirs:
                    continue
                is_positive = j == i and theirs == 1
                if is_positive or cosine(guide_BVD[i, mine], guide_BVD[j, theirs]) <= threshold:
                    total += math.exp(cosine(vectors_BVD[i, mine], vectors_BVD[j, theirs]) / TAU)
        losses.append(math.log(total) - cosine(vectors_BVD[i, 0], vectors_BVD[i, 1]) / TAU)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("margin", "strategy"), [(0.0, "absolute"), (0.3, "absolute"), (0.3, "relative")])
def test_what_the_guide_finds_more_similar_than_the_positive_is_left_out_of_all_blocks(margin: float, strategy: str) -> None:
    term = InfoNCE(TAU, own_view="all", masks={"guided": Guided(margin, strategy)})
    loss = term(guided_step(vectors(), guide()))
    assert isinstance(loss, Tensor)
    expected = reference(vectors(), guide(), margin, strategy == "relative")
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    plain = InfoNCE(TAU, own_view="all")(step_of(vectors()))
    assert isinstance(plain, Tensor) and plain.item() > expected  # something was left out


def test_a_larger_relative_margin_leaves_out_more_where_the_own_similarity_is_negative() -> None:
    angle_BV = torch.arange(5)[:, None] * 72 + torch.tensor([0, 120])  # degrees; the own similarity is cos(120) = -0.5
    apart = torch.stack([angle_BV.deg2rad().cos(), angle_BV.deg2rad().sin()], dim=2)
    steps = [Guided(margin, "relative")(guided_step(vectors(views=2), apart))[0] for margin in (0, 0.2, 0.97)]
    assert [int(left_out.sum()) for left_out in steps] == [15, 20, 25]


def test_with_several_positives_the_least_similar_one_is_the_threshold() -> None:
    of_guide = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [[0.6, 0.8], [0.5, 0.8], [0.6, 0.9]]])
    roles = ("anchor", "positive", "positive")
    left_out, _ = Guided()(guided_step(torch.zeros(2, 3, 6), of_guide, roles))
    assert left_out[0].tolist() == [True, True, False, True]  # more than cos(x_0, x_0+) = 0 of the second positive


def test_it_holds_what_a_term_must() -> None:
    check_term(gist, beside={"guide": {"_target_": "tests.methods.guides.Guide"}})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": "both"}, "strategy=both: not one of absolute, relative"),
        ({"margin": -0.1}, "margin=-0.1: must be 0 or"),
    ],
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Guided(**options)


def test_the_loss_of_that_name_has_the_official_margin_and_temperature() -> None:
    term: Any = build_objective(train_config("loss=gist", "model=tiny")).terms["contrastive"]
    mask = term.masks["guided"]
    assert (term.temperature, term.own_view, list(term.encoders)) == (0.01, "all", ["guide"])
    assert (mask.margin, mask.strategy) == (0.0, "absolute")
    assert {"positive"} <= term.needs
