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

from simcse_lit.config.registered import OURS
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.export import Provenance, export, load_export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from tests.conftest import Cli

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SENTENCES = ["A man plays the guitar.", "Rain.", "The council met for the third time to settle the budget of the harbour."]


LAYER = "encoder.layer.1.output.dense.weight"


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
    for pooler in OURS["pooler"].keys() - {"mask"}:  # which needs a template
        assert vectors(load(raw, pooler)).isfinite().all()
    with pytest.raises(UserError, match=r"does not record its pooler(.|\n)*pooler=cls\|cls_before_pooler\|avg"):
        load(raw)


def test_a_model_without_a_linear_layer_of_its_own_refuses_projection_mlp(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(raw, folder)
    weights = {name: value for name, value in load_file(raw / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert vectors(load(folder, "avg")).isfinite().all()
    with pytest.raises(UserError, match=r"projection=mlp: .* has no trained pooler\.dense"):
        load(folder, "cls", "mlp")


RELEASES = [("unsup-simcse-bert-base-uncased", 0), ("sup-simcse-roberta-large", 1)]


def release(raw: Path, folder: Path) -> Path:
    """A copy of a release of the paper, with a card as it has on the Hub."""
    shutil.copytree(raw, folder)
    (folder / "README.md").write_text(f'# Model Card\n\nAutoModel.from_pretrained("princeton-nlp/{folder.name}")\n')
    return folder


@pytest.mark.parametrize(("name", "reads"), RELEASES)
def test_the_papers_releases_choose_their_pooler_by_themselves(
    raw: Path, tmp_path: Path, name: str, reads: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = release(raw, tmp_path / name)
    hidden, pooled, mask = by_transformers(raw)
    loaded = load(folder)
    torch.testing.assert_close(vectors(loaded), (hidden[:, 0], pooled)[reads], rtol=0, atol=1e-5)
    assert loaded.kind == f"SimCSE release ({name.partition('-')[0]}ervised)"
    load(folder, "cls")  # reads the same token, and is projected where the release is
    assert not caplog.text
    again = load(folder, pooler="avg")
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(vectors(again), mean, rtol=0, atol=1e-5)
    assert f"pooler=avg: {folder} was trained with pooler=" in caplog.text


def test_a_folder_with_the_name_of_a_release_is_told_how_that_is_read(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "sup-simcse-bert-base-uncased")
    with pytest.raises(UserError, match=r"release of this name needs pooler=cls projection=mlp\.$"):
        load(tmp_path / "sup-simcse-bert-base-uncased")


@pytest.mark.parametrize(
    "place",
    [
        "unsup-simcse-bert-base-uncased",
        "sup-simcse-roberta-large/mine",
        "my-unsup-simcse-bert-x",
        "princeton-nlp/sup-simcse-bert-x",
    ],
)
def test_the_name_of_a_folder_makes_no_release(
    raw: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(raw, tmp_path / place)
    monkeypatch.chdir(tmp_path)
    hidden, _, mask = by_transformers(raw)
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    for source in (tmp_path / place, place):
        torch.testing.assert_close(vectors(load(source, "avg")), mean, rtol=0, atol=1e-5)
        with pytest.raises(UserError, match="does not record its pooler"):
            load(source)
    (tmp_path / place / "README.md").write_text("A model of mine, trained from princeton-nlp/sup-simcse-bert-base-uncased.")
    with pytest.raises(UserError, match="does not record its pooler"):
        load(tmp_path / place)
    assert not caplog.text


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
    assert f"pooler=cls is not used: {folder} records pooler=avg_first_last" in caplog.text
    caplog.clear()
    load(folder, pooler="avg_first_last", projection=projection)
    assert "is not used" not in caplog.text
    load(
        folder, pooler="avg_first_last", projection="none"
    )  # as conf/pooler/ selects; mlp_train_only is not projected either
    assert ("projection=none is not used" in caplog.text) == (projection == "mlp")
    with pytest.raises(UserError, match=r"no config\.json\)(.|\n)*: checkpoint=.*run/export$"):
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
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        load(tmp_path / "text.ckpt")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").write_text, ("ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of simcse-lit"):
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
    got = encode(loaded.encoder, loaded.tokenizer, SENTENCES, template=loaded.template(), max_length=loaded.max_length)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (loaded.kind, loaded.max_length) == ("sentence-transformers", 12)
    assert loaded.pooler == {"mean": "avg", "cls": "cls", "lasttoken": "last_token", "max": "max"}[mode]
    load(tmp_path / "st", pooler="avg_top2")
    assert "pooler=avg_top2 is not used" in caplog.text


def test_a_sentence_transformers_folder_without_some_weights_is_refused(raw: Path, tmp_path: Path) -> None:
    transformer = Transformer(str(raw))
    dense = Dense(transformer.get_embedding_dimension(), 16)
    SentenceTransformer(modules=[transformer, Pooling(64, pooling_mode="mean"), dense], device="cpu").save(
        str(tmp_path / "st")
    )
    for part, lost in (("", LAYER), ("2_Dense", "linear.bias")):
        path = tmp_path / "st" / part / "model.safetensors"
        whole = load_file(path)
        save_file({name: value for name, value in whole.items() if name != lost}, path, metadata={"format": "pt"})
        with pytest.raises(UserError, match=rf"checkpoint: .*{lost}"):
            load(tmp_path / "st")
        save_file(whole, path, metadata={"format": "pt"})
    assert vectors(load(tmp_path / "st")).isfinite().all()


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


def exported(raw: Path, folder: Path) -> Path:
    torch.manual_seed(2)
    encoder = SentenceEncoder(AutoModel.from_pretrained(raw), "avg", "mlp")
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(TINY)  # type: ignore[assignment]
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("raw", "sup"))
    return folder


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ([LAYER], rf"1 weight is missing or of another shape: {LAYER}\."),
        ([LAYER, "embeddings.word_embeddings.weight"], rf"2 weights are .*: embeddings\.word_embeddings\.weight, {LAYER}\."),
        (None, r"\d\d weights are missing or of another shape: embeddings.*, \.\.\."),
    ],
    ids=["one", "two", "all"],
)
@pytest.mark.parametrize("how", ["missing", "shape"])
def test_an_export_without_some_weights_is_refused_with_their_names(
    raw: Path, tmp_path: Path, lost: list[str] | None, message: str, how: str
) -> None:
    path = exported(raw, tmp_path / "export") / "model.safetensors"
    weights = load_file(path)
    for name in list(weights) if lost is None else lost:
        weights[name] = weights[name].new_zeros(3, 3, 3)
        if how == "missing":
            del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"model\.safetensors: the export is damaged: {message}"):
        load(tmp_path / "export")


@pytest.mark.parametrize("how", ["missing", "shape"])
def test_an_export_whose_projection_lacks_a_tensor_is_refused(raw: Path, tmp_path: Path, how: str) -> None:
    path = exported(raw, tmp_path / "export") / "projection.safetensors"
    weights = load_file(path)
    weights["dense.bias"] = weights["dense.bias"][:3]
    if how == "missing":
        del weights["dense.bias"]
    save_file(weights, path)
    with pytest.raises(UserError, match=r"projection\.safetensors: the export is damaged: 1 weight is .*: dense\.bias\."):
        load(tmp_path / "export")


@pytest.mark.parametrize("command", ["encode", "evaluate", "search", "similarity", "export"])
def test_every_command_refuses_an_export_without_some_weights(
    raw: Path, tmp_path: Path, warm_cli: Cli, command: str
) -> None:
    path = exported(raw, tmp_path / "export") / "model.safetensors"
    texts = "pkg://simcse_lit/data/samples/wikipedia.txt"
    if command == "search":  # by the index's own encoder
        assert warm_cli("folder=ix", f"input={texts}", "checkpoint=export", command="index").returncode == 0
    save_file({name: value for name, value in load_file(path).items() if name != LAYER}, path, metadata={"format": "pt"})
    arguments = {
        "encode": ["checkpoint=export", f"input={texts}", "output=o.npy"],
        "evaluate": ["checkpoint=export", "tasks=samples"],
        "search": ["folder=ix", "query=Rain"],
        "similarity": ["checkpoint=export", "first=one", "second=other"],
        "export": ["checkpoint=export", "output=o"],
    }
    done = warm_cli(*arguments[command], command=command)
    assert done.returncode == 1
    assert LAYER in done.stderr and "Export it again" in done.stderr and "Traceback" not in done.stderr


def test_a_raw_model_with_weights_of_another_shape_is_refused_with_their_names(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    path = tmp_path / "raw" / "model.safetensors"
    save_file({**load_file(path), LAYER: torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"checkpoint: .*raw: 1 weight is missing or of another shape: {LAYER}\."):
        load(tmp_path / "raw", "avg")


def test_an_export_with_a_pooler_of_a_package_that_is_not_here_names_it(raw: Path, tmp_path: Path) -> None:
    path = exported(raw, tmp_path / "export") / "config.json"
    config = json.loads(path.read_text())
    config["simcse"]["pooler"] = "of_my_lab"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"was made with pooler=of_my_lab, which is not installed here"):
        load(tmp_path / "export")


@pytest.fixture
def run(raw: Path, tmp_path: Path) -> Path:
    """A run's folder with an export and a checkpoint of the same weights, that names its base model, `base`, by a path."""
    folder = tmp_path / "run"
    shutil.copytree(raw, tmp_path / "base")
    encoder, _ = load_export(exported(raw, folder / "export"))
    model = {
        "name_or_path": str(tmp_path / "base"),
        "revision": None,
        "num_layers": None,
        "dropout": None,
        "attention": None,
    }
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    saved = {"model": model, "adapter": {"name": "none"}, "pooler": "avg", "projection": "mlp"}
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": state, "simcse": saved}, folder / "checkpoints" / "last.ckpt")
    return folder


def test_a_run_is_answered_with_its_export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in (run, "run", "run/", "./run", run / "checkpoints"):
        with pytest.raises(UserError, match=r": checkpoint=.*run/export$"):
            load(source)
    for name in ("run", "run/checkpoints", "run/checkpoints/last.ckpt", str(run)):
        with pytest.raises(UserError, match=r": model\.name_or_path=.*run/export$"):
            load_backbone(ModelConfig(name, None, None, True, None, None, False, None), mlm=False)
    shutil.rmtree(run / "export")
    with pytest.raises(UserError, match=r"checkpoint=run/checkpoints/last\.ckpt$"):
        load("run")
    with pytest.raises(UserError, match=r"simcse-lit export checkpoint=run/checkpoints/last\.ckpt output=FOLDER$"):
        load_backbone(ModelConfig("run", None, None, True, None, None, False, None), mlm=False)


def test_a_checkpoint_whose_base_model_moved_names_the_export_beside_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    torch.testing.assert_close(vectors(load(checkpoint)), vectors(load(run / "export")))
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"base: there is no such folder(.|\n)*checkpoint={run}/export$"):
        load(checkpoint)
    monkeypatch.chdir(run / "checkpoints")
    with pytest.raises(UserError, match=rf"checkpoint={run}/export$"):
        load("last.ckpt")
    shutil.rmtree(run / "export")
    with pytest.raises(UserError, match=r"comes? from the model that\nit was trained from, .*base\.$"):
        load(checkpoint)


def test_a_checkpoint_that_lacks_weights_or_keys_is_refused(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    without = {name: value for name, value in saved["state_dict"].items() if LAYER not in name}
    torch.save({**saved, "state_dict": without}, path)
    with pytest.raises(UserError, match=rf"does not fit .*base: .*{LAYER}(.|\n)*checkpoint=.*run/export$"):
        load(path)
    for section in ({}, {**saved["simcse"], "model": {"name_or_path": "base", "of_the_future": 1}}):
        torch.save({**saved, "simcse": section}, path)
        with pytest.raises(UserError, match="comes from another version of simcse-lit, or is damaged"):
            load(path)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_checkpoint_is_refused_with_the_export_or_another_one(run: Path, how: str) -> None:
    path = run / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    shutil.copy(path, path.with_name("best-step000001.ckpt"))
    middle = len(whole) // 2
    changed = {
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "cut": whole[:middle],
        "empty": b"",
    }
    path.write_bytes(changed[how])
    with pytest.raises(
        UserError, match=r"last\.ckpt: is not a checkpoint that can be read safely(.|\n)*checkpoint=.*run/export$"
    ):
        load(path)
    shutil.rmtree(run / "export")
    with pytest.raises(UserError, match=r"checkpoint=.*/checkpoints/best-step000001\.ckpt$"):
        load(path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{oops", r"config\.json is not a valid JSON"),
        ("model.safetensors", None, "the export is damaged: Error no file named model.safetensors"),
        ("model.safetensors", b"short", "the export is damaged"),
        ("projection.safetensors", None, r"the export is damaged: .*projection\.safetensors"),
        ("projection.safetensors", b"short", "the export is damaged"),
    ],
)
def test_a_damaged_export_is_named(raw: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = exported(raw, tmp_path / "export")
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
        UserError, match=r"section simcse of config\.json has no 'projection'\. The export comes from another version"
    ):
        load(tmp_path / "export")
