"""InfoNCE and its parts against plain loops over rows and columns."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from simcse_lit.objective.info_nce import InfoNCE, Mask, Negatives
from simcse_lit.objective.step import Step
from simcse_lit.testing import step_of
from simcse_lit.testing.small_run import VOCABULARY

TAU = 0.3


def vectors(batch: int = 5, views: int = 3) -> Tensor:
    return torch.randn(batch, views, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=False)


def loss_of(vectors_BVD: Tensor, **options: Any) -> Tensor:
    term = InfoNCE(TAU, **options).double()
    term.setup(vectors_BVD.shape[2], VOCABULARY)
    found = term(step_of(vectors_BVD))
    loss: Tensor = found[0] if isinstance(found, tuple) else found
    return loss


def cross_entropy(
    rows: Sequence[Tensor] | Tensor,
    columns: Sequence[Tensor],
    *,
    decoupled: bool = False,
    positive: Callable[[float], float] = lambda cosine: cosine,
    factor: Callable[[int, int], float] = lambda row, column: 1.0,
) -> float:
    """Mean over i of -log(e^(s_ii / tau) / sum_j w_ij e^(s_ij / tau)), number by number."""
    losses = []
    for i, row in enumerate(rows):
        cosines = [float(cosine_similarity(row, column, dim=0)) for column in columns]
        cosines[i] = positive(cosines[i])
        terms = [factor(i, j) * math.exp(cosine / TAU) for j, cosine in enumerate(cosines)]
        denominator = sum(terms) - (terms[i] if decoupled else 0.0)
        losses.append(math.log(denominator) - cosines[i] / TAU)
    return sum(losses) / len(losses)


def test_the_default_is_the_papers() -> None:
    anchor, positive, negative = vectors().unbind(1)
    assert loss_of(vectors()).item() == pytest.approx(cross_entropy(anchor, [*positive, *negative]), rel=1e-12)


def test_both_directions_are_the_mean_of_the_two() -> None:
    anchor, positive, negative = vectors().unbind(1)
    expected = (cross_entropy(anchor, [*positive, *negative]) + cross_entropy(positive, [*anchor])) / 2
    assert loss_of(vectors(), directions="both").item() == pytest.approx(expected, rel=1e-12)


def test_decoupled_leaves_the_positive_out_of_the_denominator() -> None:
    anchor, positive, negative = vectors().unbind(1)
    expected = cross_entropy(anchor, [*positive, *negative], decoupled=True)
    assert loss_of(vectors(), denominator="negatives").item() == pytest.approx(expected, rel=1e-12)


def test_own_view_adds_the_other_anchors_as_in_simclr() -> None:
    anchor, positive = vectors(views=2).unbind(1)
    two = len(anchor)

    def others(row: int, column: int) -> float:
        return 0.0 if column == two + row else 1.0

    one_way = cross_entropy(anchor, [*positive, *anchor], factor=others)
    assert loss_of(vectors(views=2), own_view=True).item() == pytest.approx(one_way, rel=1e-12)
    other_way = cross_entropy(positive, [*anchor, *positive], factor=others)
    both = loss_of(vectors(views=2), own_view=True, directions="both")
    assert both.item() == pytest.approx((one_way + other_way) / 2, rel=1e-12)


def of_all_blocks(
    vectors_BVD: Tensor, back: bool = False, weight: Callable[[int, int, int], float] = lambda *_: 1.0
) -> float:
    """Mean over i of -log(e^(a_i p_i / tau) / sum), one sum over anchor-positive, anchor-anchor and positive-positive."""
    views = vectors_BVD.unbind(1)[::-1] if back else vectors_BVD.unbind(1)
    losses = []
    for i in range(len(vectors_BVD)):
        total = 0.0
        for block, (mine, theirs) in enumerate(((0, 1), (0, 0), (1, 1))):
            for j in range(len(vectors_BVD)):
                if j != i or block == 0:
                    cosine = float(cosine_similarity(views[mine][i], views[theirs][j], dim=0))
                    total += weight(block, i, j) * math.exp(cosine / TAU)
        losses.append(math.log(total) - float(cosine_similarity(views[0][i], views[1][i], dim=0)) / TAU)
    return sum(losses) / len(losses)


def test_all_own_views_add_the_other_positives_against_the_positive() -> None:
    given = vectors(views=2)
    assert loss_of(given, own_view="all").item() == pytest.approx(of_all_blocks(given), rel=1e-12)
    both = (of_all_blocks(given) + of_all_blocks(given, back=True)) / 2
    assert loss_of(given, own_view="all", directions="both").item() == pytest.approx(both, rel=1e-12)


class Margin(nn.Module):
    def forward(self, cosine_B: Tensor) -> Tensor:
        return cosine_B - 0.2


def test_the_positives_are_transformed_before_the_temperature() -> None:
    anchor, positive, negative = vectors().unbind(1)
    expected = cross_entropy(anchor, [*positive, *negative], positive=lambda cosine: cosine - 0.2)
    assert loss_of(vectors(), positive=Margin()).item() == pytest.approx(expected, rel=1e-12)


class Fixed(Negatives):
    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        return self.vectors


class OfCosines(Margin):
    needs_cosine = True


def test_a_part_that_needs_cosines_is_refused_with_dot_products() -> None:
    InfoNCE(TAU, positive=OfCosines())
    with pytest.raises(ValueError, match="similarity=dot: OfCosines needs similarity=cosine"):
        InfoNCE(TAU, similarity="dot", positive=OfCosines())


def test_negatives_stand_behind_the_candidates_for_all_anchors_or_each() -> None:
    anchor, positive = vectors(views=2).unbind(1)
    shared = torch.randn(4, 6, dtype=torch.float64)
    got = loss_of(vectors(views=2), negatives={"mine": Fixed(shared)})
    assert got.item() == pytest.approx(cross_entropy(anchor, [*positive, *shared]), rel=1e-12)
    own = torch.randn(5, 2, 6, dtype=torch.float64)

    def of_row(row: int, column: int) -> float:
        return 1.0 if column < 5 or (column - 5) // 2 == row else 0.0

    got = loss_of(vectors(views=2), negatives={"mine": Fixed(own)})
    assert got.item() == pytest.approx(cross_entropy(anchor, [*positive, *own.flatten(0, 1)], factor=of_row), rel=1e-12)
    with pytest.raises(ValueError, match=r"negatives.mine: must return \(K, D\) or \(B, K, D\), got \(4, 2, 6\)"):
        loss_of(vectors(views=2), negatives={"mine": Fixed(torch.zeros(4, 2, 6))})


class Given(Mask):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, step: Step) -> Tensor:
        return self.mask


@pytest.mark.parametrize("columns", [5, 10])
def test_masks_leave_candidates_out_or_weigh_them_but_never_the_positive(columns: int) -> None:
    anchor, positive, negative = vectors().unbind(1)
    weight = torch.rand(5, columns, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    drop = weight < 0.4

    def factor_of(mask: Tensor) -> Callable[[int, int], float]:
        return lambda i, j: 1.0 if i == j or j >= columns else float(mask[i, j])

    for mask, factor in ((weight, weight), (drop, ~drop)):
        expected = cross_entropy(anchor, [*positive, *negative], factor=factor_of(factor))
        assert loss_of(vectors(), masks={"mine": Given(mask)}).item() == pytest.approx(expected, rel=1e-6)
    each = factor_of(weight), factor_of(~drop)
    both = cross_entropy(anchor, [*positive, *negative], factor=lambda i, j: each[0](i, j) * each[1](i, j))
    got = loss_of(vectors(), masks={"weight": Given(weight), "drop": Given(drop)})
    assert got.item() == pytest.approx(both, rel=1e-6)
    with pytest.raises(ValueError, match=r"masks.mine: must return \(B, N\) or \(B, C\), got \(5, 11\)"):
        loss_of(vectors(), masks={"mine": Given(torch.zeros(5, 11))})


class GivenBoth(Mask):
    def __init__(self, mask: Tensor, others: Tensor) -> None:
        super().__init__()
        self.mask, self.others = mask, others

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        return self.mask, self.others


def test_masks_reach_the_columns_of_own_view_of_which_there_may_be_fewer_than_the_mask_has() -> None:
    given = vectors(views=2)
    weight = torch.rand(5, 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    none = torch.zeros(5, 5, dtype=torch.bool)

    def of(block: int, i: int, j: int) -> float:
        return 1.0 if block == 0 and i == j else float(weight[i, 5 * block + j])

    masks: dict[str, Mask] = {"mine": GivenBoth(weight[:, :5], weight[:, 5:]), "none": Given(none)}
    got = loss_of(given, own_view="all", masks=masks)
    assert got.item() == pytest.approx(of_all_blocks(given, weight=of), rel=1e-12)
    fewer = of_all_blocks(given, weight=lambda block, i, j: 0.0 if block == 2 else of(block, i, j))
    assert loss_of(given, own_view=True, masks=masks).item() == pytest.approx(fewer, rel=1e-12)
    anchor, positive = given.unbind(1)
    only = cross_entropy(anchor, [*positive], factor=lambda i, j: of(0, i, j))
    assert loss_of(given, masks=masks).item() == pytest.approx(only, rel=1e-12)


def test_a_mask_leaves_no_positive_of_own_view_out() -> None:
    given, extras = vectors(views=2), {"labels": torch.tensor([0, 1, 0, 1, 2])}
    same = extras["labels"][:, None] == extras["labels"]
    everything = torch.ones(5, 5, dtype=torch.bool)
    options: dict[str, Any] = {"targets": "labels", "own_view": True}
    left = InfoNCE(TAU, **options, masks={"all": GivenBoth(everything, everything)})(step_of(given, extras=extras))
    alike = InfoNCE(TAU, **options, masks={"others": GivenBoth(~same, ~same)})(step_of(given, extras=extras))
    torch.testing.assert_close(left, alike)


def test_a_learned_temperature_starts_where_it_is_told_and_has_the_gradient_of_the_loss() -> None:
    term = InfoNCE(TAU, learn_temperature=True).double()
    loss, numbers = term(step_of(vectors()))
    loss.backward()
    assert numbers["temperature"].item() == pytest.approx(TAU, rel=1e-7)
    with torch.no_grad():
        assert term.log_scale is not None and term.log_scale.grad is not None
        around = []
        for change in (1e-5, -1e-5):
            term.log_scale.add_(change)
            around.append(float(term(step_of(vectors()))[0]))
            term.log_scale.sub_(change)
        assert term.log_scale.grad.item() == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-5)
        term.log_scale.fill_(9.0)
        assert float(term.temperature) == pytest.approx(0.01)


CORNERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "both": {"directions": "both", "own_view": True},
    "decoupled": {"denominator": "negatives"},
    "masked": {"masks": {"all": Given(torch.ones(4, 4, dtype=torch.bool))}},
    "masked and decoupled": {"denominator": "negatives", "masks": {"all": Given(torch.ones(4, 4, dtype=torch.bool))}},
}


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("corner", ["duplicates", "positive is the anchor", "one row"])
def test_loss_and_gradient_are_finite_at_the_corners(name: str, corner: str) -> None:
    options = dict(CORNERS[name])
    given = vectors(batch=4, views=2)
    if corner == "duplicates":
        given[1:] = given[0]
    elif corner == "positive is the anchor":
        given[:, 1] = given[:, 0]
    else:
        given = given[:1]
        if "masks" in options:
            options["masks"] = {"all": Given(torch.ones(1, 1, dtype=torch.bool))}
    given.requires_grad_()
    loss = loss_of(given, **options)
    loss.backward()
    assert loss.isfinite() and given.grad is not None and given.grad.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"directions": "both"}, {"denominator": "negatives"}, {"own_view": True}])
def test_the_gradient_is_that_of_the_formula(options: dict[str, Any]) -> None:
    assert torch.autograd.gradcheck(lambda given: loss_of(given, **options), vectors(batch=3).requires_grad_())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"directions": "columns"}, "directions=columns: not one of rows, both"),
        ({"denominator": "none"}, "denominator=none: not one of all, negatives"),
        ({"similarity": "l2"}, "similarity=l2: not one of cosine, dot"),
        ({"own_view": "both"}, "own_view=both: not one of False, True, all"),
        ({"temperature": 0.0}, "temperature=0.0: must be a finite number greater than 0"),
    ],
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        InfoNCE(**{"temperature": TAU, **options})
