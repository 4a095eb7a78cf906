"""Alignment and uniformity against loops over the pairs."""

import math
from functools import partial

from torch import Tensor

from simcse_lit.methods.align_uniform import AlignUniform
from simcse_lit.testing import check_formula, check_term
from simcse_lit.training.build import build_objective
from tests.conftest import train_config


def of_pairs(vectors_BVD: Tensor) -> float:
    anchors, positives = ([row / row.norm() for row in vectors_BVD[:, view]] for view in (0, 1))

    def uniformity(rows: list[Tensor]) -> float:
        pairs = [(x, y) for place, x in enumerate(rows) for y in rows[place + 1 :]]
        return math.log(sum(math.exp(-2 * float((x - y).norm()) ** 2) for x, y in pairs) / len(pairs))

    distances = [float((x - y).norm()) ** 2 for x, y in zip(anchors, positives, strict=True)]
    return sum(distances) / len(distances) + 0.7 * (uniformity(anchors) + uniformity(positives)) / 2


def test_it_is_a_term_and_agrees_with_loops_over_pairs() -> None:
    check_formula(partial(AlignUniform, 0.7), of_pairs)
    check_term(partial(AlignUniform, 0.7))


def test_the_loss_of_that_name_is_this_term_alone() -> None:
    objective = build_objective(train_config("loss=align_uniform", "model=tiny"))
    assert list(objective.terms) == ["align_uniform"] and objective.weights["align_uniform"] == 1.0
    assert isinstance(objective.terms["align_uniform"], AlignUniform)
