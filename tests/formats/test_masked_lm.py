"""The export of masked language modelling alone: a masked language model of transformers, with its trained head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.adapter import add_adapter
from simcse_lit.encoder.backbone import load_backbone, untie_head
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.lora import LoRA
from simcse_lit.formats.masked_lm import export_masked_lm
from simcse_lit.formats.model_card import Provenance
from tests.architectures import configuration, tokenizer_of

IDS = torch.tensor([[1, 8, 9, 4, 2], [1, 12, 4, 10, 2]])
WORDS = configuration("bert").vocab_size
MODELS = {
    "bert": BertForMaskedLM(configuration("bert")),
    "roberta": RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=WORDS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            pad_token_id=0,
            max_position_embeddings=66,
        )
    ),
    "distilbert": DistilBertForMaskedLM(DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=48)),
}


def trained(kind: str, *, tied: bool = True, lora: bool = False) -> tuple[SentenceEncoder, torch.Tensor]:
    """An encoder whose language model differs from what its initialiser draws, and the scores of that model."""
    model: Any = type(MODELS[kind])(MODELS[kind].config)
    if not tied:
        untie_head(model)
    encoder = SentenceEncoder(model, "cls", "none")
    if lora:
        add_adapter(encoder.backbone, LoRA(r=4, alpha=8, dropout=0.0, target_modules=None))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
        return encoder.eval(), model(IDS).logits


def exported(encoder: SentenceEncoder, kind: str, folder: Path) -> Path:
    made = Provenance("some/model", "mlm")
    export_masked_lm(encoder, tokenizer_of(kind), folder / "export", max_length=64, provenance=made)
    return folder / "export"


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_the_trained_model_whole(kind: str, tied: bool, tmp_path: Path) -> None:
    encoder, expected = trained(kind, tied=tied)
    folder = exported(encoder, kind, tmp_path)
    model, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.architectures == [type(MODELS[kind]).__name__]
    assert not hasattr(model.config, "simcse")
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, expected)
    backbone: Any = AutoModel.from_pretrained(folder)
    words: Any = encoder.backbone.get_input_embeddings()
    assert torch.equal(backbone.get_input_embeddings().weight, words.weight)


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    encoder, expected = trained("bert", lora=True)
    model = AutoModelForMaskedLM.from_pretrained(exported(encoder, "bert", tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_what_an_earlier_export_recorded_is_left_out(tmp_path: Path) -> None:
    encoder, _ = trained("bert")
    encoder.backbone.config.simcse = {"pooler": "cls"}
    assert '"simcse"' not in (exported(encoder, "bert", tmp_path) / "config.json").read_text()


def test_training_that_starts_from_it_uses_the_trained_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder, expected = trained("bert")
    values = {"revision": None, "sha256": None, "pretrained": True, "num_layers": None, "dropout": None}
    values |= {"gradient_checkpointing": False, "attention": None, "trust_remote_code": False}
    config = ModelConfig(str(exported(encoder, "bert", tmp_path)), **values)  # type: ignore[arg-type]
    model: Any = load_backbone(config, mlm=True, own_head=True)[0]
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, expected)
    assert not caplog.records


def test_the_card_is_that_of_a_masked_language_model(tmp_path: Path) -> None:
    card = (exported(trained("bert")[0], "bert", tmp_path) / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "base_model: some/model" in card
    assert "Texts cut at 64 tokens in training." in card and "ooler" not in card
    code = card.partition("```python\n")[2].partition("```")[0].replace('"."', repr(str(tmp_path / "export")))
    code = code.replace("A man is playing a {fill", "A man is playing {fill")
    exec(compile(code, "card", "exec"), {})
