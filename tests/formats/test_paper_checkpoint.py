"""The paper's own training checkpoints, built here with its names, become exports that give the same embeddings."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel, RobertaConfig, RobertaModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.paper_checkpoint import read_paper_checkpoint
from tests.conftest import Cli

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SENTENCES = ["A man plays the guitar.", "Rain.", "The council met for the third time to settle the budget of the harbour."]


def saved(folder: Path, kind: str, *, mlp: bool, safe: bool = False) -> tuple[Tensor, Tensor | None]:
    """Write what the paper's trainer would; returns its [CLS] vectors and what its MLP makes of them, by its formula."""
    torch.manual_seed(0)
    config: Any = BertConfig.from_pretrained(TINY)
    model: PreTrainedModel = BertModel(config, add_pooling_layer=False)
    if kind == "roberta":
        sizes = {
            key: getattr(config, key) for key in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
        }
        config = RobertaConfig(**sizes, num_attention_heads=4, max_position_embeddings=80, pad_token_id=0)
        model = RobertaModel(config, add_pooling_layer=False)
    model = model.eval()
    hidden = config.hidden_size
    weights = {f"{kind}.{name}": value for name, value in model.state_dict().items()}
    weights[f"{kind}.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    weights |= {"lm_head.dense.weight": torch.randn(hidden, hidden), "lm_head.bias": torch.randn(config.vocab_size)}
    weight, bias = torch.randn(hidden, hidden) / hidden**0.5, torch.randn(hidden)
    if mlp:
        weights |= {"mlp.dense.weight": weight, "mlp.dense.bias": bias}
    config.architectures = [f"{kind.capitalize()}ForCL"]
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    if safe:
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    batch = AutoTokenizer.from_pretrained(TINY)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        cls = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state[:, 0]
    return cls, torch.tanh(cls @ weight.T + bias)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("name", ["my-unsup-simcse", "my-sup-simcse"])
def test_unsupervised_is_read_before_the_mlp_and_supervised_behind_it(
    warm_cli: Cli, tmp_path: Path, kind: str, name: str
) -> None:
    cls, projected = saved(tmp_path / "result" / name, kind, mlp=True, safe=kind == "roberta")
    if kind == "bert":  # one through the command line, which is slow
        done = warm_cli(f"checkpoint=result/{name}", "output=imported", command="import_checkpoint")
        assert done.returncode == 0, done.stderr
        assert "its name says" in done.stderr and "projection mlp" in done.stderr
        loaded = load_encoder(str(tmp_path / "imported"), revision=None, pooler=None, projection=None)
        encoder, tokenizer = loaded.encoder, loaded.tokenizer
        assert (loaded.kind, loaded.pooler) == ("simcse-lit export", "cls")
        card = ModelCard.load(tmp_path / "imported" / "README.md")
        assert card.data.base_model is None and f"from `{name}`.\n" in card.text and str(tmp_path) not in card.content
    else:
        read = read_paper_checkpoint(tmp_path / "result" / name, tokenizer=None, pooler=None, projection=None)
        encoder, tokenizer = read.encoder, read.tokenizer
    expected = cls if "unsup" in name else projected
    torch.testing.assert_close(encode(encoder, tokenizer, SENTENCES), expected, rtol=0, atol=1e-5)


def test_what_the_checkpoint_leaves_open_must_be_said(tmp_path: Path) -> None:
    cls, projected = saved(tmp_path / "mine", "bert", mlp=True)
    with pytest.raises(UserError, match=r"projection=mlp_train_only if it was trained with --mlp_only_train"):
        read_paper_checkpoint(tmp_path / "mine", tokenizer=None, pooler=None, projection=None)
    for projection, expected in (("mlp", projected), ("mlp_train_only", cls)):
        read = read_paper_checkpoint(tmp_path / "mine", tokenizer=None, pooler=None, projection=projection)
        torch.testing.assert_close(encode(read.encoder, read.tokenizer, SENTENCES), expected, rtol=0, atol=1e-5)
    saved(tmp_path / "sup-mean", "bert", mlp=False)
    with pytest.raises(UserError, match=r"pooler=cls_before_pooler: .* has mlp\.dense(.|\n)*projection=none"):
        read_paper_checkpoint(tmp_path / "mine", tokenizer=None, pooler="cls_before_pooler", projection="mlp")
    read = read_paper_checkpoint(tmp_path / "mine", tokenizer=None, pooler="cls_before_pooler", projection=None)
    assert (read.encoder.pooler.name, read.encoder.head.name) == ("cls_before_pooler", "none")
    with pytest.raises(UserError, match=r"pooler=avg: .* has mlp\.dense(.|\n)*projection=none"):
        read_paper_checkpoint(tmp_path / "mine", tokenizer=None, pooler="avg", projection=None)
    with pytest.raises(UserError, match=r"has no mlp\.dense(.|\n)*Name its pooler: pooler=avg"):
        read_paper_checkpoint(tmp_path / "sup-mean", tokenizer=None, pooler=None, projection=None)
    read = read_paper_checkpoint(tmp_path / "sup-mean", tokenizer=None, pooler="avg", projection=None)
    assert (read.encoder.pooler.name, read.encoder.head.name) == ("avg", "none")


def test_other_folders_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        read_paper_checkpoint(folder, tokenizer=None, pooler=None, projection="mlp")

    with pytest.raises(UserError, match=r"no config\.json"):
        read(tmp_path)
    saved(tmp_path / "a", "bert", mlp=True)
    weights = torch.load(tmp_path / "a" / "pytorch_model.bin", weights_only=True)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").write_text, ("ran",))

    torch.save({"bert.x": Evil()}, tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(UserError, match="not a file of weights that can be read safely"):
        read(tmp_path / "a")
    assert not (tmp_path / "ran").exists()
    for change, message in (
        ({name.removeprefix("bert."): value for name, value in weights.items()}, "has no weights named bert"),
        ({**weights, "head.weight": torch.ones(1)}, "that the paper's code does not have, e.g. head.weight"),
        ({name: value for name, value in weights.items() if "layer.1" not in name}, "cannot be used: .*Missing key"),
    ):
        torch.save(change, tmp_path / "a" / "pytorch_model.bin")
        with pytest.raises(UserError, match=message):
            read(tmp_path / "a")
    (tmp_path / "a" / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        read(tmp_path / "a")
