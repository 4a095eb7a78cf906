"""Soft negatives against a loop over the anchors, and the rules that negate a sentence."""

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.methods.sncse import Negate, SoftNegative
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.term import Objective
from simcse_lit.testing import check_formula, check_term, step_of
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build_objective
from tests.conftest import Cli, train_config
from tests.text.test_template import bert
from tests.views.encoded import encoded

ROLES = ("anchor", "positive", "soft_negative")


def by_anchor(vectors_BVD: Tensor) -> float:
    total = 0.0
    for anchor, positive, soft in vectors_BVD:
        difference = cosine(anchor, soft) - cosine(anchor, positive)
        total += max(0.0, difference + 0.1) + max(0.0, -difference - 0.3)
    return total / len(vectors_BVD)


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def test_it_is_a_term_and_agrees_with_a_loop_over_the_anchors() -> None:
    check_formula(partial(SoftNegative, 0.1, 0.3), by_anchor, views=ROLES)
    check_term(partial(SoftNegative, 0.1, 0.3), views=ROLES, pooler={"name": "mask", "behind": 1})


def loss_at(soft: float) -> float:
    """The loss of one anchor that equals its positive and has this cosine with its soft negative."""
    vectors = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [soft, (1 - soft**2) ** 0.5]]], dtype=torch.float64)
    return float(SoftNegative(0.1, 0.3)(step_of(vectors, ROLES))[0])


def test_the_loss_is_zero_between_the_margins_and_grows_on_both_sides() -> None:
    assert loss_at(0.89) == loss_at(0.71) == 0
    assert loss_at(0.95) == pytest.approx(0.05) and loss_at(0.5) == pytest.approx(0.2)


def test_several_soft_negatives_count_alike() -> None:
    vectors = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = SoftNegative(0.1, 0.3)(step_of(vectors, (*ROLES, "soft_negative")))[0]
    assert float(both) == pytest.approx((by_anchor(vectors[:, :3]) + by_anchor(vectors[:, [0, 1, 3]])) / 2)


def test_a_soft_negative_is_no_candidate_of_info_nce() -> None:
    vectors = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    found = InfoNCE(0.05)(step_of(vectors, ROLES))
    assert torch.equal(found, InfoNCE(0.05)(step_of(vectors[:, :2])))


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.1), (-0.1, 0.3)])
def test_margins_in_another_order_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="0 <= alpha <= beta"):
        SoftNegative(alpha, beta)


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("It is not red.", "It is red."),
        ("It is red.", "It is not red."),
        ("He won't come, and can't.", "He will come, and can't."),
        ("Don’t run", "Do run"),
        ("She cannot swim.", "She can swim."),
        ("Not all that can be counted is gold.", "all that can be counted is gold."),
        ("He came in May.", "Not He came in May."),
        ("The can-opener that he is using may break.", "The can-opener that he is not using may break."),
        ("A notable knot was tied.", "A notable knot was not tied."),
    ],
)
def test_the_first_rule_that_applies_negates_a_sentence(text: str, negated: str) -> None:
    assert Negate()(text, Random(0)) == negated


def test_the_loss_of_that_name_adds_the_term_to_info_nce_with_the_weight_of_the_model() -> None:
    for model, weight in (("tiny", 1e-3), ("bert-base", 1e-3), ("roberta-base", 5e-4), ("roberta-large", 5e-4)):
        objective: Objective = build_objective(train_config("loss=sncse", f"model={model}"))
        assert objective.weights == {"contrastive": 1.0, "soft_negative": weight}
    term: Any = objective.terms["soft_negative"]
    assert (term.alpha, term.beta) == (0.1, 0.3)
    objective.setup(8, VOCABULARY)


def of_views(*asked: str, row: tuple[str, ...]) -> list[str]:
    """The texts of the views of a row, with their templates and the special tokens."""
    config = train_config("model=tiny", *asked)
    views = encoded(config.data, bert())
    stored = views.stored_ids([row])
    texts = {column: [row[column]] for column in views.kept}
    columns = {**stored, **views.made_ids(texts, lambda example, view: Random(0))}
    found = [columns[f"view{place}"].to_pylist()[0] for place in views.places]
    assert views.longest == 32
    return [str(bert().decode(ids)) for ids in found]


FIRST = '[CLS] this sentence : " {} " means [MASK]. [SEP]'
SECOND = '[CLS] this sentence of " {} " means [MASK]. [SEP]'


def test_a_plain_text_is_its_own_positive_and_is_negated_by_rule() -> None:
    found = of_views("loss=sncse", "data=samples", row=("the water is cold",))
    texts = ("the water is cold.", "the water is cold.", "the water is not cold.")
    assert found == [form.format(text) for form, text in zip((FIRST, SECOND, SECOND), texts, strict=True)]


def test_a_column_of_negations_is_read_as_it_stands(tmp_path: Path) -> None:
    file = f"data.train_file={tmp_path}/negated.csv"
    found = of_views("loss=sncse_file", file, row=("the water is cold", "the water is deep ."))
    texts = ("the water is cold.", "the water is cold.", "the water is deep.")
    assert found == [form.format(text) for form, text in zip((FIRST, SECOND, SECOND), texts, strict=True)]


def test_two_steps_from_a_column_leave_an_encoder_with_its_template(warm_cli: Cli, tmp_path: Path) -> None:
    rows = [f"{number} the river is cold,{number} the river is not cold" for number in range(64)]
    (tmp_path / "negated.csv").write_text("text,negation\n" + "\n".join(rows) + "\n")
    done = warm_cli(
        *("loss=sncse_file", "data.train_file=negated.csv", "model=tiny", "trainer=cpu", "data.batch_size=32"),
        *("tasks=samples", "tasks@dev=samples-dev", "senteval.from_hub=false", "evaluation.before=false"),
        *("trainer.max_steps=2", "trainer.log_every_n_steps=1", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    scored = warm_cli("checkpoint=run/export", "tasks=samples", "hydra.run.dir=scored", command="evaluate")
    assert scored.returncode == 0, scored.stderr
    assert "pooler mask, projection mlp_train_only" in scored.stdout
