"""The objective: the weighted sum of terms, what each draws, and what a term that cannot be built is answered with."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.objective.mlm import MaskedLanguageModel
from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import LinearWeight, Objective, Term
from simcse_lit.testing import step_of
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.objective.test_info_nce import vectors

HERE = "tests.objective.test_term"


class Drawn(Term):
    """Draws a number; needs nothing of the encoder."""

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.rand(())
        return draw, {"twice": 2 * draw}


class Even(Drawn):
    """Another of the kind."""

    def __init__(self, power: int, times: float = 1.0) -> None:
        super().__init__()
        if power % 2:
            raise ValueError(f"power={power}: must be even")


class OfMask(Drawn):
    needs = frozenset({"mask_token"})


def test_the_loss_is_the_weighted_sum_and_every_term_is_logged_without_its_weight() -> None:
    objective = Objective({"b": Drawn(), "a": Drawn()}, {"a": 2.0, "b": LinearWeight(0.0, 0.9)})
    step = step_of(vectors())
    for index, weight in ((0, 0.0), (3, 0.3), (9, 0.9)):
        loss, logged = objective(Step(**{**vars(step), "index": index}))
        assert sorted(logged) == ["a", "a/twice", "b", "b/twice"]
        assert loss.item() == pytest.approx(2 * logged["a"].item() + weight * logged["b"].item(), rel=1e-6)
        assert logged["a/twice"].item() == 2 * logged["a"].item()


def test_what_a_term_draws_is_decided_by_run_step_and_name_and_by_no_other_term() -> None:
    step = step_of(vectors())

    def drawn(*names: str, **changes: Any) -> dict[str, float]:
        objective = Objective({name: Drawn() for name in names}, dict.fromkeys(names, 1.0))
        logged = objective(Step(**{**vars(step), **changes}))[1]
        return {name: logged[name].item() for name in names}

    alone = drawn("mine")
    assert drawn("another", "mine", "zz")["mine"] == alone["mine"] == drawn("mine")["mine"]
    assert len(set(drawn("a", "b", "mine").values())) == 3
    assert alone["mine"] != drawn("mine", index=1)["mine"]
    assert alone["mine"] != drawn("mine", seed_of_run=1)["mine"]


def test_a_term_changes_what_it_holds_after_the_step_without_gradient() -> None:
    seen = []

    class Queue(Drawn):
        def after_step(self, step: Step) -> None:
            seen.append((step.index, torch.is_grad_enabled()))

    Objective({"mine": Queue()}, {"mine": 1.0}).after_step(step_of(vectors()))
    assert seen == [(0, False)]


@pytest.mark.parametrize("name", ["a.b", "keys", "1", ""])
def test_a_name_that_no_module_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"loss.terms.*: a term cannot have this name"):
        Objective({name: Drawn()}, {name: 1.0})


def test_a_need_that_is_not_known_is_refused_with_those_that_are() -> None:
    class Misspelt(Drawn):
        needs = frozenset({"hard_negatives"})

    with pytest.raises(
        UserError, match="mine: needs hard_negatives, which is none of extra, hard_negative, hashes, kept_head, labels"
    ):
        Objective({"mine": Misspelt()}, {"mine": 1.0})


def test_a_term_that_needs_a_mask_token_is_refused_where_there_is_none() -> None:
    objective = Objective({"mine": OfMask()}, {"mine": 1.0})
    objective.setup(32, VOCABULARY)
    with pytest.raises(UserError, match=r"loss\.terms\.mine: the tokenizer of the backbone has no mask token"):
        objective.setup(32, Vocabulary(100, None, ()))


def built(*overrides: str) -> Objective:
    return build_objective(train_config("model=tiny", "data=samples", *overrides))


def test_terms_are_built_from_the_configuration_and_those_of_weight_0_are_not() -> None:
    assert list(built().terms) == ["contrastive"]
    assert built().needs == {"positive"} and built().reads_vectors
    with_mlm = built("loss.mlm_weight=0.1", "loss.mlm_probability=0.3")
    assert list(with_mlm.terms) == ["contrastive", "mlm"] and with_mlm.weights == {"contrastive": 1.0, "mlm": 0.1}
    assert with_mlm.needs == {"positive", "mlm_head", "mask_token"} and with_mlm.reads_vectors
    assert cast(MaskedLanguageModel, with_mlm.terms["mlm"]).masking.probability == 0.3
    mine = built(f"+loss.terms.mine={{_target_:{HERE}.Even,power:2}}", "loss.terms.contrastive.weight=0")
    assert list(mine.terms) == ["mine"] and mine.weights == {"mine": 1.0}
    schedule = "{_target_:simcse_lit.objective.term.LinearWeight,start:1.0,end:0.0}"
    scheduled = built(f"loss.terms.contrastive.weight={schedule}")
    assert scheduled.weights["contrastive"](5, 11) == 0.5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["loss.terms.contrastive.weight=0"], "loss.terms: no term has a weight"),
        (
            [f"+loss.terms.mine={{_target_:{HERE}.Missing}}"],
            "loss.terms.mine._target_=tests.objective.test_term.Missing: cannot",
        ),
        (
            ["+loss.terms.mine={_target_:no_such_package.Term}"],
            "loss.terms.mine._target_=no_such_package.Term: cannot be imp",
        ),
        (["+loss.terms.mine={weight:2}"], "loss.terms.mine._target_: has no value"),
        ([f"+loss.terms.mine={{_target_:{HERE}.Even}}"], "loss.terms.mine.power: has no value, but Even needs one"),
        ([f"+loss.terms.mine={{_target_:{HERE}.Even,power:3}}"], "loss.terms.mine: tests.objective.test_term.Even: power=3"),
        (
            [f"+loss.terms.mine={{_target_:{HERE}.Even,power:2,time:3}}"],
            "loss.terms.mine.time: Even takes no such argument. Did you mean times?\nIt takes: power, times",
        ),
        (["loss.terms.contrastive.directons=both"], "loss.terms.contrastive.directons: InfoNCE takes no such argument"),
        (["loss.terms.contrastive.directions=all"], "directions=all: not one of rows, both"),
        (["+loss.terms.mine={_target_:pathlib.Path}"], "loss.terms.mine._target_=pathlib.Path: is no"),
        (["loss.terms.contrastive=3"], "loss.terms.contrastive=3: must be a group with a _target_, or null"),
        (["loss.terms.contrastive=null"], "loss.terms: no term has a weight"),
        (["loss.terms.contrastive.weight=much"], "loss.terms.contrastive.weight=much: must be a number"),
        (
            ["loss.terms.contrastive.masks={mine:{_target_:no.Mask}}"],
            "loss.terms.contrastive.masks.mine._target_=no.Mask: cannot be imported",
        ),
    ],
)
def test_a_term_that_cannot_be_built_is_answered_with_its_key(overrides: list[str], says: str) -> None:
    overrides = [f"+{word}" if "directons" in word else word for word in overrides]
    with pytest.raises(UserError) as raised:
        built(*overrides)
    assert says in str(raised.value)


def test_hard_negatives_that_a_term_needs_and_the_file_has_not_are_named() -> None:
    target = f"{HERE}.OfNegatives"
    with pytest.raises(UserError, match=r"loss\.terms\.mine: needs hard negatives, but data\.columns="):
        built(f"+loss.terms.mine={{_target_:{target}}}")


class OfNegatives(Drawn):
    needs = frozenset({"hard_negative"})
