"""The export: plain transformers reads it, gives the same embeddings, and the card's own code does too."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AutoModel, AutoTokenizer, DistilBertConfig, RobertaConfig

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import MLP
from simcse_lit.encoding.passes import encode, nearest
from simcse_lit.errors import UserError
from simcse_lit.families import STS
from simcse_lit.formats.export import Provenance, export, load_export

SENTENCES = ["A man is playing a guitar.", "Somebody makes music.", "Snow."]
MADE = Provenance(
    "base",
    "sup",
    {"seed": 42},
    {"after": {"dev": {"STS-B-dev": 80.0}, "test": {"STS-B": 77.5, "Avg.": 70.0}}},
    {"STS-B-dev": STS, "STS-B": STS},
    "SentEval's STS sets",
)
TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)


def exported(folder: Path, pooler: str, projection: str) -> tuple[SentenceEncoder, torch.Tensor]:
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, pooler, projection).eval()
    export(encoder, tokenizer, folder, max_length=32, provenance=MADE)
    return encoder, encode(encoder, tokenizer, SENTENCES)


@pytest.mark.parametrize("pooler", ["cls", "cls_before_pooler", "avg", "avg_first_last", "avg_top2", "last_token"])
@pytest.mark.parametrize("projection", ["mlp", "mlp_train_only", "none"])
def test_the_cards_code_and_our_loader_give_the_same_embeddings(tmp_path: Path, pooler: str, projection: str) -> None:
    if (pooler, projection) == ("cls_before_pooler", "mlp"):
        return  # validation refuses it
    _, expected = exported(tmp_path / "export", pooler, projection)
    encoder, tokenizer = load_export(tmp_path / "export")
    assert (encoder.pooler.name, encoder.head.name) == (pooler, projection)
    torch.testing.assert_close(encode(encoder, tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    script = tmp_path / "use.py"
    script.write_text(code[1].replace('folder = "."', f'folder = "{tmp_path / "export"}"'))
    torch.testing.assert_close(runpy.run_path(str(script))["vectors"].detach(), expected[:2], rtol=0, atol=1e-5)


def test_kept_projection_is_automodels_pooler_output_as_in_the_papers_checkpoints(tmp_path: Path) -> None:
    _, expected = exported(tmp_path / "export", "cls", "mlp")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    model = AutoModel.from_pretrained(tmp_path / "export").eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    torch.testing.assert_close(model(**batch).pooler_output.detach(), expected, rtol=0, atol=1e-5)


def test_export_holds_no_pickle_and_the_card_holds_the_scores(tmp_path: Path) -> None:
    encoder, _ = exported(tmp_path / "export", "cls", "mlp_train_only")
    names = {path.name for path in (tmp_path / "export").iterdir()}
    assert {"config.json", "model.safetensors", "projection.safetensors", "tokenizer.json", "README.md"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".ckpt")) for name in names)
    assert isinstance(encoder.projection, MLP)
    stored = load_file(tmp_path / "export" / "projection.safetensors")
    assert torch.equal(stored["dense.weight"], encoder.projection.dense.weight)
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "| after | 77.50 | 70.00 |" in card
    assert "`cls`" in card and "`mlp_train_only`" in card


def test_a_failing_export_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "export", "avg", "none")
    before = (tmp_path / "export" / "model.safetensors").read_bytes()
    monkeypatch.setattr("simcse_lit.formats.export.model_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exported(tmp_path / "export", "cls", "none")
    assert (tmp_path / "export" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_export(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="no section simcse"):
        load_export(tmp_path)


def test_nearest_rows_come_most_similar_first() -> None:
    corpus = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]])
    cosines, places = nearest(torch.tensor([[0.0, 5.0]]), corpus, 3)
    assert places.tolist() == [[1, 2, 0]]
    assert cosines[0].tolist() == pytest.approx([1.0, 0.5**0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["distilbert", "albert", "roberta"])
def test_the_cards_code_is_right_for_backbones_with_another_pooler_or_none(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(5)
    _, tokenizer = load_backbone(TINY, mlm=False)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 80, "pad_token_id": tokenizer.pad_token_id}
    config = {
        "distilbert": lambda: DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **sizes),
        "albert": lambda: AlbertConfig(
            embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **sizes
        ),
        "roberta": lambda: RobertaConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **sizes
        ),
    }[kind]()
    encoder = SentenceEncoder(AutoModel.from_config(config), "cls", "mlp").eval()
    export(encoder, tokenizer, tmp_path / "export", max_length=32, provenance=MADE)
    expected = encode(encoder, tokenizer, SENTENCES)
    torch.testing.assert_close(encode(*load_export(tmp_path / "export"), SENTENCES), expected, rtol=0, atol=1e-6)
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert ("pooler_output" in code[1]) == (kind == "roberta")
    script = tmp_path / "use.py"
    script.write_text(code[1].replace('folder = "."', f'folder = "{tmp_path / "export"}"'))
    torch.testing.assert_close(runpy.run_path(str(script))["vectors"].detach(), expected[:2], rtol=0, atol=1e-5)
