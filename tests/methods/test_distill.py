"""Distillation against loops over the sentences, and a teacher of another width."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.methods.distill import Distill
from simcse_lit.objective.term import Objective
from simcse_lit.testing import check_term
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build, build_objective
from tests.conftest import train_config
from tests.methods.guides import guided_step
from tests.objective.test_info_nce import vectors

TEACHER = {"teacher": {"_target_": "tests.methods.guides.Guide", "width": 48}}


def cosine(student: Tensor, teacher: Tensor) -> float:
    return 1 - float(student @ teacher / (student.norm() * teacher.norm()))


def mse(student: Tensor, teacher: Tensor) -> float:
    return sum(float((x - y) ** 2) for x, y in zip(student, teacher, strict=True)) / len(student)


@pytest.mark.parametrize("measure", [cosine, mse])
def test_it_is_the_mean_over_all_views_of_all_sentences(measure: Any) -> None:
    teacher = torch.randn(5, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pairs = zip(vectors().flatten(0, 1), teacher.flatten(0, 1), strict=True)
    each = [measure(student, theirs) for student, theirs in pairs]
    term = Distill(measure.__name__)
    term.setup(6, VOCABULARY)
    loss = term(guided_step(vectors(), teacher))
    assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-12)


def test_missing_hard_negatives_do_not_count() -> None:
    teacher = torch.randn(5, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    present = torch.ones(5, 3, dtype=torch.bool)
    present[1:4, 2] = False
    step = guided_step(vectors(), teacher)
    loss = Distill()(replace(step, extras={**step.extras, "present": present}))
    each = [cosine(vectors()[row, view], teacher[row, view]) for row, view in present.nonzero().tolist()]
    assert len(each) == 12 and loss.item() == pytest.approx(sum(each) / 12, rel=1e-12)


def test_it_holds_what_a_term_must_with_a_teacher_of_another_width() -> None:
    check_term(partial(Distill, "mse", map=True), views=2, beside=TEACHER)
    check_term(partial(Distill, map=True), views=("anchor",), beside=TEACHER)


def test_another_width_without_a_map_is_refused_before_training() -> None:
    objective = Objective({"mine": Distill()}, {"mine": 1.0})
    objective.setup(48, VOCABULARY, {"teacher": 48})
    with pytest.raises(UserError, match=r"loss\.beside\.teacher: its vectors have 48 numbers(.|\n)*map=true"):
        objective.setup(32, VOCABULARY, {"teacher": 48})


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="measure=l2: not one of cosine, mse"):
        Distill("l2")


def test_the_loss_of_that_name_has_one_view_and_no_contrast() -> None:
    config = train_config("loss=distill", "model=tiny")
    objective = build_objective(config)
    term: Any = objective.terms["distill"]
    assert list(objective.terms) == ["distill"] and (term.measure, term.has_map) == ("cosine", True)
    assert [(view.column, view.role) for view in config.data.views or ()] == [("text", "anchor")]
    assert config.projection["name"] == "none" and list(config.loss.beside) == ["teacher"]
    both = build_objective(train_config("loss=distill", "model=tiny", "loss.terms.contrastive.weight=1", "data.views=null"))
    assert list(both.terms) == ["contrastive", "distill"]


QUIET = ("tasks=samples", "tasks@dev=samples-dev", "senteval.from_hub=false")


def test_a_teacher_that_is_not_there_is_told_with_its_own_key(tmp_path: Path) -> None:
    config = train_config(
        "loss=distill", "model=tiny", "data=samples", f"loss.beside.teacher.checkpoint={tmp_path}/none", *QUIET
    )
    with pytest.raises(UserError) as caught:
        build(config)
    assert str(caught.value).startswith("loss.beside.teacher.checkpoint: ")
    assert " checkpoint=" not in str(caught.value)  # not the key of other commands
