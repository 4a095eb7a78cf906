"""Consistency and distillation of rankings against loops over the rows, and what a frozen teacher gives."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from simcse_lit.cli.tasks import asks_hub
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.formats.export import export
from simcse_lit.formats.model_card import Provenance
from simcse_lit.methods.frozen import Frozen
from simcse_lit.methods.rankcse import Consistency, Distill
from simcse_lit.testing import check_corners, check_formula, check_processes, check_term, step_of
from simcse_lit.training.beside import Beside
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.encoders import ragged_batch, small_bert

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
TEACHERS = {name: {"_target_": f"{__name__}.Teacher", "seed": seed} for seed, name in enumerate(("base", "large"))}
WEIGHTS = {"base": 1.0, "large": 2.0}


class Teacher(Beside):
    """A frozen encoder with other weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def setup(self, encoder: SentenceEncoder, tokenizer: Any) -> None:
        self.encoder = deepcopy(encoder).requires_grad_(False).eval()
        generator = torch.Generator().manual_seed(self.seed)
        for weight in self.encoder.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)


def softmax(scores: list[float]) -> list[float]:
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


def cosines(rows: Tensor, columns: Tensor) -> list[list[float]]:
    return [[float(cosine_similarity(row, column, dim=0)) for column in columns] for row in rows]


def divergence(vectors_BVD: Tensor) -> float:
    anchors, positives = vectors_BVD[:, 0], vectors_BVD[:, 1]
    there, back = cosines(anchors, positives), cosines(positives, anchors)
    total = 0.0
    for i in range(len(anchors)):
        p, q = (softmax([cosine / 0.3 for cosine in scores[i]]) for scores in (there, back))
        mixed = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += sum(a * math.log(a / m) for a, m in zip(p, mixed, strict=True)) / 2
        total += sum(b * math.log(b / m) for b, m in zip(q, mixed, strict=True)) / 2
    return total / len(anchors)


def test_consistency_is_the_mean_jensen_shannon_divergence_and_holds_what_a_term_must() -> None:
    check_formula(partial(Consistency, 0.3), divergence, views=2)
    check_term(partial(Consistency, 0.3), views=2)


def test_consistency_is_0_for_equal_rankings_and_near_ln_2_for_opposite_ones() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    term = Consistency(0.01)
    assert float(term(step_of(torch.stack([eye, eye], 1)))) == pytest.approx(0, abs=1e-12)
    opposite = torch.stack([eye, eye.roll(1, 0)], 1)  # anchor i is positive i + 1
    assert float(term(step_of(opposite))) == pytest.approx(math.log(2))


def taught(vectors_BVD: Tensor, teachers: Mapping[str, Tensor]) -> Any:
    """A step in which teachers give these vectors for the anchors and the positives, (B, 2, D) each."""
    step = step_of(vectors_BVD)

    def encode_view(place: int, *, encoder: str, gradient: bool) -> Tensor:
        assert not gradient
        return teachers[encoder][:, place]

    return replace(step, passes=replace(step.passes, encode_view=encode_view))


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_others(student: list[list[float]], teacher: list[list[float]], ranking: str) -> float:
    losses = []
    for i, row in enumerate(student):
        others = [j for j in range(len(row)) if j != i]
        if ranking == "listnet":
            wanted, given = softmax([teacher[i][j] / 0.1 for j in others]), softmax([row[j] / 0.2 for j in others])
            losses.append(-sum(w * math.log(g) for w, g in zip(wanted, given, strict=True)))
        else:
            order = sorted(others, key=lambda j: -teacher[i][j])
            odds = [math.exp(row[j] / 0.2) for j in order]
            losses.append(-sum(math.log(odds[k] / sum(odds[k:])) for k in range(len(odds))) / len(odds))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("ranking", ["listnet", "listmle"])
def test_distillation_is_that_of_loops_over_the_other_sentences(ranking: str) -> None:
    vectors, base, large = random(5, 2, 8, seed=0), random(5, 2, 6, seed=1), random(5, 2, 7, seed=2)
    mixed = [
        [(one + 2 * two) / 3 for one, two in zip(*rows, strict=True)]
        for rows in zip(cosines(base[:, 0], base[:, 1]), cosines(large[:, 0], large[:, 1]), strict=True)
    ]
    expected = of_others(cosines(vectors[:, 0], vectors[:, 1]), mixed, ranking)
    loss = Distill(WEIGHTS, ranking, 0.2, 0.1)(taught(vectors, {"base": base, "large": large}))
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("ranking", ["listnet", "listmle"])
def test_a_sentences_own_positive_is_not_ranked(ranking: str) -> None:
    """Of two sentences each ranks one other, so there is only one order."""
    loss = Distill({"base": 1}, ranking)(taught(random(2, 2, 8, seed=0), {"base": random(2, 2, 6, seed=1)}))
    assert float(loss) == pytest.approx(0, abs=1e-12)


def test_equal_scores_of_a_teacher_keep_the_order_of_the_batch() -> None:
    vectors, alike = random(6, 2, 8, seed=0), torch.ones(6, 2, 3, dtype=torch.float64)
    expected = of_others(cosines(vectors[:, 0], vectors[:, 1]), [[0.0] * 6] * 6, "listmle")  # sorted() is stable
    assert float(Distill({"base": 1}, "listmle", 0.2)(taught(vectors, {"base": alike}))) == pytest.approx(expected)


def test_a_teacher_encodes_texts_once_that_are_anchor_and_positive() -> None:
    step = taught(random(4, 2, 8, seed=0), {"base": random(4, 2, 6, seed=1)})
    calls = []

    def encode_view(place: int, *, encoder: str, gradient: bool) -> Tensor:
        assert not gradient
        calls.append((place, encoder))
        return random(4, 6, seed=1)

    passes = replace(step.passes, encode_view=encode_view)
    same = replace(step, ids_BVL=step.ids_BVL[:, :1].expand(-1, 2, -1), passes=passes)
    Distill({"base": 1})(same)
    assert calls == [(0, "base")]


def test_distillation_holds_what_a_term_must_with_two_teachers() -> None:
    check_term(partial(Distill, WEIGHTS), views=2, beside=TEACHERS)


def test_the_likelihood_of_an_order_is_exact_with_two_processes_and_finite_in_corners() -> None:
    check_processes(partial(Distill, WEIGHTS, "listmle"), views=2, beside=TEACHERS)
    check_corners(partial(Distill, WEIGHTS, "listmle"), views=2, beside=TEACHERS)


def test_a_teacher_of_weight_0_is_left_out_and_impossible_arguments_are_refused() -> None:
    assert Distill({"base": 1, "large": 0}).encoders == ("base",)
    for arguments, message in (
        (({},), "one must have a weight above 0"),
        (({"a": 1, "b": -1},), "none a negative weight"),
        (({"a": 1}, "lists"), "ranking=lists: must be listnet or listmle"),
        (({"a": 1}, "listnet", 0), "temperature=0: must be greater than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Distill(*arguments)


def test_a_frozen_teacher_leaves_out_a_head_for_training_and_follows_the_module(tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    export(
        SentenceEncoder(backbone, "cls", "mlp_train_only"), tokenizer, tmp_path, max_length=32,
        provenance=Provenance("base", None),
    )  # fmt: skip
    teacher = Frozen(str(tmp_path))
    teacher.setup(SentenceEncoder(small_bert(), "cls", "none"), tokenizer)
    module = torch.nn.ModuleDict({"teacher": teacher}).double().train()
    ids_NL, mask_NL = ragged_batch([5, 3])
    vectors_ND = teacher.encoder(ids_NL, mask_NL)
    assert vectors_ND.dtype == torch.float64 and not module.state_dict()
    torch.testing.assert_close(vectors_ND, teacher.encoder.pooled(ids_NL, mask_NL))
    assert not teacher.encoder.training


def test_the_loss_of_that_name_has_both_terms_and_two_teachers() -> None:
    config = train_config("loss=rankcse")
    objective = build_objective(config)
    assert list(objective.terms) == ["consistency", "contrastive", "distill"]
    assert set(objective.weights.values()) == {1.0} and set(config.loss.beside) == {"base", "large"}
    distill: Any = objective.terms["distill"]
    assert distill.shares == {"base": pytest.approx(1 / 3), "large": pytest.approx(2 / 3)}
    assert (distill.ranking, distill.temperature, distill.teacher_temperature) == ("listnet", 0.05, 0.025)
    assert (config.data.batch_size, config.optimizer.lr, config.trainer.max_epochs) == (128, 3e-5, 1)
    other: Any = build_objective(train_config("loss=rankcse", "loss.terms.distill.ranking=listmle")).terms["distill"]
    assert other.ranking == "listmle"


def test_a_teacher_of_the_hub_is_asked_of_the_hub() -> None:
    local = ("loss=rankcse", "model=tiny", "data=samples", "senteval.from_hub=false", "loss.beside.large=null")
    assert asks_hub("train", train_config(*local))
    assert not asks_hub("train", train_config(*local, "loss.beside.base.checkpoint=/teacher"))
