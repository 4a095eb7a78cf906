"""`index` and `search` through the real command line, with a small encoder of random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.export import validate_export, validate_import
from simcse_lit.config.checks.index import validate_index, validate_search
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.retrieval.index import Index
from tests.conftest import Cli
from tests.formats.test_sentence_transformers import trained

VALIDATE: dict[str, Callable[[DictConfig], object]] = {
    "index": validate_index,
    "search": validate_search,
    "export": validate_export,
    "import_checkpoint": validate_import,
}

TEXTS = [
    "A man plays the guitar.",
    "Rain falls.",
    "The council met, again.",
    "Somebody makes music.",
    "Snow.",
    "A dog barks.",
]


def test_a_file_is_indexed_changed_built_anew_and_searched(cli: Cli, warm_cli: Cli, tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "none")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:4]))
    (tmp_path / "more.csv").write_text("id,text\n7,Snow.\n8,A dog barks.\n")
    done = cli("folder=ix", "input=texts.txt", "checkpoint=export", "index=hnsw", "index.links=8", command="index")
    assert done.returncode == 0, done.stderr
    assert "ix: 4 sentences, vectors of 64 numbers, hnsw" in done.stderr and "recall@10 1.000" in done.stderr
    done = warm_cli("folder=ix", "add=more.csv", "column=text", "delete=1,2,99", command="index")
    assert done.returncode == 0, done.stderr
    assert "Deleted 2 of 3 ids" in done.stderr and "ix: 4 sentences" in done.stderr
    kept = {0: TEXTS[0], 3: TEXTS[3], 4: TEXTS[4], 5: TEXTS[5]}
    vectors = encode(loaded.encoder, loaded.tokenizer, [*kept.values(), "The council met, (again)"])
    cosine = torch.cosine_similarity(vectors[-1:], vectors[:-1]).tolist()
    expected = sorted(zip(cosine, kept.items(), strict=True), reverse=True)
    done = cli("folder=ix", "query=The council met, (again)", "output=jsonl", "top_k=9", command="search")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["query"] == "The council met, (again)"
    assert [(hit["id"], hit["text"]) for hit in answer["hits"]] == [row for _, row in expected]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx([score for score, _ in expected], abs=1e-5)
    (tmp_path / "queries.txt").write_text("A dog barks.\nSnow.\n")
    done = warm_cli("folder=ix", "input=queries.txt", "top_k=1", "threshold=0.9999", command="search")
    assert done.stdout == "A dog barks.\n   1.000          5  A dog barks.\n\nSnow.\n   1.000          4  Snow.\n\n"


def test_vectors_that_encode_wrote_are_indexed_and_another_encoder_is_refused(warm_cli: Cli, tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "none")
    trained(tmp_path / "other", "cls", "mlp")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    for name in ("v.parquet", "v.npy"):
        done = warm_cli("input=texts.txt", "checkpoint=export", f"output={name}", command="encode")
        assert done.returncode == 0, done.stderr
    done = warm_cli("folder=ix", "vectors=v.npy", "input=texts.txt", "checkpoint=export", command="index")
    assert done.returncode == 0, done.stderr
    assert "ix: 6 sentences" in done.stderr
    done = warm_cli("folder=of_parquet", "vectors=v.parquet", "checkpoint=export", command="index")
    assert done.returncode == 0, done.stderr
    hits = Index.load(tmp_path / "of_parquet").search(encode(loaded.encoder, loaded.tokenizer, TEXTS), 1)
    assert [(hit.id, hit.text) for (hit,) in hits] == list(enumerate(TEXTS))
    done = warm_cli("folder=ix", "query=Snow.", "checkpoint=other", command="search")
    assert done.returncode == 1
    assert "checkpoint=other: did not make this index" in done.stderr and "built with export" in done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("index", ["input=x"], "folder: has no value"),
        ("index", ["folder=a"], "there is nothing to do"),
        ("index", ["folder=a", "input=x", "add=y"], "not both in one command"),
        ("index", ["folder=a", "input=x"], "checkpoint: has no value"),
        ("index", ["folder=a", "delete=x"], "delete=.*: must be an id"),
        ("index", ["folder=a", "vectors=v.npy"], "holds no texts. Add their file"),
        ("index", ["folder=a", "input=x", "checkpoint=m", "index.cells=3"], "index=exact has no such setting"),
        ("search", ["folder=a"], "query, input: give exactly one"),
        ("search", ["folder=a", "query=x", "threshold=2"], "must be a cosine similarity"),
        ("search", ["folder=a", "query=x", "top_k=0"], "top_k=0"),
        ("export", ["checkpoint=x", "output=y", "int8=true"], "only format=onnx supports int8"),
        ("export", ["checkpoint=x", "output=y", "push_to_hub=x"], "must be OWNER/NAME"),
        ("import_checkpoint", ["checkpoint=x"], "output: has no value"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(command: str, arguments: list[str], message: str) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(UserError, match=message):
        VALIDATE[command](compose(command, arguments))
