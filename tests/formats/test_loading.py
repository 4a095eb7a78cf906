"""What can be scored: exports, checkpoints, raw models, the paper's releases, sentence-transformers; each read rightly."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.pooling import POOLERS
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.export import Provenance, export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from tests.conftest import Cli

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SENTENCES = ["A man plays the guitar.", "Rain.", "The council met for the third time to settle the budget of the harbour."]


def load(source: Path | str, pooler: str | None = None, projection: str | None = None) -> LoadedEncoder:
    return load_encoder(str(source), revision=None, pooler=pooler, projection=projection)


def vectors(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, SENTENCES)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with its pooler, as transformers saves it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("raw") / "bert"
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


def by_transformers(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """(last hidden state, pooler output, mask) of the sentences, by transformers alone."""
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**batch)
    return output.last_hidden_state, output.pooler_output, batch["attention_mask"]


def test_a_raw_model_takes_any_pooler_and_refuses_to_guess_one(raw: Path) -> None:
    hidden, pooled, mask = by_transformers(raw)
    torch.testing.assert_close(vectors(load(raw, "cls")), hidden[:, 0], rtol=0, atol=1e-5)
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(vectors(load(raw, "avg")), mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(vectors(load(raw, "cls", "mlp")), pooled, rtol=0, atol=1e-5)
    for pooler in POOLERS:
        assert vectors(load(raw, pooler)).isfinite().all()
    with pytest.raises(UserError, match=r"does not say how its vectors are read(.|\n)*pooler=cls\|cls_before_pooler\|avg"):
        load(raw)


def test_a_model_without_a_linear_layer_of_its_own_refuses_projection_mlp(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(raw, folder)
    weights = {name: value for name, value in load_file(raw / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert vectors(load(folder, "avg")).isfinite().all()
    with pytest.raises(UserError, match=r"projection=mlp: .* holds no trained pooler\.dense"):
        load(folder, "cls", "mlp")


@pytest.mark.parametrize(("name", "reads"), [("unsup-simcse-bert-base-uncased", 0), ("sup-simcse-roberta-large", 1)])
def test_the_papers_releases_choose_their_pooler_by_themselves(
    raw: Path, tmp_path: Path, name: str, reads: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / name
    shutil.copytree(raw, folder)
    hidden, pooled, _ = by_transformers(raw)
    loaded = load(folder)
    torch.testing.assert_close(vectors(loaded), (hidden[:, 0], pooled)[reads], rtol=0, atol=1e-5)
    assert loaded.kind == f"SimCSE release ({name.partition('-')[0]}ervised)"
    assert "is not used" not in caplog.text
    again = load(folder, pooler="avg")
    torch.testing.assert_close(vectors(again), vectors(loaded))
    assert f"pooler=avg is not used: {folder} says pooler=" in caplog.text


@pytest.mark.parametrize("projection", ["mlp", "mlp_train_only", "none"])
def test_an_exports_own_pooler_wins_and_a_contradiction_is_announced(
    raw: Path, tmp_path: Path, projection: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    encoder = SentenceEncoder(AutoModel.from_pretrained(raw), "avg_first_last", projection).eval()
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(TINY)  # type: ignore[assignment]
    expected = encode(encoder, tokenizer, SENTENCES)
    folder = tmp_path / "run" / "export"
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("raw", "sup"))
    loaded = load(folder, pooler="cls")
    torch.testing.assert_close(vectors(loaded), expected, rtol=0, atol=1e-6)
    assert (loaded.kind, loaded.pooler, loaded.projection) == ("simcse-lit export", "avg_first_last", projection)
    assert f"pooler=cls is not used: {folder} says pooler=avg_first_last" in caplog.text
    caplog.clear()
    load(folder, pooler="avg_first_last", projection=projection)
    assert "is not used" not in caplog.text
    load(
        folder, pooler="avg_first_last", projection="none"
    )  # as conf/pooler/ selects; mlp_train_only is not projected either
    assert ("projection=none is not used" in caplog.text) == (projection == "mlp")
    with pytest.raises(UserError, match=r"no config\.json\)\. Did you mean .*run/export"):
        load(tmp_path / "run")


def test_a_checkpoint_of_training_gives_the_vectors_of_its_export_wherever_it_lies(warm_cli: Cli, tmp_path: Path) -> None:
    options = (
        "model=tiny",
        "data=samples",
        "loss=sup",
        "pooler=avg",
        "projection=mlp",
        "trainer=cpu",
        "trainer.max_steps=4",
    )
    done = warm_cli(*options, "data.batch_size=16", "senteval.from_hub=false", "hydra.run.dir=run", "loss.mlm_weight=0.1")
    assert done.returncode == 0, done.stderr
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*.ckpt")
    moved = tmp_path / "elsewhere.ckpt"
    best.rename(moved)
    loaded, exported = load(moved), load(tmp_path / "run" / "export")
    torch.testing.assert_close(vectors(loaded), vectors(exported), rtol=0, atol=1e-6)
    assert (loaded.kind, loaded.pooler, loaded.projection) == ("Lightning checkpoint", "avg", "mlp")


def test_files_that_are_no_checkpoint_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(UserError, match="no checkpoint that can be read safely"):
        load(tmp_path / "text.ckpt")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").write_text, ("ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="no checkpoint that can be read safely"):
        load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no checkpoint of simcse-lit"):
        load(tmp_path / "other.ckpt")
    for name, message in (("nowhere.ckpt", "no such file"), ("nowhere", "no such folder"), ("text", "is a file")):
        (tmp_path / "text").write_text("hello")
        with pytest.raises(UserError, match=f"checkpoint: .*{message}"):
            load(tmp_path / name)


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "max"])
def test_a_sentence_transformers_folder_gives_what_that_library_gives(
    raw: Path, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    transformer = Transformer(str(raw), max_seq_length=12)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu", prompts={"sts": "compare: "})
    model.default_prompt_name = "sts"
    model.save(str(tmp_path / "st"))
    expected = torch.from_numpy(model.encode(SENTENCES))
    loaded = load(tmp_path / "st")
    got = encode(loaded.encoder, loaded.tokenizer, [loaded.prepare(s) for s in SENTENCES], max_length=loaded.max_length)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (loaded.kind, loaded.max_length) == ("sentence-transformers", 12)
    assert loaded.pooler == {"mean": "avg", "cls": "cls", "lasttoken": "last_token", "max": "max"}[mode]
    load(tmp_path / "st", pooler="avg_top2")
    assert "pooler=avg_top2 is not used" in caplog.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sentence_transformers_folder_of_half_precision_is_computed_in_float32(
    raw: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    transformer = Transformer(str(raw))
    dense = Dense(transformer.get_embedding_dimension(), 16)
    model = SentenceTransformer(modules=[transformer, Pooling(64, pooling_mode="mean"), dense], device="cpu").to(dtype)
    model.save(str(tmp_path / "st"))
    expected = torch.from_numpy(model.float().encode(SENTENCES))
    loaded = load(tmp_path / "st")
    assert {tensor.dtype for tensor in loaded.encoder.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    torch.testing.assert_close(vectors(loaded), expected, rtol=0, atol=1e-5)
    assert len(fingerprint(loaded, 32, "32-true")) == 64


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{oops", r"config\.json cannot be used: .*not a valid JSON"),
        ("model.safetensors", None, "the export is damaged: Error no file named model.safetensors"),
        ("model.safetensors", b"short", "the export is damaged"),
        ("projection.safetensors", None, r"the export is damaged: .*projection\.safetensors"),
        ("projection.safetensors", b"short", "the export is damaged"),
    ],
)
def test_a_damaged_export_is_named(raw: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    encoder = SentenceEncoder(AutoModel.from_pretrained(raw), "avg", "mlp")
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(TINY)  # type: ignore[assignment]
    folder = tmp_path / "export"
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("raw", "sup"))
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_an_export_of_another_version_says_what_it_lacks(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "export")
    config = json.loads((raw / "config.json").read_text())
    (tmp_path / "export" / "config.json").write_text(json.dumps(config | {"simcse": {"pooler": "avg"}}))
    with pytest.raises(
        UserError, match=r"section simcse of config\.json has no 'projection'; it comes from another version"
    ):
        load(tmp_path / "export")
