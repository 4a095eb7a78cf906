"""Exports for other libraries: each gives the encoder's own embeddings, by that library's own code, and reads back."""

import json
import re
import runpy
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoTokenizer

from simcse_lit import SimCSE
from simcse_lit.config import registered
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import MLP
from simcse_lit.encoder.pooling import Pooler
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.families import STS
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import Provenance, export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from tests.conftest import ROOT, Cli
from tests.formats.writers import WRITERS

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
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
    if isinstance(encoder.projection, MLP):
        torch.nn.init.normal_(encoder.projection.dense.weight, std=0.3)  # so that tanh bends
        torch.nn.init.normal_(encoder.projection.dense.bias)
    made = Provenance(
        "base",
        "sup",
        {"seed": 42},
        {"after": {"dev": {"STS-B-dev": 80.0}, "test": {"STS-B": 77.5, "Avg.": 70.0}}},
        {"STS-B-dev": STS, "STS-B": STS},
        "SentEval's STS sets",
    )
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
    export_as(loaded, folder, WRITERS["sentence-transformers"])
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


class Maximum(Pooler):
    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        return hidden_states[-1].amax(1)


def test_a_pooler_that_sentence_transformers_lacks_is_refused_and_no_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registered.OURS["pooler"], "max", f"{__name__}.Maximum")
    loaded, expected = trained(tmp_path / "export", "max", "none")
    torch.testing.assert_close(vectors(loaded), expected, rtol=0, atol=1e-6)
    monkeypatch.chdir(tmp_path / "export")
    wanted = SimCSE(".").encode(["A man is playing a guitar.", "Somebody makes music."])
    torch.testing.assert_close(card_code(tmp_path / "export"), wanted)
    with pytest.raises(UserError, match=r"format=sentence-transformers: .*pooler=max(.|\n)*format=onnx"):
        export_as(loaded, tmp_path / "st", WRITERS["sentence-transformers"])
    assert not (tmp_path / "st").exists()


@pytest.fixture(scope="module")
def as_onnx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """A folder with export/ and onnx/, which take seconds to make, and the embeddings."""
    folder = tmp_path_factory.mktemp("made")
    loaded, expected = trained(folder / "export", "avg_first_last", "mlp")
    export_as(loaded, folder / "onnx", WRITERS["onnx"])
    return folder, expected


def run_onnx(folder: Path, sentences: list[str]) -> Tensor:
    """By onnxruntime alone."""
    batch = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="np")
    inputs = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    (got,) = onnxruntime.InferenceSession(str(folder / "model.onnx")).run(["sentence_embedding"], inputs)
    return torch.from_numpy(got)


def assert_same_whatever_the_batch_and_length(folder: Path, expected: Tensor) -> None:
    for places in ([0, 1, 2], [0], [1], [2, 0, 1, 0, 1, 1, 2]):
        got = run_onnx(folder, [SENTENCES[place] for place in places])
        torch.testing.assert_close(got, expected[places], rtol=0, atol=1e-4)


def test_onnx_gives_the_same_embeddings_whatever_the_batch_and_the_length(as_onnx: tuple[Path, Tensor]) -> None:
    folder, expected = as_onnx
    assert_same_whatever_the_batch_and_length(folder / "onnx", expected)
    again = load(folder / "onnx")
    assert (again.kind, again.pooler, again.projection) == ("ONNX float32", "avg_first_last", "mlp")
    torch.testing.assert_close(vectors(again), expected, rtol=0, atol=1e-4)
    cards = [ModelCard.load(folder / kind / "README.md").data.to_dict() for kind in ("export", "onnx")]
    assert cards[1] == cards[0] | {"library_name": "onnxruntime"} and len(cards[1]["model-index"][0]["results"]) == 2
    wanted = expected_of_card(load(folder / "export"))
    torch.testing.assert_close(card_code(folder / "onnx"), wanted, rtol=0, atol=1e-4)


def test_onnx_holds_no_path_of_this_machine(as_onnx: tuple[Path, Tensor]) -> None:
    graph = (as_onnx[0] / "onnx" / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in graph and b"site-packages" not in graph


def test_onnx_finds_the_last_token_whatever_the_batch_and_the_length(tmp_path: Path) -> None:
    loaded, expected = trained(tmp_path / "export", "last_token", "none")
    export_as(loaded, tmp_path / "onnx", WRITERS["onnx"])
    assert_same_whatever_the_batch_and_length(tmp_path / "onnx", expected)


def expected_of_card(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, ["A man is playing a guitar.", "Somebody makes music."])


def test_the_card_keeps_its_scores_and_says_how_to_use_each_format(tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "mlp")
    expected = expected_of_card(loaded)
    for format, library in (("transformers", "transformers"), ("sentence-transformers", "sentence-transformers")):
        folder = tmp_path / format
        export_as(loaded, folder, WRITERS[format])
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "| after | 77.50 | 70.00 |" in card and "| `seed` | `42` |" in card
        assert f"library_name: {library}\n" in card
        torch.testing.assert_close(card_code(folder), expected, rtol=0, atol=1e-5)


def test_a_graph_that_is_damaged_or_a_folder_that_is_there_is_named(tmp_path: Path) -> None:
    loaded, _ = trained(tmp_path / "export", "avg", "none")
    with pytest.raises(UserError, match=r"output: .*export: already exists"):
        export_as(loaded, tmp_path / "export", WRITERS["onnx"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"short")
    with pytest.raises(UserError, match="is not an ONNX export of simcse-lit, or is damaged"):
        load(tmp_path / "broken")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    config["simcse"] |= {"onnx": "float32", "longest_input": 64}
    loaded.tokenizer.save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.onnx: cannot be loaded"):
        load(tmp_path / "broken")


def with_external_data(folder: Path, other: Path, change: float) -> Path:
    """A copy whose graph keeps its weights in a file of its own, some of them changed."""
    shutil.copytree(folder, other)
    model = onnx.load(folder / "model.onnx")
    large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    large.raw_data = (np.frombuffer(large.raw_data, np.float32) * np.float32(change)).tobytes()
    onnx.save(model, other / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return other


def test_two_graphs_that_differ_in_their_external_data_alone_are_two_encoders(
    as_onnx: tuple[Path, Tensor], tmp_path: Path
) -> None:
    folders = [with_external_data(as_onnx[0] / "onnx", tmp_path / str(change), change) for change in (1.0, 2.0)]
    graphs = [(folder / "model.onnx").read_bytes() for folder in folders]
    assert graphs[0] == graphs[1]
    first, second = map(load, folders)
    assert not torch.allclose(vectors(first), vectors(second))
    assert fingerprint(first, 32, "32-true") != fingerprint(second, 32, "32-true")
    (folders[0] / "README.md").write_text("another card")
    assert fingerprint(load(folders[0]), 32, "32-true") == fingerprint(first, 32, "32-true")
    (folders[0] / "weights.bin").unlink()
    with pytest.raises(UserError, match=r"model\.onnx: cannot be loaded"):
        load(folders[0])


@pytest.mark.long
def test_int8_is_small_and_near_and_evaluate_scores_onnx_folders(warm_cli: Cli, as_onnx: tuple[Path, Tensor]) -> None:
    folder, expected = as_onnx
    done = warm_cli(f"checkpoint={folder}/export", "format=onnx", "int8=true", f"output={folder}/int8", command="export")
    assert done.returncode == 0, done.stderr
    names = [{path.name for path in (folder / kind).iterdir()} for kind in ("int8", "onnx")]
    assert names[0] == names[1]
    sizes = [(folder / kind / "model.onnx").stat().st_size for kind in ("int8", "onnx")]
    assert sizes[0] < 0.6 * sizes[1]
    cosines = torch.cosine_similarity(vectors(load(folder / "int8")), expected)
    assert 0.95 < cosines.min() < 0.999999  # 1 would be no quantisation at all
    checkpoints = f"checkpoint=[{folder}/export,{folder}/onnx,{folder}/int8]"
    scored = warm_cli(checkpoints, "tasks=samples", "bootstrap.samples=0", f"hydra.run.dir={folder}/run", command="evaluate")
    assert scored.returncode == 0, scored.stderr
    first, second, third = json.loads((folder / "run" / "results.json").read_text())["encoders"]
    assert [one["kind"] for one in (first, second, third)] == ["simcse-lit export", "ONNX float32", "ONNX int8"]
    for task, result in first["tasks"].items():
        assert second["tasks"][task]["score"] == pytest.approx(result["score"], abs=0.01)
        assert third["tasks"][task]["score"] == pytest.approx(result["score"], abs=5)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("evaluate", ["tasks=samples", "hydra.run.dir=run"]),
        ("encode", ["input=pkg://simcse_lit/data/samples/wikipedia.txt", "output=o.npy"]),
        ("similarity", ["first=one", "second=other"]),
        ("index", ["input=pkg://simcse_lit/data/samples/wikipedia.txt", "folder=ix"]),
        ("serve", ["port=0"]),
    ],
)
def test_a_precision_that_a_graph_would_not_heed_is_refused(
    warm_cli: Cli, as_onnx: tuple[Path, Tensor], command: str, arguments: list[str]
) -> None:
    folder = as_onnx[0] / "onnx"
    done = warm_cli(f"checkpoint={folder}", "precision=bf16-mixed", *arguments, command=command)
    assert done.returncode == 1
    assert f"precision=bf16-mixed: {folder} is an ONNX graph" in done.stderr and "Use precision=32-true" in done.stderr


def test_a_graph_is_refused_before_another_encoder_is_scored(warm_cli: Cli, as_onnx: tuple[Path, Tensor]) -> None:
    folder = as_onnx[0] / "onnx"
    both = f"checkpoint=[{as_onnx[0] / 'export'},{folder}]"
    done = warm_cli(both, "precision=bf16-mixed", "tasks=samples", command="evaluate")
    assert done.returncode == 1
    assert f"precision=bf16-mixed: {folder} is an ONNX graph" in done.stderr
    assert "Encoding" not in done.stdout + done.stderr and "sentences" not in done.stdout


def test_a_precision_that_a_graph_would_not_heed_is_refused_in_python(as_onnx: tuple[Path, Tensor]) -> None:
    folder = str(as_onnx[0] / "onnx")
    with pytest.raises(UserError, match=r"precision=16-mixed: .*onnx is an ONNX graph"):
        SimCSE(folder, "cpu", precision="16-mixed")
    assert SimCSE(folder, "cpu", precision="32-true").encode("Snow.").shape == (64,)
