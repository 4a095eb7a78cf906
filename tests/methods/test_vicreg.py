"""VICReg against loops over the numbers of the vectors."""

from functools import partial
from typing import Any

from torch import Tensor

from simcse_lit.methods.vicreg import VICReg
from simcse_lit.testing import check_formula, check_term
from simcse_lit.training.build import build_objective
from tests.conftest import train_config


def reference(vectors_BVD: Tensor) -> float:
    anchors, positives = vectors_BVD[:, 0], vectors_BVD[:, 1]
    count, width = anchors.shape
    same = sum(float((x - y) ** 2) for x, y in zip(anchors.flatten(), positives.flatten(), strict=True)) / (count * width)
    spread = shared = 0.0
    for view in (anchors, positives):
        columns = [column - column.mean() for column in view.T]
        for d, x in enumerate(columns):
            spread += max(0.0, 1 - (float(x @ x) / (count - 1) + 1e-4) ** 0.5) / width / 2
            shared += sum((float(x @ y) / (count - 1)) ** 2 for e, y in enumerate(columns) if e != d) / width
    return 25 * same + 20 * spread + 2 * shared


def test_it_is_a_term_and_agrees_with_loops_over_the_numbers() -> None:
    check_formula(partial(VICReg, 25.0, 20.0, 2.0), reference)
    check_term(partial(VICReg, 25.0, 20.0, 2.0))


def test_the_loss_of_that_name_is_this_term_alone_without_a_head() -> None:
    config = train_config("loss=vicreg", "model=tiny")
    objective = build_objective(config)
    term: Any = objective.terms["vicreg"]
    assert list(objective.terms) == ["vicreg"] and isinstance(term, VICReg)
    assert (term.invariance, term.variance, term.covariance) == (25.0, 25.0, 1.0)
    assert (config.projection["name"], config.data.batch_size, config.optimizer.lr) == ("none", 128, 1e-5)
