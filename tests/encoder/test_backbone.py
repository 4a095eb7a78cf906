"""Loading backbones: what a folder lacks is said, and the weights are the file's own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, ElectraConfig, ElectraModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.errors import UserError
from tests.architectures import save_model

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")


def config(name: str | Path, **changes: object) -> ModelConfig:
    values = {"revision": None, "sha256": None, "pretrained": True, "num_layers": None, "dropout": None}
    return ModelConfig(**values | {"gradient_checkpointing": False, "attention": None, "name_or_path": str(name)} | changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(TINY)).half().save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_first_layers_are_the_checkpoints_own_and_in_float32(folder: Path) -> None:
    whole, _ = load_backbone(config(folder), mlm=False)
    first, _ = load_backbone(config(folder, num_layers=1), mlm=False)
    assert first.config.num_hidden_layers == 1
    theirs = dict(whole.named_parameters())
    assert all(torch.equal(value, theirs[name]) for name, value in first.named_parameters())
    assert {value.dtype for value in first.parameters()} == {torch.float32}


def test_dropout_is_changed_where_it_is_asked_for(folder: Path) -> None:
    model, _ = load_backbone(config(folder, dropout=0.25), mlm=False)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert model.config.attention_probs_dropout_prob == 0.25


@pytest.mark.parametrize(
    ("remove", "expected"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_what_a_folder_lacks_is_said(folder: Path, remove: str, expected: str) -> None:
    (folder / remove).unlink()
    with pytest.raises(UserError, match=expected):
        load_backbone(config(folder), mlm=False)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named(folder: Path, file: str) -> None:
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    with pytest.raises(UserError, match=rf"{file}: is a pointer of Git LFS, not the file\. Fetch it with git lfs pull"):
        load_backbone(config(folder), mlm=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pad_token": None}, "neither a padding nor an end-of-text token"),
        ({"pad_token": "<new>"}, r"pads with token 2,000, and the model has 2,000\.\n.*resize_token_embeddings"),
    ],
)
def test_a_tokenizer_that_cannot_pad_for_the_model_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, token in change.items():
        setattr(tokenizer, name, token)
    if change["pad_token"]:
        tokenizer.add_special_tokens(change)
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=said):
        load_backbone(config(folder), mlm=False)


def test_weights_of_another_architecture_are_refused_instead_of_random(folder: Path) -> None:
    changed = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(changed | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"weights are missing.*layer\.2"):
        load_backbone(config(folder), mlm=False)


def test_an_altered_file_does_not_pass_the_digest(folder: Path) -> None:
    with pytest.raises(UserError, match="not the expected file"):
        load_backbone(config(folder, sha256="0" * 64), mlm=False)


def test_more_layers_than_there_are_and_unknown_packages_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="has 2 layers"):
        load_backbone(config(folder, num_layers=9), mlm=False)
    with pytest.raises(UserError, match="not installed"):
        load_backbone(config("pkg://no_such_package/model"), mlm=False)
    with pytest.raises(UserError, match="no such folder"):
        load_backbone(config("/no/such/folder"), mlm=False)


def test_a_fresh_language_modelling_head_is_announced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, _ = load_backbone(config(folder), mlm=True)
    assert model.base_model is not model
    assert "no language-modelling head" in caplog.text


def test_electras_head_is_fresh_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The discriminators of ELECTRA come without one."""
    sizes: dict[str, Any] = {"embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ElectraModel(ElectraConfig(**sizes, vocab_size=4096, intermediate_size=16)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path)
    load_backbone(config(tmp_path), mlm=True)
    assert "no language-modelling head" in caplog.text


def test_a_model_that_cannot_be_loaded_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a masked language model\.\nSet loss\.mlm_weight=0"):
        load_backbone(config(save_model(tmp_path / "gpt2", "gpt2")), mlm=True)
    with pytest.raises(UserError, match=r"cannot be loaded: .*attention_window"):
        load_backbone(config(save_model(tmp_path / "longformer", "longformer"), num_layers=1), mlm=False)
