"""Matryoshka around other terms: against a plain sum over cut vectors, and with everything that an inner term may have."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.methods.cosent import CoSENT
from simcse_lit.methods.matryoshka import Matryoshka
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.masks import Duplicates
from simcse_lit.objective.mlm import MaskedLanguageModel
from simcse_lit.objective.queue import Queue
from simcse_lit.objective.step import Passes
from simcse_lit.testing import check_formula, check_processes, check_term, step_of
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build_objective
from tests.conftest import Cli, metrics, train_config


def info_nce(vectors_BVD: Tensor, texts: Sequence[int]) -> float:
    """InfoNCE at 0.05, where a candidate with the text of another row's positive is left out."""
    unit_BVD = vectors_BVD / vectors_BVD.norm(dim=2, keepdim=True)
    losses = []
    for row, (anchor, positive) in enumerate(unit_BVD):
        kept = [other for other in range(len(texts)) if other == row or texts[other] != texts[row]]
        total = sum(math.exp(float(anchor @ unit_BVD[other, 1]) / 0.05) for other in kept)
        losses.append(math.log(total) - float(anchor @ positive) / 0.05)
    return sum(losses) / len(losses)


def of_widths(vectors_BVD: Tensor) -> float:
    return sum(
        weight * info_nce(vectors_BVD[:, :2, :dim], range(len(vectors_BVD)))
        for dim, weight in ((32, 1.0), (8, 0.5), (4, 2.0))
    )


def test_it_is_the_weighted_sum_over_vectors_that_are_cut_before_they_are_normalised() -> None:
    check_formula(lambda: Matryoshka(InfoNCE(0.05), [8, 32, 4], [0.5, 1.0, 2.0]), of_widths, views=2)


def test_around_info_nce_with_the_mask_of_duplicates_it_equals_a_plain_sum() -> None:
    vectors_BVD = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    texts = [7, 3, 7, 5, 3]
    extras = {"hashes": torch.tensor([[100 + row, text] for row, text in enumerate(texts)])}
    term = Matryoshka(InfoNCE(0.05, masks={"duplicates": Duplicates()}), [16, 4])
    term.setup(16, VOCABULARY)
    loss, numbers = term(step_of(vectors_BVD, extras=extras))
    expected = {dim: info_nce(vectors_BVD[..., :dim], texts) for dim in (16, 4)}
    assert loss.item() == pytest.approx(sum(expected.values()))
    assert numbers["4"].item() == pytest.approx(expected[4]) and numbers.keys() == {"16", "4"}


def composed() -> Matryoshka:
    parts: dict[str, Any] = {"masks": {"duplicates": Duplicates()}, "negatives": {"queue": Queue(10)}}
    return Matryoshka(InfoNCE(0.05, learn_temperature=True, **parts), [32, 8])


def test_around_a_queue_a_mask_and_a_learned_temperature_it_holds_what_a_term_must() -> None:
    check_term(composed)


def with_momentum() -> Matryoshka:
    return Matryoshka(InfoNCE(0.05, negatives={"queue": Queue(10, encoder="slow")}), [32, 8], whole=[])


def test_the_vectors_of_a_moving_average_are_cut_too() -> None:
    slow = {"slow": {"_target_": "simcse_lit.training.beside.Momentum", "decay": 0.5}}
    check_processes(with_momentum, beside=slow)


def test_each_width_has_state_of_its_own() -> None:
    term = composed()
    term.setup(32, VOCABULARY)
    shapes = {name: tuple(each.shape) for name, each in term.state_dict().items() if "keys" in name}
    assert shapes == {
        "inner.32.negatives.queue.keys_KD": (10, 32),
        "inner.8.negatives.queue.keys_KD": (10, 8),
    }
    assert sum("log_scale" in name for name, _ in term.named_parameters()) == 2


class Twice(InfoNCE):
    """Encodes the anchors twice, and keeps the widths of what comes."""

    seen: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self) -> None:
        super().__init__(0.05)
        self.encoders = ("guide",)

    def forward(self, step: Any) -> Tensor:
        ids_BL, mask_BL = step.ids_BVL[:, 0], step.mask_BVL[:, 0]
        mine, again = (step.passes.encode(ids_BL, mask_BL) for _ in range(2))
        guide = step.passes.encode(ids_BL, mask_BL, encoder="guide")
        assert not torch.equal(mine, again)  # another dropout
        self.seen.append((mine.shape[1], guide.shape[1]))
        total: Tensor = mine.sum()
        return total


def test_other_passes_of_the_encoder_run_once_for_all_widths_and_a_guide_stays_whole() -> None:
    count = []

    def encode(ids_NL: Tensor, mask_NL: Tensor, **options: Any) -> Tensor:
        count.append(options)
        return torch.randn(len(ids_NL), 6)

    def nothing(*arguments: Any) -> Any:
        raise AssertionError

    step = replace(step_of(torch.randn(3, 2, 6)), passes=Passes(encode, *[nothing] * 4))
    term = Matryoshka(Twice(), [6, 4, 2], whole=["guide"])
    term.setup(6, VOCABULARY)
    Twice.seen.clear()
    term(step)
    assert len(count) == 3 and Twice.seen == [(6, 6), (4, 6), (2, 6)]


@pytest.mark.parametrize(
    ("width", "dims"),
    [
        (768, [768, 512, 256, 128, 64]),
        (384, [384, 256, 128, 64, 32]),
        (1024, [1024, 512, 256, 128, 64]),
        (4, [4, 2, 1]),
    ],
)
def test_the_widths_follow_from_the_model(width: int, dims: list[int]) -> None:
    term = Matryoshka(InfoNCE(0.05))
    term.setup(width, VOCABULARY)
    assert [*term.inner] == [str(dim) for dim in dims]


def test_what_cannot_be_cut_is_refused() -> None:
    for dims, says in (([], "different numbers"), ([8, 8], "different numbers"), ([0, 8], "of 1 or more")):
        with pytest.raises(ValueError, match=says):
            Matryoshka(InfoNCE(0.05), dims)
    with pytest.raises(ValueError, match="MaskedLanguageModel reads no vectors"):
        Matryoshka(MaskedLanguageModel(0.15))
    with pytest.raises(ValueError, match="uses the encoders slow beside the trained one"):
        Matryoshka(InfoNCE(0.05, negatives={"queue": Queue(10, encoder="slow")}))
    with pytest.raises(ValueError, match="uses no encoder guide"):
        Matryoshka(InfoNCE(0.05), whole=["guide"])
    for dims, weights, says in (
        ([32, 8], None, r"the largest must be the width of the vectors, 64. For instance:\ndims=\[64,32,16,8,4\]"),
        ([128, 64], None, "the largest must be the width"),
        ([64, 8], [1.0], "there are 2 widths, so give 2 weights"),
    ):
        with pytest.raises(UserError, match=says):
            Matryoshka(InfoNCE(0.05), dims, weights).setup(64, VOCABULARY)


def test_the_loss_of_this_name_cuts_the_vectors_of_info_nce_and_keeps_the_head() -> None:
    config = train_config("loss=matryoshka", "model=tiny")
    objective = build_objective(config)
    assert list(objective.terms) == ["matryoshka"] and config.projection["name"] == "mlp"
    objective.setup(64, VOCABULARY)
    term: Any = objective.terms["matryoshka"]
    assert [*term.inner] == ["64", "32", "16", "8", "4"] and isinstance(term.inner["8"], InfoNCE)
    with pytest.raises(UserError, match=r"projection=mlp_train_only: is left out at evaluation, but loss.terms.matryoshka"):
        build_objective(train_config("loss=matryoshka", "model=tiny", "projection=mlp_train_only"))


def test_the_command_trains_and_scores_vectors_of_each_width(warm_cli: Cli, tmp_path: Path) -> None:
    small = ("data=samples", "model=tiny", "trainer=cpu", "trainer.max_steps=2", "trainer.log_every_n_steps=1")
    scored = ("tasks=samples", "tasks@dev=samples-dev", "evaluation.before=false")
    ran = warm_cli("loss=matryoshka", *small, *scored, "hydra.run.dir=run")
    assert ran.returncode == 0, ran.stderr
    logged = metrics(tmp_path / "run")
    parts = sum(logged[f"train/loss/matryoshka/{dim}"][0] for dim in (64, 32, 16, 8, 4))
    assert logged["train/loss/matryoshka"][0] == pytest.approx(parts, rel=1e-4)
    ran = warm_cli("checkpoint=run/export", "tasks=samples", "truncate_dim=8", "hydra.run.dir=cut", command="evaluate")
    assert ran.returncode == 0 and "the first 8 numbers of a vector" in ran.stderr + ran.stdout


def test_a_mistake_in_the_inner_node_is_named_by_its_key() -> None:
    inner = "loss.terms.matryoshka.inner"
    with pytest.raises(UserError, match=r"inner.tau: InfoNCE takes no such argument"):
        build_objective(train_config("loss=matryoshka", "model=tiny", f"+{inner}.tau=1"))
    ranked = "{_target_: simcse_lit.methods.cosent.CoSENT, scale: 20}"
    config = train_config("loss=cosent", "model=tiny", "data=samples", "loss.terms.cosent._target_=" + MATRYOSHKA,
                          "~loss.terms.cosent.scale", f"+loss.terms.cosent.inner={ranked}")  # fmt: skip
    term: Any = build_objective(config).terms["cosent"]
    assert isinstance(term._inner[0], CoSENT) and "scores" in term.needs


MATRYOSHKA = "simcse_lit.methods.matryoshka.Matryoshka"
