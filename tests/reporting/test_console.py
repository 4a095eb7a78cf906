"""What train and evaluate log: each score under the metric that it is, and settings that every run has."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from simcse_lit.evaluation.analyses import AlignmentUniformity
from simcse_lit.evaluation.results import EncoderResult
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import Suite
from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import STS, TRANSFER, Family
from simcse_lit.reporting.keys import SETTINGS
from simcse_lit.reporting.run import console, evaluation_folder
from simcse_lit.reporting.run.curves import read_metrics
from simcse_lit.reporting.run.figures import DRAW
from simcse_lit.scores import Scores
from tests.conftest import evaluate_config, train_config

PAIRS = STSTask("Pairs", [("a", "b"), ("c", "d"), ("a", "d")], np.array([1.0, 3.0, 5.0]))


@dataclass(frozen=True)
class Named:
    """A task that is not scored."""

    name: str
    family: Family
    in_average: bool = True

    def sentences(self) -> Iterator[str]:
        return iter(())

    def score(self, embed: Embed) -> Result:
        raise NotImplementedError


RETRIEVAL = Family("retrieval", "nDCG@10 x 100", average="Avg. retrieval")
TASKS = [
    Named("STS12", STS),
    Named("MR", TRANSFER),
    Named("mine", TRANSFER),
    Named("found", RETRIEVAL),
    Named("sought", RETRIEVAL),
]
AVERAGES = {"Avg. transfer": 75.0, "Avg. retrieval": 4.0}
SCORES = {"STS12": 41.5, "MR": 80.0, "mine": 70.0, "found": 3.0, "sought": 5.0, **AVERAGES}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "simcse_lit")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def metric_of(score: str, text: str) -> str:
    """The head of the table that holds a score."""
    heads = ("STS: Spearman x 100", "Transfer: accuracy in %", "retrieval: nDCG@10 x 100")
    found = [(text.index(head), head) for head in heads if head in text]
    return max(pair for pair in found if pair[0] < text.index(score))[1]


EXPECTED = {
    "41.50": "STS: Spearman x 100",
    **dict.fromkeys(("80.00", "70.00", "75.00"), "Transfer: accuracy in %"),
    **dict.fromkeys((" 3.00", " 4.00", " 5.00"), "retrieval: nDCG@10 x 100"),
}


def test_training_names_the_metric_of_each_score(said: Callable[[], str]) -> None:
    dev = STSTask("STS-B-dev", PAIRS.pairs, PAIRS.gold)
    console.show_scores({"after": {"dev": {"STS-B-dev": 55.89}, "test": SCORES}}, Suite(dev, TASKS, "SentEval's files"))
    text = said()
    assert {score: metric_of(score, text) for score in EXPECTED} == EXPECTED
    assert text.endswith("STS-B-dev, Spearman x 100: after 55.89")
    assert "retrieval: nDCG@10 x 100\n" in text  # SentEval's files hold no such task


def test_training_ends_with_the_curves_of_terms_and_analyses_of_others(said: Callable[[], str]) -> None:
    dev = STSTask("STS-B-dev", PAIRS.pairs, PAIRS.gold)
    many = [(step, 2.5 - step / 100) for step in range(100)]
    history = {"train/loss/queue": many, "val/orphans": [(0, 0.5), (9, 0.25)], "mine": many, "train/loss/once": many[:1]}
    scores: Scores = {"after": {"dev": {"STS-B-dev": 55.89}, "test": {}}}
    console.show_end(train_config(), scores, Suite(dev, [], "here"), {**history, "train/loss/contrastive": many})
    lines = said().splitlines()[-4:]
    assert lines[0] == "Term queue" and lines[2:] == [
        "Analyses of the development set",
        "  orphans               0.5 █▁ 0.25",
    ]
    assert lines[1].startswith("  loss                  2.5 █") and lines[1].endswith("▁ 1.51") and len(lines[1]) <= 80


def test_evaluate_names_the_metric_of_each_score(said: Callable[[], str], tmp_path: Path) -> None:
    results = {name: Result(score, {}) for name, score in SCORES.items() if name not in AVERAGES}
    encoder = EncoderResult("mine", {}, {}, results, {}, AVERAGES)
    evaluation_folder.show(tmp_path, evaluate_config(), [encoder], TASKS, None, None, {})
    text = said()
    assert {score: metric_of(score, text) for score in EXPECTED} == EXPECTED


def test_evaluate_writes_tables_and_draws_its_analyses(tmp_path: Path) -> None:
    def embed(sentences: object) -> Tensor:
        return torch.randn(len(list(sentences)), 4, generator=torch.Generator().manual_seed(0))  # type: ignore[call-overload]

    analysis = AlignmentUniformity(positives_above=4.0, alpha=2.0, t=2.0)
    measured = {analysis.name: analysis.compute(PAIRS, embed)}
    encoders = [EncoderResult("a_b", {}, {}, {"Pairs": Result(50.0, {})}, {}, {}, (), measured)]
    evaluation_folder.write(tmp_path, evaluate_config(), encoders, [PAIRS], None, {}, {}, DRAW)
    assert (tmp_path / "table.md").read_text() == "| Model | Pairs |\n|---|---|\n| a\\_b | 50.00 |\n"
    assert "a\\_b & 50.00 \\\\" in (tmp_path / "table.tex").read_text()
    written = json.loads((tmp_path / "alignment_uniformity.json").read_text())
    assert written["a_b"]["uniformity"] == pytest.approx(measured[analysis.name]["uniformity"])
    assert (tmp_path / "alignment_uniformity.png").is_file()


def test_every_setting_has_a_value_in_every_run() -> None:
    values = console.settings(train_config("loss.temperature=0.07", "seed=3"))
    assert list(values) == list(SETTINGS)
    assert (values["loss.temperature"], values["seed"], values["pooler.name"]) == (0.07, 3, "cls")


def test_the_learning_rate_of_any_optimiser_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        "epoch,lr-SGD,lr-SGD-momentum,step,train/loss\n0,0.1,0.9,0,\n0,,,1,2.5\n0,0.05,,1,\n"
    )
    assert read_metrics(tmp_path / "metrics.csv") == {
        "lr": [(0, 0.1), (1, 0.05)],
        "lr-SGD-momentum": [(0, 0.9)],
        "train/loss": [(1, 2.5)],
    }
