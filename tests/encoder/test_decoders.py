"""Decoder backbones (GPT-2, Llama, Qwen2, random and tiny), LoRA and gradient checkpointing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.adapter import add_adapter, merge_adapter
from simcse_lit.encoder.architecture import longest_input
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.lora import LoRA
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.export import Provenance, export, load_export
from simcse_lit.formats.loading import load_encoder
from simcse_lit.train import main as train
from simcse_lit.training.build import build
from simcse_lit.training.module import SimCSEModule
from tests.conftest import Cli, metrics, train_config

SENTENCES = [
    "A man is playing a guitar.",
    "Rain.",
    "The council met for the third time to settle the budget of the harbour.",
]
KINDS = ("gpt2", "llama", "qwen2")
LORA = LoRA(r=4, alpha=8, dropout=0.1, target_modules="all-linear")


def architecture(kind: str, vocabulary: int) -> Any:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": vocabulary}
    sizes["max_position_embeddings"] = 64
    if kind == "gpt2":
        return GPT2Config(**sizes)
    grouped: dict[str, Any] = {"num_key_value_heads": 2, "intermediate_size": 48}
    return LlamaConfig(**sizes, **grouped) if kind == "llama" else Qwen2Config(**sizes, **grouped)


def save_decoder(folder: Path, kind: str) -> Path:
    """A random decoder with a byte-level tokenizer that has no padding token and, as some do, pads on the left."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", padding_side="left")
    fast.save_pretrained(folder)
    AutoModel.from_config(architecture(kind, len(fast))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def decoders_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_decoder(tmp_path_factory.mktemp(kind) / kind, kind) for kind in KINDS}


def model_config(folder: Path, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"revision": None, "sha256": None, "pretrained": True, "num_layers": None, "dropout": None}
    return ModelConfig(
        **values | {"gradient_checkpointing": False, "attention": None, "name_or_path": str(folder)} | changes
    )


def lora_encoder(folder: Path, projection: str = "mlp", **changes: Any) -> tuple[SentenceEncoder, PreTrainedTokenizerFast]:
    """With updates that are not zero, as after some training."""
    torch.manual_seed(1)
    backbone, tokenizer = load_backbone(model_config(folder, **changes), mlm=False)
    encoder = SentenceEncoder(backbone, "last_token", projection)
    add_adapter(encoder.backbone, LORA)
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return encoder, tokenizer


def gradients(*overrides: str) -> tuple[SimCSEModule, dict[str, Tensor]]:
    """The module of a configuration, and what each parameter's gradient is after one training step on random tokens."""
    torch.manual_seed(0)
    module = build(train_config("data=samples", "senteval.from_hub=false", "senteval.dir=null", *overrides)).module
    module._log_loss = lambda name, loss: None  # type: ignore[method-assign]
    lengths = torch.tensor([[9, 4], [3, 12], [7, 7], [2, 30]])
    mask = (torch.arange(30) < lengths[..., None]).long()
    ids = torch.randint(5, 250, mask.shape, generator=torch.Generator().manual_seed(0))
    batch = module.on_before_batch_transfer({"input_ids": ids, "attention_mask": mask}, 0)
    module.training_step(batch, 0).backward()
    return module, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def named(folder: Path) -> tuple[str, ...]:
    return ("model=default", f"model.name_or_path={folder}", "pooler=last_token")


def sentence_by_sentence(folder: Path) -> Tensor:
    """The last token of each sentence alone, so without any padding, by transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).last_hidden_state[:, -1] for text in SENTENCES])


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_without_a_padding_token_gives_each_sentence_the_vector_it_has_alone(
    decoders_of: dict[str, Path], kind: str
) -> None:
    backbone, tokenizer = load_backbone(model_config(decoders_of[kind]), mlm=False)
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("<|endoftext|>", "right")
    assert longest_input(backbone, tokenizer) == 64
    assert backbone.config.use_cache is False
    encoder = SentenceEncoder(backbone, "last_token", "none").eval()
    torch.testing.assert_close(
        encode(encoder, tokenizer, SENTENCES), sentence_by_sentence(decoders_of[kind]), rtol=0, atol=1e-5
    )


def test_a_sentence_without_tokens_is_encoded_as_the_end_of_text(decoders_of: dict[str, Path]) -> None:
    backbone, tokenizer = load_backbone(model_config(decoders_of["gpt2"]), mlm=False)
    encoder = SentenceEncoder(backbone, "last_token", "none").eval()
    vectors = encode(encoder, tokenizer, ["", "<|endoftext|>", "Rain."])
    torch.testing.assert_close(vectors[0], vectors[1])
    assert vectors.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("gpt2", ["resid_pdrop", "embd_pdrop", "attn_pdrop"]),
        ("llama", ["attention_dropout"]),
        ("qwen2", ["attention_dropout"]),
    ],
)
def test_dropout_is_set_where_the_architecture_has_it(decoders_of: dict[str, Path], kind: str, keys: list[str]) -> None:
    for rate in (0.0, 0.25):
        backbone, tokenizer = load_backbone(model_config(decoders_of[kind], dropout=rate), mlm=False)
        assert [getattr(backbone.config, key) for key in keys] == [rate] * len(keys)
        encoder = SentenceEncoder(backbone, "last_token", "none")
        assert encoder.has_dropout == (rate > 0)
        batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
        first, second = (encoder(batch["input_ids"], batch["attention_mask"]) for _ in range(2))
        assert torch.equal(first, second) == (rate == 0)


def test_an_architecture_without_dropout_refuses_it(decoders_of: dict[str, Path], tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(decoders_of["gpt2"]).save_pretrained(tmp_path)
    MambaConfig(hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model\.dropout: .*mamba has no known dropout setting"):
        load_backbone(model_config(tmp_path, pretrained=False, dropout=0.1), mlm=False)


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ((), True),  # Llama's dropout is 0
        (("model.dropout=0.1",), False),
        (("adapter=lora",), False),
        (("adapter=lora", "adapter.dropout=0"), True),
        (("loss=sup",), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_two_identical_views_are_warned_of(
    decoders_of: dict[str, Path], changes: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    changes = (*named(decoders_of["llama"]), "senteval.from_hub=false", "senteval.dir=null", "data=samples", *changes)
    build(train_config(*changes))
    assert ("Every dropout is 0" in caplog.text) == warned


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapter_and_projection_are_trained(decoders_of: dict[str, Path], kind: str) -> None:
    module, found = gradients(*named(decoders_of[kind]), "adapter=lora")
    with_gradient = set(found)
    expected = {name for name, _ in module.named_parameters() if "lora_" in name or "projection" in name}
    assert with_gradient == expected and any("lora_" in name for name in expected)
    optimizer = module.optimisation.optimizer(parameter for parameter in module.parameters() if parameter.requires_grad)
    optimised = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for name, parameter in module.named_parameters() if name in expected}


def test_with_lora_a_language_modelling_head_is_trained_and_the_embeddings_are_not() -> None:
    _, with_gradient = gradients("model=tiny", "adapter=lora", "loss.mlm_weight=0.1")
    head = {name for name in with_gradient if "lora_" not in name and "projection" not in name}
    assert head and all(".language_model.cls." in name for name in head)
    assert not any("embedding" in name for name in with_gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_an_adapter_changes_no_vector(decoders_of: dict[str, Path], kind: str) -> None:
    encoder, tokenizer = lora_encoder(decoders_of[kind])
    encoder.eval()
    before = encode(encoder, tokenizer, SENTENCES)
    merge_adapter(encoder.backbone)
    assert not any("lora" in name for name in encoder.state_dict())
    torch.testing.assert_close(encode(encoder, tokenizer, SENTENCES), before, rtol=0, atol=1e-5)
    plain = SentenceEncoder(load_backbone(model_config(decoders_of[kind]), mlm=False)[0], "last_token", "none")
    assert set(plain.backbone.state_dict()) == set(encoder.backbone.state_dict())


def test_an_export_has_the_adapter_merged_and_automodel_reads_it(decoders_of: dict[str, Path], tmp_path: Path) -> None:
    encoder, tokenizer = lora_encoder(decoders_of["qwen2"], projection="none")
    expected = encode(encoder.eval(), tokenizer, SENTENCES)
    assert not torch.allclose(expected, sentence_by_sentence(decoders_of["qwen2"]), atol=1e-2)
    folder = tmp_path / "export"
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("qwen2", "unsup"))
    torch.testing.assert_close(encode(*load_export(folder), SENTENCES), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(sentence_by_sentence(folder), expected, rtol=0, atol=1e-5)
    assert not [path for path in folder.iterdir() if "adapter" in path.name]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [(["q_proj"], "q_proj"), (["c_attn", "c_fcc"], "c_fcc"), ("no_such", "no_such"), (["attn"], "attn")],
)
def test_target_modules_that_are_not_there_are_named(decoders_of: dict[str, Path], modules: Any, absent: str) -> None:
    backbone, _ = load_backbone(model_config(decoders_of["gpt2"]), mlm=False)
    wrong = LoRA(r=4, alpha=8, dropout=0.1, target_modules=modules)
    message = rf"adapter.target_modules: no .*{absent}.* in GPT2Model\.\nIts linear layers: c_attn, c_fc, c_proj\."
    with pytest.raises(UserError, match=message):
        add_adapter(backbone, wrong)


def test_an_architecture_that_peft_does_not_know_asks_for_target_modules(
    decoders_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, _ = load_backbone(model_config(decoders_of["gpt2"]), mlm=False)
    monkeypatch.setattr(type(backbone.config), "model_type", "unheard_of")
    with pytest.raises(UserError, match=r"adapter\.target_modules: peft has no default for GPT2Model"):
        add_adapter(backbone, LoRA(r=4, alpha=8, dropout=0.1, target_modules=None))


def test_a_sentence_transformers_folder_of_a_decoder_gives_what_that_library_gives(
    decoders_of: dict[str, Path], tmp_path: Path
) -> None:
    transformer = Transformer(str(decoders_of["gpt2"]))
    transformer.tokenizer.pad_token = "<|endoftext|>"
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    expected = torch.from_numpy(model.encode(SENTENCES, batch_size=1))  # GPT-2 counts padding on the left as positions
    transformer.tokenizer.pad_token = None
    model.save(str(tmp_path / "st"))
    loaded = load_encoder(str(tmp_path / "st"), revision=None, pooler=None, projection=None)
    assert loaded.pooler == "last_token"
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-5)
    raw = load_encoder(str(decoders_of["gpt2"]), revision=None, pooler="last_token", projection=None)
    torch.testing.assert_close(encode(raw.encoder, raw.tokenizer, SENTENCES), expected, rtol=0, atol=1e-5)


def test_an_architecture_without_gradient_checkpointing_refuses_it(
    decoders_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.GPT2Model.supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"model\.gradient_checkpointing: .*GPT2Model does not support it"):
        load_backbone(model_config(decoders_of["gpt2"], gradient_checkpointing=True), mlm=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "lora"])
def test_gradient_checkpointing_gives_the_same_loss_and_gradient_under_dropout(
    decoders_of: dict[str, Path], kind: str, adapter: bool
) -> None:
    results, calls = [], []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        config = model_config(decoders_of[kind], dropout=0.2, gradient_checkpointing=checkpointing)
        backbone, tokenizer = load_backbone(config, mlm=False)
        encoder = SentenceEncoder(backbone, "last_token", "mlp")
        if adapter:
            add_adapter(encoder.backbone, LORA)
        encoder.double()
        mlp = next(
            module for name, module in encoder.named_modules() if name.endswith("layers.0.mlp") or name.endswith("h.0.mlp")
        )
        calls.append(0)
        mlp.register_forward_pre_hook(lambda *_: calls.__setitem__(-1, calls[-1] + 1))
        batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
        torch.manual_seed(2)
        loss = encoder(batch["input_ids"], batch["attention_mask"]).square().sum()
        loss.backward()
        results.append((loss, {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}))
    assert calls == [1, 2]  # the layer was run again in the backward pass
    assert torch.equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=0, atol=1e-12)


def test_lora_gradient_checkpointing_and_gradient_cache_together_give_the_plain_gradient(
    decoders_of: dict[str, Path],
) -> None:
    still = (*named(decoders_of["llama"]), "adapter=lora", "adapter.dropout=0", "trainer.length_chunks=never")
    _, plain = gradients(*still)
    saving = ("model.gradient_checkpointing=true", "trainer.micro_batch_size=1", "trainer.length_chunks=always")
    _, saved = gradients(*still, *saving)
    assert set(saved) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_with_lora_trains_exports_and_reloads(
    warm_cli: Cli, decoders_of: dict[str, Path], tmp_path: Path, cache_dir: Path, kind: str
) -> None:
    overrides = [
        *named(decoders_of[kind]), "adapter=lora", "trainer=cpu", "projection=none", "data=samples", "data.batch_size=8",
        "trainer.max_steps=2", "trainer.log_every_n_steps=1", "senteval.from_hub=false", "evaluation.before=false",
        "evaluation.test=false", "optimizer.lr=0.05", f"data.cache_dir={cache_dir}",
    ]  # fmt: skip
    if kind == "gpt2":
        train(train_config(*overrides, "loss=sup", f"run_dir={tmp_path / 'run'}", "senteval.dir=null"))
    else:
        done = warm_cli(*overrides, "loss=unsup", "model.gradient_checkpointing=true", "hydra.run.dir=run")
        assert done.returncode == 0, done.stderr
        assert "of them trained" in done.stdout
        assert "Warning" not in done.stdout + done.stderr
    assert len(metrics(tmp_path / "run")["train/loss"]) == 2
    checkpoint = next((tmp_path / "run" / "checkpoints").glob("best*"))
    loaded = load_encoder(str(checkpoint), revision=None, pooler=None, projection=None)
    expected = encode(loaded.encoder, loaded.tokenizer, SENTENCES)
    assert not torch.allclose(expected, sentence_by_sentence(decoders_of[kind]), atol=1e-2)  # it learned something
    folder = tmp_path / "run" / "export"
    torch.testing.assert_close(encode(*load_export(folder), SENTENCES), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(sentence_by_sentence(folder), expected, rtol=0, atol=1e-5)
    recorded = json.loads((folder / "config.json").read_text())["simcse"]
    assert (recorded["pooler"], recorded["projection"]) == ("last_token", "none")
    assert AutoConfig.from_pretrained(folder).model_type == kind
