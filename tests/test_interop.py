"""Exports for other libraries: each gives the encoder's own embeddings, by that library's own code, and reads back."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoTokenizer

from simcse_lit.config.schema import ModelConfig
from simcse_lit.errors import UserError
from simcse_lit.inference.encoding import encode
from simcse_lit.inference.export import Provenance, export
from simcse_lit.inference.interop import export_as
from simcse_lit.inference.loading import LoadedEncoder, load_encoder
from simcse_lit.model.encoder import SentenceEncoder
from simcse_lit.model.loading import load_backbone

from .conftest import Cli

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False)
SENTENCES = [
    "A man is playing a guitar.",
    "Snow.",
    "The council met for the third time to settle the budget of the harbour.",
]
POOLERS = ["cls", "cls_before_pooler", "avg", "avg_first_last", "avg_top2", "last_token"]
ALL = [(pooler, projection) for pooler in POOLERS for projection in ("mlp", "mlp_train_only", "none")]
ALL.remove(("cls_before_pooler", "mlp"))  # validation refuses it


def trained(folder: Path, pooler: str, projection: str) -> tuple[LoadedEncoder, Tensor]:
    """An export of training, and its embeddings."""
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, pooler, projection).eval()
    if encoder.projection is not None:
        torch.nn.init.normal_(encoder.projection.dense.weight, std=0.3)  # so that tanh bends
        torch.nn.init.normal_(encoder.projection.dense.bias)
    made = Provenance("base", "sup", {"seed": 42}, {"after": {"STS-B": 77.5, "Avg.": 70.0}}, "SentEval's STS sets")
    export(encoder, tokenizer, folder, max_length=32, provenance=made)
    return load(folder), encode(encoder, tokenizer, SENTENCES)


def load(folder: Path) -> LoadedEncoder:
    return load_encoder(str(folder), revision=None, pooler=None, projection=None)


def vectors(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, SENTENCES)


def card_code(folder: Path) -> Tensor:
    """What the code of the card computes, for its two sentences."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    script = folder.parent / "use.py"
    script.write_text(code[1].replace('folder = "."', f'folder = "{folder}"'))
    return torch.as_tensor(runpy.run_path(str(script))["vectors"]).detach()


@pytest.mark.parametrize(("pooler", "projection"), ALL)
def test_sentence_transformers_gives_the_same_embeddings_and_ours_reads_its_folder(
    tmp_path: Path, pooler: str, projection: str
) -> None:
    loaded, expected = trained(tmp_path / "export", pooler, projection)
    folder = tmp_path / "st"
    export_as(loaded, folder, format="sentence-transformers", int8=False)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES, convert_to_tensor=True)
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-5)
    again = load(folder)
    assert (again.kind, again.pooler, again.projection) == ("simcse-lit export", pooler, projection)
    torch.testing.assert_close(vectors(again), expected, rtol=0, atol=1e-6)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "simcse": None}))  # as a folder of somebody else's
    as_theirs = load(folder)
    assert as_theirs.kind == "sentence-transformers"
    torch.testing.assert_close(vectors(as_theirs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pooler", "projection"), [("cls", "mlp"), ("avg_first_last", "mlp"), ("last_token", "none")])
def test_onnx_gives_the_same_embeddings_whatever_the_batch_and_the_length(
    tmp_path: Path, pooler: str, projection: str
) -> None:
    loaded, expected = trained(tmp_path / "export", pooler, projection)
    folder = tmp_path / "onnx"
    export_as(loaded, folder, format="onnx", int8=False)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for some in (SENTENCES, SENTENCES[:1], SENTENCES[1:2], SENTENCES * 3):
        batch = tokenizer(some, padding=True, return_tensors="np")
        inputs = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        (got,) = session.run(["sentence_embedding"], inputs)
        wanted = torch.cat([expected[SENTENCES.index(sentence)][None] for sentence in some])
        torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=0, atol=1e-4)
    again = load(folder)
    assert (again.kind, again.pooler, again.projection) == ("ONNX float32", pooler, projection)
    torch.testing.assert_close(vectors(again), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(card_code(folder), expected_of_card(loaded), rtol=0, atol=1e-4)


def expected_of_card(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, ["A man is playing a guitar.", "Somebody makes music."])


def test_int8_is_smaller_and_near(tmp_path: Path) -> None:
    loaded, expected = trained(tmp_path / "export", "avg", "none")
    export_as(loaded, tmp_path / "int8", format="onnx", int8=True)
    export_as(loaded, tmp_path / "whole", format="onnx", int8=False)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("int8", "whole")]
    assert sizes[0] < 0.5 * sizes[1]
    assert {path.name for path in (tmp_path / "int8").iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    again = load(tmp_path / "int8")
    assert again.kind == "ONNX int8"
    cosines = torch.cosine_similarity(vectors(again), expected)
    assert 0.95 < cosines.min() < 0.999999  # 1 would be no quantisation at all


def test_the_card_keeps_its_scores_and_says_how_to_use_each_format(tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "mlp")
    expected = expected_of_card(loaded)
    for format, library in (("transformers", "transformers"), ("sentence-transformers", "sentence-transformers")):
        folder = tmp_path / format
        export_as(loaded, folder, format=format, int8=False)
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "| after | 77.50 | 70.00 |" in card and "| `seed` | `42` |" in card
        assert f"library_name: {library}\n" in card
        torch.testing.assert_close(card_code(folder), expected, rtol=0, atol=1e-5)


def test_a_graph_that_is_damaged_or_a_folder_that_is_there_is_named(tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "none")
    with pytest.raises(UserError, match=r"output: .*export: is there already"):
        export_as(loaded, tmp_path / "export", format="onnx", int8=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"short")
    with pytest.raises(UserError, match="is no ONNX export of simcse-lit, or damaged"):
        load(tmp_path / "broken")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    config["simcse"] |= {"onnx": "float32", "longest_input": 64}
    loaded.tokenizer.save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.onnx: cannot be loaded"):
        load(tmp_path / "broken")


def test_evaluate_scores_an_onnx_folder_as_the_encoder_that_it_came_from(cli: Cli, tmp_path: Path) -> None:
    trained(tmp_path / "export", "avg", "mlp")
    done = cli("checkpoint=export", "format=onnx", "output=onnx", command="export")
    assert done.returncode == 0, done.stderr
    scored = cli("checkpoint=[export,onnx]", "tasks=samples", "bootstrap.samples=0", "hydra.run.dir=run", command="evaluate")
    assert scored.returncode == 0, scored.stderr
    first, second = json.loads((tmp_path / "run" / "results.json").read_text())["encoders"]
    assert (first["kind"], second["kind"]) == ("simcse-lit export", "ONNX float32")
    for task, result in first["tasks"].items():
        assert second["tasks"][task]["score"] == pytest.approx(result["score"], abs=0.01)
