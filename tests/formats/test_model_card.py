"""The model card: the Hub's own library reads it, whatever is in it, and finds each score where it belongs."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.families import STS, TRANSFER, Family
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import export
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.model_card import Provenance, card_for_library
from tests.conftest import Cli
from tests.formats.writers import WRITERS
from tests.hub_server import card_errors

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
HOSTILE = 'key: "value"\n---\n# `comment` | {a: [b\' ``c`` & *d <e>'
RECALL = Family("recall: at 1", "recall: at 1 in %")
SCORED = Provenance(
    base_model="bert-base-uncased",
    loss="unsup",
    settings={"seed": 42, "loss.temperature": 0.05},
    scores={
        "before": {"dev": {"STS-B-dev": 31.7}, "test": {}},
        "after": {
            "dev": {"STS-B-dev": 82.4951},
            "test": {
                "STS12": 68.4,
                "STS-B": 76.85,
                "MR": 81.18,
                "mine": np.float64(0.5),
                "Avg.": 72.6,
                "Avg. transfer": 81.2,
            },
        },
    },
    families={"STS-B-dev": STS, "STS12": STS, "STS-B": STS, "MR": TRANSFER, "mine": RECALL},
    scored_on="SentEval's files",
)


def exported(folder: Path, made: Provenance) -> Path:
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    export(SentenceEncoder(backbone, "cls", "mlp").eval(), tokenizer, folder, max_length=32, provenance=made)
    return folder / "README.md"


def converted(folder: Path, output: Path, format: str) -> Path:
    loaded = load_encoder(str(folder), revision=None, pooler=None, projection=None)
    export_as(loaded, output, WRITERS[format])
    return output / "README.md"


def results(card: ModelCard) -> list[tuple[Any, ...]]:
    """Task, data set, split, metric and value of each result."""
    found: list[EvalResult] = card.data.get("eval_results", [])
    return [(r.task_type, r.dataset_name, r.dataset_type, r.dataset_split, r.metric_type, r.metric_value) for r in found]


def test_the_hub_finds_each_score_under_its_metric_and_its_data_set(tmp_path: Path) -> None:
    path = exported(tmp_path / "export", SCORED)
    card = ModelCard.load(path)
    assert results(card) == [
        ("sentence-similarity", "STS-B-dev", "STS-B", "dev", "cosine_spearman", 82.4951),
        ("sentence-similarity", "STS12", "STS12", None, "cosine_spearman", 68.4),
        ("sentence-similarity", "STS-B", "STS-B", None, "cosine_spearman", 76.85),
        ("text-classification", "MR", "MR", None, "accuracy", 81.18),
        ("recall: at 1", "mine", "mine", None, "recall: at 1 in %", 0.5),
    ]
    metadata = metadata_load(path)
    assert metadata is not None
    assert model_index_to_eval_results(metadata["model-index"]) == ("simcse-lit", card.data.eval_results)
    assert metadata | {"model-index": None} == {
        "base_model": "bert-base-uncased",
        "library_name": "transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-similarity", "simcse"],
        "model-index": None,
    }


def test_only_sts_scores_are_called_spearman(tmp_path: Path) -> None:
    text = ModelCard.load(exported(tmp_path / "export", SCORED)).text
    scores = text.partition("## Scores\n\n")[2].partition("\n\n## Use")[0]
    spearman, sts, accuracy, transfer, other, mine = scores.split("\n\n")
    assert spearman == (
        "Spearman correlation x 100, no regressor, all subsets of a set together; test sets from SentEval's files."
    )
    assert sts.splitlines() == [
        "|  | STS12 | STS-B | Avg. | STS-B-dev |",
        "|---|---|---|---|---|",
        "| before |  |  |  | 31.70 |",
        "| after | 68.40 | 76.85 | 72.60 | 82.50 |",
    ]
    assert accuracy == "Accuracy in % of a logistic regression on the vectors; test sets from SentEval's files."
    assert transfer.splitlines() == ["|  | MR | Avg. transfer |", "|---|---|---|", "| after | 81.18 | 81.20 |"]
    assert other == "recall: at 1: recall: at 1 in %."
    assert mine.splitlines() == ["|  | mine |", "|---|---|", "| after | 0.50 |"]


def test_a_family_of_ones_own_says_what_the_hub_is_told_and_has_its_average(tmp_path: Path) -> None:
    retrieval = Family(
        "retrieval", "nDCG@10 x 100", title="Retrieval", protocol="nDCG@10 x 100 of the cosines", average="Avg. retrieval",
        hub_task="text-retrieval", hub_metric="ndcg_at_10",
    )  # fmt: skip
    scores = {"after": {"dev": {"STS-B-dev": 80.0}, "test": {"found": 40.0, "Avg. retrieval": 45.0, "sought": 50.0}}}
    families = {"STS-B-dev": STS, "found": retrieval, "sought": retrieval}
    card = ModelCard.load(exported(tmp_path / "export", Provenance("base", None, {}, scores, families, "here")))
    assert [row[:2] + row[4:] for row in results(card)][1:] == [
        ("text-retrieval", "found", "ndcg_at_10", 40.0),
        ("text-retrieval", "sought", "ndcg_at_10", 50.0),
    ]
    assert {result.metric_name for result in card.data["eval_results"]} == {"Spearman x 100", "nDCG@10 x 100"}
    assert "nDCG@10 x 100 of the cosines.\n\n|  | found | sought | Avg. retrieval |\n" in card.text


def test_a_card_without_scores_has_neither_results_nor_tables(tmp_path: Path) -> None:
    card = ModelCard.load(exported(tmp_path / "export", Provenance("bert-base-uncased", None)))
    assert "model-index" not in card.data.to_dict() and "model_name" not in card.data.to_dict()
    assert re.findall("^## .*", card.text, re.MULTILINE) == ["## Use"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_no_result(tmp_path: Path, score: float) -> None:
    scores = {"after": {"dev": {"STS-B-dev": 80.0}, "test": {"STS12": score}}}
    made = Provenance("base", "sup", {}, scores, {"STS-B-dev": STS, "STS12": STS}, "here")
    path = exported(tmp_path / "export", made)
    assert [row[1] for row in results(ModelCard.load(path))] == ["STS-B-dev"]
    assert card_errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "made",
    [
        SCORED,
        Provenance("bert-base-uncased", None),
        Provenance(HOSTILE, "sup", {"seed": HOSTILE}, SCORED.scores, SCORED.families, "here"),
        Provenance(
            "./my/model",
            "sup",
            {},
            {"after": {"dev": {"a: b": 1.0}, "test": {"#": 2.0}}},
            {"a: b": STS, "#": Family("x", "y")},
        ),
    ],
)
def test_the_hub_has_nothing_against_a_card(tmp_path: Path, made: Provenance) -> None:
    assert card_errors(exported(tmp_path / "export", made).read_text(encoding="utf-8")) == []


def test_the_stand_in_for_the_hub_refuses_what_the_hub_refuses(tmp_path: Path) -> None:
    """As the cards of version 0.1 were, whose results named no data set."""
    card = exported(tmp_path / "export", SCORED).read_text(encoding="utf-8")
    head, text = card.split("\n---\n", 1)
    metadata = yaml.safe_load(head.removeprefix("---\n"))
    for part, found in (("dataset", ".dataset"), ("task", ".task"), ("metrics", ".metrics")):
        broken = copy.deepcopy(metadata)
        for result in broken["model-index"][0]["results"]:
            del result[part]
        errors = card_errors(f"---\n{yaml.safe_dump(broken)}\n---\n{text}")
        assert len(errors) == 5 and all(f'{found}" is required' in error for error in errors)


def test_text_that_means_something_to_yaml_or_markdown_changes_neither_metadata_nor_tables(tmp_path: Path) -> None:
    made = Provenance(HOSTILE, "sup", {"seed": HOSTILE, "list": [HOSTILE, 1]}, SCORED.scores, SCORED.families, "here")
    path = exported(tmp_path / "export", made)
    card = ModelCard.load(path)
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags", "model-index"}
    assert len(results(card)) == 5
    in_code = 'key: "value" --- # `comment` | {a: [b\' ``c`` & *d <e>'
    assert f"``` {in_code} ```.\n" in card.text
    rows = card.text.partition("## Settings\n\n")[2].split("\n\n")[0].splitlines()
    escaped = in_code.replace("|", "\\|")
    assert rows == ["| key | value |", "|---|---|", f"| `seed` | ``` {escaped} ``` |", f"| `list` | ``` {escaped}, 1 ``` |"]


@pytest.mark.parametrize("where", ["{folder}/my-bert", "./my-bert", "my-bert", "best.ckpt"])
def test_a_path_of_this_machine_is_no_base_model_and_only_its_last_part_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "my-bert").mkdir()
    (tmp_path / "best.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    source = where.format(folder=tmp_path)
    settings = {"model.name_or_path": source, "data.train_file": [str(tmp_path / "a.txt"), "hf://datasets/me/mine/b.txt"]}
    card = ModelCard.load(exported(tmp_path / "export", Provenance(source, "sup", settings)))
    assert card.data.base_model is None
    assert str(tmp_path) not in card.content
    name = where.rpartition("/")[2]
    assert f"from `{name}`.\n" in card.text and f"| `model.name_or_path` | `{name}` |" in card.text
    assert "| `data.train_file` | `a.txt, hf://datasets/me/mine/b.txt` |" in card.text


def test_a_package_is_no_base_model_of_the_hub_and_is_shown(tmp_path: Path) -> None:
    card = ModelCard.load(exported(tmp_path / "export", Provenance(TINY.name_or_path, "sup")))
    assert card.data.base_model is None
    assert "from `pkg://simcse_lit/data/samples/tiny`.\n" in card.text


@pytest.mark.parametrize(
    ("format", "loader"), [("transformers", "AutoModel"), ("sentence-transformers", "SentenceTransformer")]
)
def test_an_export_to_another_library_keeps_the_card_but_for_library_and_code(
    tmp_path: Path, format: str, loader: str
) -> None:
    path = exported(tmp_path / "export", SCORED)
    path.write_text(path.read_text() + "\nA line of the owner's.\n")
    first, card = ModelCard.load(path), ModelCard.load(converted(tmp_path / "export", tmp_path / "other", format))
    assert card.data.to_dict() == first.data.to_dict() | {"library_name": format}
    was, now = (re.split(r"```python\n(.*?)\n```", text, flags=re.DOTALL) for text in (first.text, card.text))
    assert [now[0], now[2]] == [was[0], was[2]]
    assert loader in now[1]


def test_an_encoder_that_is_no_export_gets_a_card_without_the_path_to_it(tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    backbone.save_pretrained(tmp_path / "raw")
    tokenizer.save_pretrained(tmp_path / "raw")
    loaded = load_encoder(str(tmp_path / "raw"), revision=None, pooler="avg", projection=None)
    export_as(loaded, tmp_path / "st", WRITERS["sentence-transformers"])
    card = ModelCard.load(tmp_path / "st" / "README.md")
    assert (card.data.base_model, card.data.library_name) == (None, "sentence-transformers")
    assert "from `raw`.\n" in card.text and str(tmp_path) not in card.content


def test_the_hub_reads_what_becomes_of_a_card_of_version_0_1(tmp_path: Path) -> None:
    """Its results named no data set, so the Hub refused them; its text stays."""
    (tmp_path / "README.md").write_text("""---
pipeline_tag: sentence-similarity
library_name: transformers
tags: [sentence-similarity, simcse]
model-index: [{"name": "simcse-lit", "results": [{"task": {"type": "sentence-similarity"}, "metrics": \
[{"type": "cosine_spearman", "name": "Spearman x 100 on STS-B", "value": 77.5}]}]}]
---

# Sentence encoder

| after | 77.50 |

```python
import torch
```
""")
    card_for_library(tmp_path / "README.md", "onnxruntime", "import onnxruntime\nx = '\\1'").save(tmp_path / "new.md")
    card = ModelCard.load(tmp_path / "new.md")
    assert card.data.to_dict() == {
        "pipeline_tag": "sentence-similarity",
        "library_name": "onnxruntime",
        "tags": ["sentence-similarity", "simcse"],
    }
    assert card.text == "\n# Sentence encoder\n\n| after | 77.50 |\n\n```python\nimport onnxruntime\nx = '\\1'\n```\n"


@pytest.mark.parametrize("metadata", ["a: b: c", "- a list", "1: 2"])
def test_a_card_with_broken_metadata_is_named(tmp_path: Path, metadata: str) -> None:
    path = exported(tmp_path / "export", SCORED)
    path.write_text(f"---\n{metadata}\n---\n\ntext\n")
    with pytest.raises(
        UserError, match=r"export/README\.md: the metadata at its top cannot be read: .*(.|\n)*remove the file"
    ):
        converted(tmp_path / "export", tmp_path / "other", "transformers")
    assert not (tmp_path / "other").exists()


def test_the_card_of_a_run_holds_its_scores_and_no_path(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"Sentence number {number} is about a harbour.\n" for number in range(64)))
    options = ("model=tiny", "loss=unsup", f"data.train_file={tmp_path}/corpus.txt", "trainer=cpu", "trainer.max_steps=2")
    done = warm_cli(*options, "data.batch_size=16", "senteval.from_hub=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "run" / "scores.json").read_text())["after"]
    card = ModelCard.load(tmp_path / "run" / "export" / "README.md")
    assert results(card) == [
        ("sentence-similarity", "Pairs-dev", "Pairs", "dev", "cosine_spearman", after["dev"]["Pairs-dev"]),
        ("sentence-similarity", "Pairs", "Pairs", None, "cosine_spearman", after["test"]["Pairs"]),
    ]
    assert "| `data.train_file` | `corpus.txt` |" in card.text and str(tmp_path) not in card.content
