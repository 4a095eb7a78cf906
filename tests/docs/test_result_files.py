"""docs/reference/results.md: files that the program writes match its schemas, and it explains each of their fields."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.evaluate import main as evaluate
from simcse_lit.families import STS, TRANSFER
from simcse_lit.retrieval.index import Index
from simcse_lit.scores import write_scores
from tests.conftest import ROOT, evaluate_config

REFERENCE = ROOT / "docs" / "reference"
PAGE = (REFERENCE / "results.md").read_text(encoding="utf-8")
TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
MRPC = "tasks.MRPC.classifier.folds=2"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REFERENCE / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return found


def wrong(name: str, content: Any) -> list[str]:
    """Where content differs from a schema."""
    return [f"{each.json_path}: {each.message}" for each in Draft202012Validator(schema(name)).iter_errors(content)]


def section(heading: str) -> str:
    """A part of the page, up to the next heading of its level."""
    level = heading.split(" ")[0]
    start = PAGE.index(f"\n{heading}\n") + len(heading) + 1
    end = re.search(rf"^#{{1,{len(level)}}} ", PAGE[start:], re.MULTILINE)
    return PAGE[start : start + end.start()] if end else PAGE[start:]


def names(node: Any) -> Iterator[str]:
    """Every name of a field in a schema."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for value in node.values():
            yield from names(value)
    elif isinstance(node, list):
        for value in node:
            yield from names(value)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, simcse_data: Path) -> Path:
    """An evaluation of two encoders with all that results.json may hold; one task is missing."""
    root = tmp_path_factory.mktemp("results")
    for seed in range(2):
        torch.manual_seed(seed)
        BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(root / str(seed))
        AutoTokenizer.from_pretrained(TINY).save_pretrained(root / str(seed))
    encoders = f"{root / '0'},{root / '1'}"
    chosen = [
        "pooler=avg",
        "tasks=[STS16,samples,MRPC]",
        MRPC,
        "analyses=all",
        "tasks@analysed=samples",
        "bootstrap.samples=5",
    ]
    evaluate(
        evaluate_config(
            *chosen, f"checkpoint=[{encoders}]", f"compare=[{encoders}]", f"senteval.dir={simcse_data}", f"run_dir={root}"
        )
    )
    return root


def test_results_of_an_evaluation_match_the_schema(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert not wrong("results", content)
    assert (
        content["comparison"]["by_task"] and content["over_encoders"] and content["families"].keys() == {"sts", "transfer"}
    )


def test_the_schema_names_every_field_that_our_tasks_have(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    known = schema("results")["$defs"]["task"]["properties"].keys()
    found = {name for encoder in content["encoders"] for task in encoder["tasks"].values() for name in task}
    assert found == set(known)


@pytest.mark.parametrize("broken", [{"schema": 2}, {"encoders": []}, {"more": 1}, {"missing": {"MR": None}}])
def test_the_schema_refuses_other_content(folder: Path, broken: dict[str, Any]) -> None:
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert wrong("results", {**content, **broken})


def test_the_fields_of_analyses_are_on_the_page(folder: Path) -> None:
    told = section("## Tables and analyses")
    for path in (folder / f"{name}.json" for name in ("alignment_uniformity", "density", "spectrum", "anisotropy")):
        (row,) = re.findall(rf"^\| `{path.stem}` \|.*", told, re.MULTILINE)
        (measured, *_) = json.loads(path.read_text(encoding="utf-8")).values()
        within = [each for value in measured.values() for each in (value if isinstance(value, list) else [value])]
        for name in {*measured, *(name for each in within if isinstance(each, dict) for name in each)}:
            assert f"`{name}`" in row, name


def test_scores_match_the_schema(tmp_path: Path) -> None:
    stage = {"dev": {"STS-B-dev": 80.5}, "test": {"STS-B": 70.0, "MR": 75.0}}
    for scores in ({}, {"before": stage}, {"after": stage}, {"before": stage, "after": stage}):
        write_scores(tmp_path, scores, {"STS-B-dev": STS, "STS-B": STS, "MR": TRANSFER})
        assert not wrong("scores", json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")))
    assert wrong("scores", {"after": {"dev": {}, "test": {}}, "families": {}})
    assert wrong("scores", {"after": {**stage, "dev": {"STS-B-dev": None}}, "families": {}})


@pytest.mark.parametrize(
    ("name", "headings"), [("results", ["## results.json"]), ("scores", ["## scores.json", "### Families"])]
)
def test_every_field_of_a_schema_is_on_the_page(name: str, headings: list[str]) -> None:
    told = "".join(section(heading) for heading in headings)
    missing = [field for field in names(schema(name)) if f"`{field}`" not in told]
    assert not missing


def test_every_field_of_environment_json_is_on_the_page(folder: Path) -> None:
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert not [name for name in environment if f"`{name}`" not in section("## environment.json")]


def test_the_columns_of_results_csv_are_on_the_page(folder: Path) -> None:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        columns = next(csv.reader(file))
    assert re.findall(r"^\| `(\w+)` \|", section("## results.csv of an evaluation"), re.MULTILINE) == columns


def test_every_field_of_index_json_is_on_the_page(tmp_path: Path) -> None:
    Index.build(torch.eye(4), ["a", "b", "c", "d"], kind="exact").save(tmp_path / "index")
    manifest = json.loads((tmp_path / "index" / "index.json").read_text(encoding="utf-8"))
    assert re.findall(r"^\| `(\w+)` \|", section("## index.json"), re.MULTILINE) == list(manifest)
