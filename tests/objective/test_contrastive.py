"""The contrastive objective against a slow formula written out from the paper, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss


def slow_loss(views: list[Tensor], temperature: float, weight: float, normalised: bool = True) -> Tensor:
    """Equation 5 sentence by sentence: -log of the positive's share, hard negatives weighted by alpha = exp(weight)."""
    anchors, positives = views[0], views[1]
    total = torch.zeros((), dtype=torch.float64)

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        lengths = a.pow(2).sum().sqrt() * b.pow(2).sum().sqrt()
        return (a * b).sum() / (lengths if normalised else 1)

    for i in range(len(anchors)):
        denominator = torch.zeros((), dtype=torch.float64)
        for j in range(len(anchors)):
            denominator = denominator + (similarity(anchors[i], positives[j]) / temperature).exp()
            for negatives in views[2:]:
                alpha = math.exp(weight) if i == j else 1.0
                denominator = denominator + alpha * (similarity(anchors[i], negatives[j]) / temperature).exp()
        total = total - ((similarity(anchors[i], positives[i]) / temperature).exp() / denominator).log()
    return total / len(anchors)


def random_views(count: int, batch: int = 7, hidden: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return [torch.randn(batch, hidden, generator=generator, dtype=torch.float64) * 3 for _ in range(count)]


@pytest.mark.parametrize(("count", "weight"), [(2, 0.0), (3, 0.0), (3, 0.7), (3, -1.2), (4, 0.0), (4, 0.7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_equal_the_papers_formula(count: int, weight: float, dtype: torch.dtype) -> None:
    reference = [view.clone().requires_grad_() for view in random_views(count)]
    expected = slow_loss(reference, 0.05, weight)
    expected.backward()
    views = [view.to(dtype).requires_grad_() for view in random_views(count)]
    loss = contrastive_loss(contrastive_logits(*views, temperature=0.05, hard_negative_weight=weight))
    loss.backward()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for ours, theirs in zip(views, reference, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        error = (ours.grad.double() - theirs.grad).abs().max() / theirs.grad.abs().max()
        assert error < (2e-6 if dtype == torch.float32 else 1e-12)


@given(
    batch=st.integers(1, 9),
    temperature=st.floats(0.02, 5),
    weight=st.floats(-3, 3),
    count=st.sampled_from([2, 3]),
)
@settings(max_examples=40, deadline=None)
def test_loss_equals_the_formula_for_any_batch_and_temperature(
    batch: int, temperature: float, weight: float, count: int
) -> None:
    weight = weight if count == 3 else 0.0
    views = random_views(count, batch)
    loss = contrastive_loss(contrastive_logits(*views, temperature=temperature, hard_negative_weight=weight))
    assert loss.item() == pytest.approx(slow_loss(views, temperature, weight).item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [2, 3])
def test_the_dot_product_is_the_formula_without_normalisation(count: int) -> None:
    views = [view / 3 for view in random_views(count)]
    loss = contrastive_loss(contrastive_logits(*views, temperature=1.0, similarity="dot"))
    assert loss.item() == pytest.approx(slow_loss(views, 1.0, 0.0, normalised=False).item(), rel=1e-12)
    assert loss.item() != pytest.approx(slow_loss(views, 1.0, 0.0).item(), rel=1e-3)


def test_positives_come_first_and_the_weight_stands_on_the_own_hard_negative() -> None:
    anchor, positive, negative = random_views(3, batch=4)
    plain = contrastive_logits(anchor, positive, negative, temperature=1.0)
    weighted = contrastive_logits(anchor, positive, negative, temperature=1.0, hard_negative_weight=2.5)
    assert plain.shape == (4, 8)
    cosine = torch.nn.CosineSimilarity(dim=-1)
    assert plain[1, 2].item() == pytest.approx(cosine(anchor[1], positive[2]).item())
    assert plain[1, 4 + 2].item() == pytest.approx(cosine(anchor[1], negative[2]).item())
    expected = torch.zeros(4, 8, dtype=torch.float64)
    for row in range(4):
        expected[row, 4 + row] = 2.5
    torch.testing.assert_close(weighted - plain, expected)


def test_similarities_stay_in_float32_under_autocast_and_for_half_precision_views() -> None:
    anchor, positive = (view.float() for view in random_views(2, hidden=64))
    exact = contrastive_logits(anchor, positive, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = contrastive_logits(anchor, positive, temperature=0.05)
    torch.testing.assert_close(autocast, exact, rtol=0, atol=0)
    assert contrastive_logits(anchor.bfloat16(), positive.bfloat16(), temperature=0.05).dtype == torch.float32


def test_impossible_arguments_are_refused() -> None:
    anchor, positive = random_views(2)
    with pytest.raises(ValueError, match="temperature"):
        contrastive_logits(anchor, positive, temperature=0.0)
    with pytest.raises(ValueError, match="cosine or dot"):
        contrastive_logits(anchor, positive, temperature=1.0, similarity="euclid")
    with pytest.raises(ValueError, match="shape"):
        contrastive_logits(anchor, positive[:3], temperature=1.0)
    with pytest.raises(ValueError, match="hard negatives"):
        contrastive_logits(anchor, positive, temperature=1.0, hard_negative_weight=1.0)
