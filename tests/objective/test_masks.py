"""Supervised contrastive targets and the mask of duplicates, against loops over rows and columns."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.masks import Duplicates
from simcse_lit.testing import check_micro_batches, check_processes, check_term, step_of

TAU = 0.3
labels = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def vectors(batch: int, views: int) -> Tensor:
    return torch.randn(batch, views, 6, generator=torch.Generator().manual_seed(batch), dtype=torch.float64)


def khosla(
    rows: list[Tensor], of_rows: list[int], columns: list[Tensor], of_columns: list[int | None], own: list[int]
) -> float:
    """Equation 2: the mean over anchors i of -1/|P(i)| sum over p in P(i) of log(e^(z_i z_p / tau) / sum over a in A(i))."""
    losses = []
    for i, row in enumerate(rows):
        others = [place for place, column in enumerate(columns) if column is not row]
        scores = {place: float(row @ columns[place]) / TAU for place in others}
        total = math.log(sum(math.exp(score) for score in scores.values()))
        mine = [place for place in others if of_columns[place] == of_rows[i] or place == own[i]]
        losses.append(sum(total - scores[place] for place in mine) / len(mine))
    return sum(losses) / len(losses)


@given(labels)
@settings(deadline=None)
def test_all_candidates_of_the_anchors_label_are_positives_but_for_hard_negatives(of: list[int]) -> None:
    vectors_BVD = vectors(len(of), 3)
    anchors, positives, hard = ([*view] for view in normalize(vectors_BVD, dim=2).unbind(1))
    expected = khosla(anchors, of, [*positives, *hard], [*of, *[None] * len(of)], list(range(len(of))))
    extras = {"labels": torch.tensor(of)}
    loss = InfoNCE(TAU, targets="labels")(step_of(vectors_BVD, extras=extras))
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=1e-6)


@given(labels)
@settings(deadline=None)
def test_with_own_view_and_both_directions_it_is_the_loss_of_the_paper(of: list[int]) -> None:
    """Of the multiviewed batch of 2N: every other vector is a candidate."""
    vectors_BVD = vectors(len(of), 2)
    anchors, positives = ([*view] for view in normalize(vectors_BVD, dim=2).unbind(1))
    count = len(of)
    own = [*range(count, 2 * count), *range(count)]
    expected = khosla([*anchors, *positives], of * 2, [*anchors, *positives], [*of * 2], own)
    term = InfoNCE(TAU, targets="labels", own_view=True, directions="both")
    loss = term(step_of(vectors_BVD, extras={"labels": torch.tensor(of)}))
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=1e-6)


def test_labels_that_are_all_different_are_the_diagonal() -> None:
    vectors_BVD = vectors(5, 3)
    for options in ({}, {"denominator": "negatives"}, {"directions": "both", "own_view": True}):
        usual: Any = InfoNCE(TAU, **options)(step_of(vectors_BVD))
        extras = {"labels": torch.arange(5)}
        torch.testing.assert_close(InfoNCE(TAU, targets="labels", **options)(step_of(vectors_BVD, extras=extras)), usual)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6))
@settings(deadline=None)
def test_candidates_with_the_text_of_the_anchor_or_its_positive_are_left_out(hashes: list[tuple[int, int, int]]) -> None:
    vectors_BVD = vectors(len(hashes), 3)
    anchors, positives, hard = ([*view] for view in normalize(vectors_BVD, dim=2).unbind(1))
    columns, texts = [*positives, *hard], [row[1] for row in hashes] + [row[2] for row in hashes]
    losses = []
    for i, anchor in enumerate(anchors):
        kept = [place for place in range(len(columns)) if place == i or texts[place] not in hashes[i][:2]]
        total = sum(math.exp(float(anchor @ columns[place]) / TAU) for place in kept)
        losses.append(math.log(total) - float(anchor @ positives[i]) / TAU)
    term = InfoNCE(TAU, masks={"duplicates": Duplicates()})
    loss = term(step_of(vectors_BVD, extras={"hashes": torch.tensor(hashes)}))
    torch.testing.assert_close(loss.item(), sum(losses) / len(losses), rtol=1e-6, atol=1e-6)


def test_another_anchor_or_positive_with_the_text_of_the_anchor_or_its_positive_is_left_out_of_own_view() -> None:
    hashes = torch.tensor([[1, 5], [1, 6], [3, 1], [4, 8]])
    _, others = Duplicates()(step_of(vectors(4, 2), extras={"hashes": hashes}))
    assert (others[:, :4] & ~torch.eye(4, dtype=torch.bool)).nonzero().tolist() == [[0, 1], [1, 0], [2, 0], [2, 1]]
    assert (others[:, 4:] & ~torch.eye(4, dtype=torch.bool)).nonzero().tolist() == [[0, 2], [1, 2]]


def test_what_is_needed_is_known() -> None:
    assert InfoNCE(TAU).needs == {"positive"}
    assert InfoNCE(TAU, targets="labels", hard_negative_weight=1.0).needs == {"positive", "labels", "hard_negative"}
    assert InfoNCE(TAU, masks={"duplicates": Duplicates()}).needs == {"positive", "hashes"}
    with pytest.raises(ValueError, match="targets=label: not one of diagonal, labels"):
        InfoNCE(TAU, targets="label")


def masked(**options: Any) -> InfoNCE:
    return InfoNCE(0.05, masks={"duplicates": Duplicates()}, **options)


def test_targets_of_labels_hold_what_a_term_must() -> None:
    check_term(partial(InfoNCE, 0.05, targets="labels"))


def test_the_mask_of_duplicates_is_exact_with_processes_and_micro_batches() -> None:
    check_processes(masked)
    check_micro_batches(masked)
    check_processes(partial(masked, own_view="all"), views=("hard_negative", "positive", "anchor", "positive"))
