"""`truncate_dim`: each command keeps the first numbers of a vector, and what it writes records that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import normalize

from simcse_lit import SimCSE
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.serve import _service
from tests.conftest import Cli
from tests.formats.test_sentence_transformers import SENTENCES, card_code, load, trained, vectors
from tests.server.served import config as serve_config

PARTS: dict[str, Any] = {"revision": None, "pooler": None, "projection": None}


@pytest.fixture
def expected(tmp_path: Path) -> Tensor:
    """Whole vectors, (3, 64), of the encoder in the folder `export`, with a head that is kept."""
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES))
    return trained(tmp_path / "export", "cls", "mlp")[1]


def ran(warm_cli: Cli, command: str, *arguments: str) -> str:
    done = warm_cli(*arguments, command=command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_encode_and_similarity_cut_vectors_before_they_are_normalised(
    warm_cli: Cli, tmp_path: Path, expected: Tensor
) -> None:
    ran(warm_cli, "encode", "checkpoint=export", "input=texts.txt", "output=v.npy", "truncate_dim=16")
    written = torch.from_numpy(np.load(tmp_path / "v.npy"))
    torch.testing.assert_close(written, normalize(expected[:, :16], dim=1), rtol=0, atol=1e-5)
    pair = (f"first={SENTENCES[0]!r}", f"second={SENTENCES[1]!r}")
    said = ran(warm_cli, "similarity", "checkpoint=export", *pair, "truncate_dim=16")
    assert float(said) == pytest.approx(torch.cosine_similarity(expected[0, :16], expected[1, :16], dim=0).item(), abs=1e-4)


def test_an_export_records_it_and_every_reader_applies_it(warm_cli: Cli, tmp_path: Path, expected: Tensor) -> None:
    for form in ("transformers", "sentence-transformers", "onnx"):
        ran(warm_cli, "export", "checkpoint=export", f"output={form}", f"format={form}", "truncate_dim=16")
        read = load(tmp_path / form)
        torch.testing.assert_close(vectors(read), expected[:, :16], rtol=0, atol=1e-4)
        assert json.loads((tmp_path / form / "config.json").read_text())["simcse"]["truncate_dim"] == 16
        card = (tmp_path / form / "README.md").read_text()
        assert card.count("Vectors are the first 16 numbers of the encoder's vectors") == 1 and "## Scores" in card
        if form != "onnx":  # its graph has no more numbers
            longer = load_encoder(str(tmp_path / form), **PARTS, truncate_dim=32)
            torch.testing.assert_close(vectors(longer), expected[:, :32], rtol=0, atol=1e-5)
    ran(warm_cli, "encode", "checkpoint=onnx", "input=texts.txt", "output=v.npy")
    assert np.load(tmp_path / "v.npy").shape == (3, 16)
    with pytest.raises(UserError, match=r"truncate_dim=32: vectors of .*onnx have 16 numbers. Use truncate_dim=16 or less"):
        load_encoder(str(tmp_path / "onnx"), **PARTS, truncate_dim=32)
    assert card_code(tmp_path / "transformers").shape == (2, 16)


def test_a_record_that_the_vectors_cannot_have_is_damage(tmp_path: Path, expected: Tensor) -> None:
    path = tmp_path / "export" / "config.json"
    config = json.loads(path.read_text())
    for size in (0, 65, "8"):
        path.write_text(json.dumps({**config, "simcse": {**config["simcse"], "truncate_dim": size}}))
        with pytest.raises(UserError, match=f"the export is damaged: truncate_dim={size}, and its vectors have 64 numbers"):
            load(tmp_path / "export")


def test_sentence_transformers_reads_it_and_we_read_theirs(tmp_path: Path, warm_cli: Cli, expected: Tensor) -> None:
    ran(warm_cli, "export", "checkpoint=export", "output=st", "format=sentence-transformers", "truncate_dim=16")
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    assert theirs.truncate_dim == 16
    torch.testing.assert_close(theirs.encode(SENTENCES, convert_to_tensor=True), expected[:, :16], rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "st" / "config.json").read_text())
    (tmp_path / "st" / "config.json").write_text(json.dumps({**config, "simcse": None}))  # as somebody else's folder
    foreign = load(tmp_path / "st")
    assert foreign.kind == "sentence-transformers" and foreign.encoder.width == 64
    torch.testing.assert_close(vectors(foreign), expected[:, :16], rtol=0, atol=1e-5)


def test_an_export_of_a_cut_export_replaces_what_it_records(warm_cli: Cli, tmp_path: Path, expected: Tensor) -> None:
    ran(warm_cli, "export", "checkpoint=export", "output=a", "truncate_dim=16")
    ran(warm_cli, "export", "checkpoint=a", "output=b", "truncate_dim=64")
    ran(warm_cli, "export", "checkpoint=a", "output=c", "truncate_dim=8")
    ran(warm_cli, "export", "checkpoint=a", "output=d", "truncate_dim=64", "format=onnx")
    torch.testing.assert_close(vectors(load(tmp_path / "d")), expected, rtol=0, atol=1e-4)
    assert load(tmp_path / "b").encoder.truncate_dim is None
    assert "Vectors are the first" not in (tmp_path / "b" / "README.md").read_text()
    assert "Vectors are the first 8 numbers" in (tmp_path / "c" / "README.md").read_text()
    assert "Vectors are the first 16" not in (tmp_path / "c" / "README.md").read_text()


def test_an_index_records_it_and_refuses_another(warm_cli: Cli, tmp_path: Path, expected: Tensor) -> None:
    ran(warm_cli, "index", "folder=ix", "input=texts.txt", "checkpoint=export", "truncate_dim=16")
    manifest = json.loads((tmp_path / "ix" / "index.json").read_text())
    assert (manifest["width"], manifest["truncate_dim"]) == (16, 16)
    found = ran(warm_cli, "search", "folder=ix", f"query={SENTENCES[1]}", "top_k=1", "output=jsonl")
    assert json.loads(found)["hits"][0]["id"] == 1
    ran(warm_cli, "index", "folder=again", "input=ix")
    assert json.loads((tmp_path / "again" / "index.json").read_text())["truncate_dim"] == 16
    for other in ("truncate_dim=32", "checkpoint=export"):
        done = warm_cli("folder=ix", "query=Snow.", other, command="search")
        assert done.returncode == 1
        assert "holds vectors of width 16. It was built with truncate_dim=16." in done.stderr


def test_evaluate_scores_cut_vectors_and_keeps_them_apart_in_the_cache(
    warm_cli: Cli, tmp_path: Path, expected: Tensor
) -> None:
    shared = ("checkpoint=export", "tasks=samples", "embedding_cache=cache", "bootstrap.samples=0")
    results = []
    for number, size in enumerate(("null", "8", "8")):
        ran(warm_cli, "evaluate", *shared, f"truncate_dim={size}", f"hydra.run.dir=run{number}")
        results.append(json.loads((tmp_path / f"run{number}" / "results.json").read_text())["encoders"][0])
    whole, cut, again = results
    assert (whole["truncate_dim"], cut["truncate_dim"]) == (None, 8)
    assert cut["encoding"]["from_cache"] == 0 and again["encoding"]["from_cache"] == cut["encoding"]["unique_sentences"]
    assert whole["tasks"] != cut["tasks"] == again["tasks"]
    loaded = load_encoder(str(tmp_path / "export"), **PARTS, truncate_dim=8)
    assert fingerprint(loaded, 32, "32-true") != fingerprint(load(tmp_path / "export"), 32, "32-true")
    assert encode(loaded.encoder, loaded.tokenizer, SENTENCES).shape == (3, 8)


def test_the_class_and_the_server_apply_it(tmp_path: Path, expected: Tensor) -> None:
    model = SimCSE(tmp_path / "export", "cpu", truncate_dim=16)
    torch.testing.assert_close(model.encode(SENTENCES), normalize(expected[:, :16], dim=1), rtol=0, atol=1e-5)
    config = serve_config(f"checkpoint={tmp_path / 'export'}", "corpus=null", "truncate_dim=16")
    assert _service(config).about()["dimension"] == 16


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("encode", ("input=texts.txt", "output=v.npy")),
        ("similarity", ("first=a", "second=b")),
        ("index", ("folder=ix", "input=texts.txt")),
        ("export", ("output=out",)),
        ("evaluate", ("tasks=samples",)),
        ("serve", ("port=0", "corpus=null")),
    ],
)
def test_a_size_that_the_vectors_do_not_have_is_refused(
    command: str, more: tuple[str, ...], warm_cli: Cli, expected: Tensor
) -> None:
    done = warm_cli("checkpoint=export", *more, "truncate_dim=0", command=command)
    assert done.returncode == 1 and "truncate_dim=0: must be 1 or more, e.g. truncate_dim=64" in done.stderr
    done = warm_cli("checkpoint=export", *more, "truncate_dim=65", command=command)
    assert done.returncode == 1
    assert "truncate_dim=65: vectors of export have 64 numbers. Use truncate_dim=64 or less, or null" in done.stderr
