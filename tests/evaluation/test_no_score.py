"""Constant or missing gold scores, constant vectors: refused by name, never a score of NaN. And cosines in float64."""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import AlignmentUniformity, Anisotropy, Density, Spectrum
from simcse_lit.evaluation.geometry import collapsed, cosines
from simcse_lit.evaluation.postprocess import Centring, Whitening
from simcse_lit.evaluation.statistics import p_value
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import load_suite, make_task, scored_task
from simcse_lit.evaluation.task import Result, score
from simcse_lit.evaluation.transfer import Classifier, Example, TransferTask, one_file_a_class, questions
from simcse_lit.families import Family
from simcse_lit.tables import OTHER
from tests.conftest import train_config
from tests.evaluation.test_sts import files

OWN = "simcse_lit.evaluation.sts.file"
EASY = Classifier(l2=[1e-3], folds=2, seed=0, held_out=0.0, tol=1e-4, max_iter=1000)


def numbered(vectors_NH: Tensor) -> Callable[[Sequence[str]], Tensor]:
    return lambda sentences: vectors_NH[[int(sentence) for sentence in sentences]]


def pairs_of(count: int) -> list[tuple[str, str]]:
    return [(str(2 * place), str(2 * place + 1)) for place in range(count)]


def random(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def entry(folder: Path, *golds: str) -> dict[str, Any]:
    """A set of one's own with these gold scores, from line 2 on."""
    rows = [f"sentence {place}\tanother {place}\t{gold}\n" for place, gold in enumerate(golds)]
    (folder / "own.tsv").write_text("a\tb\tgold\n" + "".join(rows))
    return {"_target_": OWN, "path": str(folder / "own.tsv"), "columns": ["a", "b", "gold"]}


@pytest.mark.parametrize(
    ("gold", "said"),
    [("nan", "'nan' is not a gold score"), ("inf", "'inf' is"), ("-Infinity", "'-Infinity' is"), ("1e999", "'1e999' is"),
     ("", "the gold score is missing"), ("high", "'high' is")],
)  # fmt: skip
def test_a_gold_score_that_is_none_is_refused_with_its_line(tmp_path: Path, gold: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"own\.tsv, line 3: {said}"):
        make_task("own", entry(tmp_path, "1", gold, "3"), None)


def test_a_missing_number_of_another_format_is_refused_with_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "own.parquet"
    wanted = {"_target_": OWN, "path": str(path), "columns": ["a", "b", "gold"]}
    for missing, said in ((None, "the gold score is missing"), (math.nan, "'nan' is not a gold score")):
        parquet.write_table(pa.table({"a": ["x", "y"], "b": ["v", "w"], "gold": [1.0, missing]}), path)
        with pytest.raises(UserError, match=rf"own\.parquet, line 2: {said}"):
            make_task("own", wanted, None)
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": "x", "b": "v", "gold": 1}\n{"a": "y", "b": "w", "gold": NaN}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 2"):
        make_task("own", {**wanted, "path": str(path)}, None)


@pytest.mark.parametrize("golds", [("2.5", "2.5", "2.50"), ("4",)])
def test_gold_scores_that_are_all_the_same_are_refused_before_anything_is_encoded(
    tmp_path: Path, golds: tuple[str, ...]
) -> None:
    wanted = entry(tmp_path, *golds)
    with pytest.raises(UserError, match=rf"tasks\.own: .*own\.tsv: every pair \({len(golds)}\) has the gold score [24]"):
        scored_task("own", wanted, None)
    task = make_task("own", wanted, None)  # for the analyses, which need no correlation
    with pytest.raises(UserError, match=r"tasks\.own: .*has the gold score"):
        score(task, lambda sentences: random(len(sentences)))
    text = f"{{_target_: {OWN}, path: {wanted['path']}, columns: [a, b, gold]}}"
    nowhere = ("senteval.from_hub=false", "senteval.dir=null")
    for place in ("dev", "tasks"):
        cleared = "~dev.STS-B-dev" if place == "dev" else "tasks=[]"
        with pytest.raises(UserError, match=r"tasks\.own: .*has the gold score"):
            load_suite(train_config(*nowhere, cleared, f"+{place}.own={text}"))


def collapsed_encoder(noise: float, count: int = 40) -> Tensor:
    """One vector, with relative noise as batches of different shapes make it."""
    return random(1) * (1 + noise * random(count, seed=1))


@pytest.mark.parametrize("vectors", [collapsed_encoder(0.0), collapsed_encoder(5e-7), torch.zeros(40, 16)])
def test_an_encoder_with_one_vector_for_every_sentence_is_refused_by_every_kind_of_task(vectors: Tensor) -> None:
    assert collapsed(vectors)
    sts = STSTask("toy", pairs_of(20), np.arange(20.0))
    with pytest.raises(UserError, match=r"tasks\.toy: no score: the cosine of every pair \(20\) is [01]\.0000"):
        score(sts, numbered(vectors))
    with pytest.raises(UserError, match=r"every sentence the same vector(.|\n)*pooler=last_token"):
        score(sts, numbered(vectors))
    sentences: list[Example] = [((str(place),), place % 2) for place in range(40)]
    pairs: list[Example] = [((first, second), int(first) % 4 // 2) for first, second in pairs_of(20)]
    for texts in (sentences, pairs):
        transfer = TransferTask("sentiment", {"train": texts}, EASY)
        with pytest.raises(UserError, match=rf"tasks\.sentiment: no score: .* all {len(texts)} examples the same features"):
            score(transfer, numbered(vectors))
    for fit in (Centring(), Whitening(None)):
        with pytest.raises(UserError, match=r"postprocess: the 40 sentences .* all have the same vector"):
            fit(vectors)


def test_an_encoder_whose_vectors_differ_in_length_alone_has_no_score_either() -> None:
    vectors = random(1) * torch.linspace(1, 3, 40)[:, None]
    assert not collapsed(vectors)
    with pytest.raises(UserError, match=r"no score: the cosine of every pair(.|\n)*differ only in length"):
        score(STSTask("toy", pairs_of(20), np.arange(20.0)), numbered(vectors))


def test_pairs_of_one_sentence_twice_are_named_as_such(tmp_path: Path) -> None:
    wanted = {**entry(tmp_path, "1", "2", "3"), "columns": ["a", "a", "gold"]}
    with pytest.raises(UserError, match=r"Both sentences of each pair are the same in .*own\.tsv. Name the columns"):
        score(make_task("own", wanted, None), lambda sentences: random(len(sentences)))


def nearly_collapsed() -> tuple[Tensor, Tensor, np.ndarray]:
    """Vectors whose cosines lie within 1e-5 of 1, those cosines by exact rational arithmetic, and gold scores."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.ones(600, 64) + 1e-3 * torch.randn(600, 64, generator=generator)
    exact = []
    for first, second in zip(vectors[::2].tolist(), vectors[1::2].tolist(), strict=True):
        exact.append(math.fsum(a * b for a, b in zip(first, second, strict=True)) / math.hypot(*first) / math.hypot(*second))
    return vectors, torch.tensor(exact, dtype=torch.float64), np.argsort(np.argsort(exact)).astype(float)


def test_cosines_of_a_nearly_collapsed_encoder_are_told_apart() -> None:
    vectors, exact, ranks = nearly_collapsed()
    single = (torch.nn.functional.normalize(vectors[::2]) * torch.nn.functional.normalize(vectors[1::2])).sum(-1)
    assert exact.min() > 1 - 1e-5 and len(single.unique()) < 30  # what float32 leaves of 300 pairs
    found = cosines(vectors[::2], vectors[1::2])
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-14)
    assert len(found.unique()) == 300
    task = STSTask("toy", pairs_of(300), ranks)
    result = score(task, numbered(vectors))
    assert result.score == pytest.approx(100, abs=1e-3)
    assert 100 * spearmanr(single, ranks).statistic < result.score - 0.1
    assert result.cosine is not None and result.cosine.dtype == np.float64


def test_the_analyses_measure_cosines_and_distances_in_float64() -> None:
    vectors, exact, ranks = nearly_collapsed()
    task, embed = STSTask("toy", pairs_of(300), ranks), numbered(vectors)
    (group,) = Density([0, 300]).compute(task, embed)["groups"]
    assert group["mean"] == pytest.approx(float(exact.mean()), abs=1e-14)
    assert group["std"] == pytest.approx(float(exact.std(correction=0)), rel=1e-6)
    aligned = AlignmentUniformity(-1.0, 2.0, 2.0).compute(task, embed)["alignment"]
    assert aligned == pytest.approx(float((2 - 2 * exact).mean()), rel=1e-8)  # |x - y|^2 = 2 - 2 cos
    anisotropy = Anisotropy(pairs=500, seed=0).compute(task, embed)
    assert 0 < anisotropy["std_cosine"] < 1e-6


def test_analyses_of_one_sentence_or_of_zero_vectors_are_refused_by_name() -> None:
    alone, zero = STSTask("toy", [("0", "0")], np.ones(1)), STSTask("toy", pairs_of(3), np.arange(3.0))
    for analysis in (AlignmentUniformity(4.0, 2.0, 2.0), Spectrum(), Anisotropy(pairs=5, seed=0)):
        with pytest.raises(UserError, match="analyses: toy has one sentence only"):
            analysis.compute(alone, numbered(random(1)))
        with pytest.raises(UserError, match="analyses: the encoder gives all 6 sentences of toy a zero vector"):
            analysis.compute(zero, numbered(torch.zeros(6, 4)))


def test_a_subset_without_a_correlation_has_none_and_neither_has_the_mean() -> None:
    gold = np.array([1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 5.0])
    subsets = {"varied": slice(0, 3), "constant": slice(3, 6), "single": slice(6, 7)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = score(STSTask("year", pairs_of(7), gold, subsets), numbered(random(14)))
    assert math.isfinite(result.score) and math.isfinite(result.subsets["varied"]["spearman"])
    for name, pairs in (("constant", 3), ("single", 1)):
        assert result.subsets[name] == {"spearman": None, "pearson": None, "n": pairs}
    assert result.metrics["spearman_mean"] is result.metrics["pearson_weighted_mean"] is None
    json.dumps({**result.metrics, "subsets": dict(result.subsets)}, allow_nan=False)


def test_a_subset_whose_gold_scores_are_all_missing_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "STS" / "mine"
    folder.mkdir(parents=True)
    (folder / "STS.input.one.txt").write_text("a\tb\nc\td\n")
    (folder / "STS.gs.one.txt").write_text("\n\n")
    wanted = {"_target_": "simcse_lit.evaluation.sts.year", "folder": "STS/mine", "subsets": ["one"], "pairs": 2}
    with pytest.raises(UserError, match=r"STS\.gs\.one\.txt: holds no gold score"):
        make_task("mine", wanted, files(tmp_path))


@dataclass
class OfSomebody:
    """A task of another package."""

    name: str = "theirs"
    family: Family = OTHER
    in_average: bool = False
    value: float = math.nan

    def sentences(self) -> list[str]:
        return ["0", "1"]

    def score(self, embed: Callable[..., Tensor]) -> Result:
        return Result(self.value, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, float(np.float32("nan"))])
def test_a_score_that_is_no_number_is_refused_whoever_gives_it(value: float) -> None:
    with pytest.raises(UserError, match=rf"tasks\.theirs: its score is {value}"):
        score(OfSomebody(value=value), numbered(random(2)))
    assert score(OfSomebody(value=3.0), numbered(random(2))).score == 3.0


def test_a_class_that_no_training_example_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "TREC").mkdir()
    (tmp_path / "TREC" / "train.txt").write_text("".join(f"{label}:x question {n}\n" for n in range(3) for label in "AB"))
    (tmp_path / "TREC" / "test.txt").write_text("A:x one\nC:x two\n")
    sets = {"train": "TREC/train.txt", "test": "TREC/test.txt"}
    options: dict[str, Any] = {"sets": sets, "encoding": "utf-8", "examples": {"train": 6, "test": 2}, "classifier": EASY}
    with pytest.raises(UserError, match=r"tasks\.TREC: needs 2 training examples .* but class C has 0\."):
        questions(files(tmp_path), "TREC", labels=["A", "B", "C"], **options)


def test_a_task_of_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MR").mkdir()
    (tmp_path / "MR" / "pos.txt").write_text("good\n" * 5)
    with pytest.raises(UserError, match=r"tasks\.MR: there is one class only, MR/pos\.txt"):
        one_file_a_class(
            files(tmp_path), "MR", classes=["MR/pos.txt"], encoding="utf-8", examples={"train": 5}, classifier=EASY
        )


def test_resamples_without_a_correlation_do_not_make_a_difference_significant() -> None:
    differences = np.array([1.0, -1.0, math.nan, 2.0, math.nan, -2.0])
    assert p_value(differences) == p_value(differences[~np.isnan(differences)]) == 1.0
    assert p_value(np.full(999, math.nan)) == 1.0
