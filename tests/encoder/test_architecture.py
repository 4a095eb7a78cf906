"""What a backbone is: encoder-decoders are their encoder, XLNet has no longest input, and `cls` on a decoder is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, CLIPConfig, T5EncoderModel

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.architecture import is_causal
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import Provenance, export, load_export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from tests.architectures import SENTENCES, save_model, states_alone, tokenizer_of
from tests.conftest import Cli
from tests.formats.writers import WRITERS

BOTH = ("bart", "t5")  # encoder and decoder
TRAINED = (*BOTH, "xlnet")
OTHERS = ("longformer", "squeezebert")  # has weights that no sentence reaches; calls a pooler whether it has one or not
DECODERS = ("gpt2", "llama", "bert-decoder", "mamba")
# The pooler that reads what stands for the sentence, and its place among the tokens of a sentence.
OWN = {"bart": ("cls", 0), "xlnet": ("last_token", -1)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = (*TRAINED, *DECODERS, *OTHERS, "bert", "gemma-both-ways", "fnet")
    return {kind: save_model(folder / kind, kind) for kind in kinds}


def model_config(folder: Path, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"revision": None, "sha256": None, "pretrained": True, "num_layers": None, "dropout": None}
    values |= {"gradient_checkpointing": False, "attention": None, "trust_remote_code": False, "name_or_path": str(folder)}
    return ModelConfig(**values | changes)


def load(source: Path, pooler: str | None = None) -> LoadedEncoder:
    return load_encoder(str(source), revision=None, pooler=pooler, projection=None)


def vectors(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, SENTENCES)


def by_transformers(folder: Path) -> list[Tensor]:
    """States of each sentence alone, of the encoder if there is a decoder too."""
    model = AutoModel.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return states_alone(model.encoder if model.config.is_encoder_decoder else model, tokenizer)


@pytest.mark.parametrize("kind", [*TRAINED, *OTHERS])
def test_the_mean_is_that_of_the_encoders_states(models: dict[str, Path], kind: str) -> None:
    expected = torch.stack([states_LH.mean(0) for states_LH in by_transformers(models[kind])])
    torch.testing.assert_close(vectors(load(models[kind], "avg")), expected, rtol=0, atol=1e-5)


def test_the_mean_of_t5_is_that_of_t5encodermodel(models: dict[str, Path]) -> None:
    states = states_alone(T5EncoderModel.from_pretrained(models["t5"]), tokenizer_of("t5"))
    expected = torch.stack([states_LH.mean(0) for states_LH in states])
    torch.testing.assert_close(vectors(load(models["t5"], "avg")), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", OWN)
def test_the_token_that_stands_for_a_sentence_is_first_in_bart_and_last_in_xlnet(
    models: dict[str, Path], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pooler, place = OWN[kind]
    expected = torch.stack([states_LH[place] for states_LH in by_transformers(models[kind])])
    torch.testing.assert_close(vectors(load(models[kind], pooler)), expected, rtol=0, atol=1e-5)
    assert not caplog.text


def test_the_mean_of_the_first_and_the_last_layer_of_an_encoder_decoder(models: dict[str, Path]) -> None:
    model, tokenizer = AutoModel.from_pretrained(models["bart"]).encoder.eval(), tokenizer_of("bart")
    expected = []
    for sentence in SENTENCES:
        with torch.no_grad():
            layers = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True).hidden_states
        expected.append(((layers[1] + layers[2]) / 2)[0].mean(0))
    torch.testing.assert_close(vectors(load(models["bart"], "avg_first_last")), torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "longest"), [("xlnet", 10_000), ("t5", 10_000), ("bart", 64), ("gpt2", 64)])
def test_relative_positions_take_any_length(models: dict[str, Path], kind: str, longest: int) -> None:
    assert min(load(models[kind], "avg").max_length, 10_000) == longest


@pytest.mark.parametrize("kind", TRAINED)
def test_layers_and_dropout_are_changed_in_the_encoder(models: dict[str, Path], kind: str) -> None:
    whole, _ = load_backbone(model_config(models[kind]), mlm=False)
    half, _ = load_backbone(model_config(models[kind], num_layers=1, dropout=0.25), mlm=False)
    assert half.config.num_hidden_layers == 1
    assert sum(p.numel() for p in half.parameters()) < sum(p.numel() for p in whole.parameters())
    names = set(half.state_dict())
    assert all(torch.equal(half.state_dict()[name], whole.state_dict()[name]) for name in names)
    rates: set[Any] = {module.p for module in half.modules() if isinstance(module, torch.nn.Dropout)}
    rates |= {module.dropout for module in half.modules() if isinstance(getattr(module, "dropout", None), float)}
    assert rates == {0.25}


@pytest.mark.parametrize("kind", [*TRAINED, *OTHERS])
def test_every_parameter_that_is_trained_has_a_gradient(models: dict[str, Path], kind: str) -> None:
    """Several devices wait for the gradient of each."""
    backbone, tokenizer = load_backbone(model_config(models[kind]), mlm=False)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    SentenceEncoder(backbone, "avg", "mlp")(batch["input_ids"], batch["attention_mask"]).square().sum().backward()
    assert [name for name, one in backbone.named_parameters() if one.requires_grad and one.grad is None] == []


@pytest.mark.parametrize("kind", TRAINED)
def test_training_exports_what_every_way_of_loading_gives(
    warm_cli: Cli, models: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    options = ("data=samples", "trainer=cpu", "trainer.max_steps=2", "data.batch_size=8", "senteval.from_hub=false")
    quick = ("evaluation.before=false", "evaluation.test=false", "optimizer.lr=0.01", "hydra.run.dir=run", "pooler=avg")
    done = warm_cli(f"model.name_or_path={models[kind]}", "model=default", *options, *quick)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "export"
    exported = vectors(load(folder))
    assert not torch.allclose(exported, vectors(load(models[kind], "avg")), atol=1e-3)  # it learned something
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*.ckpt")
    torch.testing.assert_close(vectors(load(best)), exported, rtol=0, atol=1e-6)
    expected = torch.stack([states_LH.mean(0) for states_LH in by_transformers(folder)])
    torch.testing.assert_close(exported, expected, rtol=0, atol=1e-5)
    if kind in BOTH:
        assert "get_encoder()" in (folder / "README.md").read_text()
    if kind == "t5":
        states = states_alone(T5EncoderModel.from_pretrained(folder), tokenizer_of("t5"))
        torch.testing.assert_close(exported, torch.stack([one.mean(0) for one in states]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["xlnet", "longformer"])
def test_what_torch_cannot_write_as_onnx_is_refused_in_two_lines(
    models: dict[str, Path], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UserError, match=r"format=onnx: .*: torch cannot export this encoder: [ -~]+\nUse format=transformers\.$"
    ):
        export_as(load(models[kind], "avg"), tmp_path / "onnx", WRITERS["onnx"])
    assert not (tmp_path / "onnx").exists()
    assert "def forward" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", BOTH)
def test_onnx_has_the_encoders_vectors(models: dict[str, Path], kind: str, tmp_path: Path) -> None:
    loaded = load(models[kind], "avg")
    expected = vectors(loaded)
    export_as(loaded, tmp_path / "onnx", WRITERS["onnx"])
    torch.testing.assert_close(vectors(load(tmp_path / "onnx")), expected, rtol=0, atol=1e-4)


def test_sentence_transformers_reads_the_encoder_of_t5_and_bart_is_refused_for_it(
    models: dict[str, Path], tmp_path: Path
) -> None:
    loaded = load(models["t5"], "avg")
    export_as(loaded, tmp_path / "t5", WRITERS["sentence-transformers"])
    theirs = SentenceTransformer(str(tmp_path / "t5"), device="cpu").encode(SENTENCES, convert_to_tensor=True)
    torch.testing.assert_close(theirs, vectors(loaded), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"format=sentence-transformers: it uses the decoder of BartModel"):
        export_as(load(models["bart"], "avg"), tmp_path / "bart", WRITERS["sentence-transformers"])
    assert not (tmp_path / "bart").exists()


@pytest.mark.parametrize("kind", BOTH)
def test_an_encoder_decoder_has_no_masked_language_model_to_train(models: dict[str, Path], kind: str) -> None:
    with pytest.raises(UserError, match=r"loss\.mlm_weight: .* is an encoder-decoder(.|\n)*Set loss\.mlm_weight=0"):
        load_backbone(model_config(models[kind]), mlm=True)


@pytest.mark.parametrize("pooler", ["cls", "cls_before_pooler"])
@pytest.mark.parametrize("kind", DECODERS)
def test_the_first_token_of_a_decoder_is_refused(models: dict[str, Path], kind: str, pooler: str) -> None:
    with pytest.raises(UserError, match=rf"pooler={pooler}: .* is a decoder(.|\n)*pooler=last_token"):
        load(models[kind], pooler)
    for other in ("avg", "last_token"):
        assert vectors(load(models[kind], other)).isfinite().all()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["data=samples", "trainer=cpu", "senteval.from_hub=false", "hydra.run.dir=run"]),
        ("evaluate", ["pooler=cls", "tasks=samples", "hydra.run.dir=run"]),
        ("encode", ["pooler=cls", "input=pkg://simcse_lit/data/samples/wikipedia.txt", "output=o.npy"]),
        ("export", ["pooler=cls", "output=o"]),
    ],
)
def test_every_command_names_last_token_before_any_work(
    warm_cli: Cli, models: dict[str, Path], tmp_path: Path, command: str, arguments: list[str]
) -> None:
    model = (
        ["model=default", f"model.name_or_path={models['gpt2']}"] if command == "train" else [f"checkpoint={models['gpt2']}"]
    )
    done = warm_cli(*model, *arguments, command=command, env={"SIMCSE_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 1
    assert "pooler=last_token" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "cache").exists() and not list(tmp_path.glob("o*"))


def test_an_export_of_a_decoder_with_cls_still_loads_with_a_warning(
    models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone, tokenizer = load_backbone(model_config(models["gpt2"]), mlm=False)
    encoder = SentenceEncoder(backbone, "cls", "none").eval()
    export(encoder, tokenizer, tmp_path / "export", max_length=32, provenance=Provenance("gpt2", "unsup"))
    torch.testing.assert_close(encode(*load_export(tmp_path / "export"), SENTENCES), encode(encoder, tokenizer, SENTENCES))
    assert "is a decoder" in caplog.text and "Train again with pooler=last_token" in caplog.text


@pytest.mark.parametrize(
    ("kind", "causal"),
    [*((kind, True) for kind in DECODERS), *((kind, False) for kind in (*TRAINED, "bert", "gemma-both-ways"))],
)
def test_a_model_is_asked_and_left_as_it_was(models: dict[str, Path], kind: str, causal: bool) -> None:
    backbone, tokenizer = load_backbone(model_config(models[kind]), mlm=False)
    backbone.train()
    state, attention = torch.get_rng_state(), backbone.config._attn_implementation
    assert is_causal(backbone, tokenizer) == causal
    assert backbone.training and torch.equal(torch.get_rng_state(), state)
    assert backbone.config._attn_implementation == attention


@pytest.mark.parametrize(("kind", "causal"), [("llama", True), ("gemma-both-ways", False)])
def test_a_model_whose_attention_needs_a_gpu_is_asked_without_it(
    models: dict[str, Path], kind: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, tokenizer = load_backbone(model_config(models[kind]), mlm=False)
    backbone.config._attn_implementation = "flash_attention_2"
    asked: list[str] = []

    def choose(model: Any, attention: str) -> None:
        asked.append(attention)
        model.config._attn_implementation = attention

    monkeypatch.setattr(type(backbone), "set_attn_implementation", choose)
    assert is_causal(backbone, tokenizer) == causal
    assert asked == ["eager", "flash_attention_2"]


@pytest.mark.parametrize(
    ("kind", "instead"), [("t5", "pooler=avg is usual"), ("xlnet", "pooler=last_token reads its [CLS]")]
)
def test_a_first_word_that_stands_for_the_sentence_is_warned_of(
    models: dict[str, Path], kind: str, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = torch.stack([states_LH[0] for states_LH in by_transformers(models[kind])])
    torch.testing.assert_close(vectors(load(models[kind], "cls")), expected, rtol=0, atol=1e-5)
    assert "puts no token before a sentence" in caplog.text and instead in caplog.text


def test_a_model_that_is_no_encoder_of_text_is_refused_in_a_line(tmp_path: Path) -> None:
    half = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPConfig(text_config=half, vision_config={**half, "image_size": 8, "patch_size": 4}).save_pretrained(tmp_path)
    tokenizer_of("bert").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"cannot be loaded: CLIPModel is not an encoder of text"):
        load_backbone(model_config(tmp_path, pretrained=False), mlm=False)


def test_a_model_that_reads_padding_is_refused_in_a_line(models: dict[str, Path]) -> None:
    model, tokenizer = AutoModel.from_pretrained(models["fnet"]).eval(), tokenizer_of("bert")
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        padded_LH = model(input_ids=batch["input_ids"]).last_hidden_state[1]
    (alone_LH,) = states_alone(model, tokenizer, SENTENCES[1:2])
    assert not torch.allclose(padded_LH[: len(alone_LH)], alone_LH, atol=0.1)
    with pytest.raises(UserError, match=r"cannot be loaded: FNetModel reads padding, so a sentence has another vector"):
        load_backbone(model_config(models["fnet"]), mlm=False)
