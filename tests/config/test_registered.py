"""Poolers of other packages, what an export says of them, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simcse_lit.config import registered
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder, parts_of
from simcse_lit.encoder.head import head as head_of
from simcse_lit.encoder.pooling import Pooler, make_pooler
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import export, load_export
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.model_card import Provenance
from simcse_lit.testing import check_pooler
from tests.conftest import Brings
from tests.encoders import ragged_batch, small_bert
from tests.formats.writers import WRITERS


class Weighted(Pooler):
    """A trained mean of all layers, of which padding is left out."""

    every_layer = True

    def __init__(self, layers: int, start: float = 0.0) -> None:
        super().__init__()
        self.weights_K = nn.Parameter(torch.full((layers,), start))

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        weights_K = self.weights_K.softmax(0)
        mixed_NLH = sum(weight * hidden for weight, hidden in zip(weights_K, hidden_states, strict=True))
        mask_NL1 = attention_mask_NL[..., None]
        vectors_NH: Tensor = (mixed_NLH * mask_NL1).sum(1) / mask_NL1.sum(1)
        return vectors_NH


class OfBatch(Pooler):
    """Reads the longest sentence's last place of every sentence: padding, mostly."""

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        return hidden_states[-1][:, -1]


def node(kind: type, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "_target_": f"{__name__}.{kind.__name__}", **more}


TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
SENTENCES = ["A man is playing a guitar.", "Somebody makes music.", "It rains."]
WEIGHTED = node(Weighted, layers=3, start=0.5)


@pytest.fixture(scope="module")
def of_other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """An export with a trained pooler that no package registers, and its vectors."""
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, make_pooler(WEIGHTED), "mlp_train_only").eval()
    encoder.pooler.load_state_dict({"weights_K": torch.tensor([2.0, -1.0, 0.5])})
    folder = tmp_path_factory.mktemp("other") / "export"
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("base", None))
    return folder, encode(encoder, tokenizer, SENTENCES)


def test_a_pooler_with_weights_holds_everything_that_is_checked() -> None:
    check_pooler(node(Weighted, layers=4))


def test_the_check_finds_a_pooler_that_reads_padding() -> None:
    with pytest.raises(AssertionError, match=r"under (micro-batches|packing)|padding and other sentences"):
        check_pooler(node(OfBatch))


def test_an_export_records_name_arguments_and_package_and_no_code(of_other: tuple[Path, Tensor]) -> None:
    section = json.loads((of_other[0] / "config.json").read_text())["simcse"]
    assert (section["pooler"], section["parts"]["pooler"]["arguments"]) == ("mine", {"layers": 3, "start": 0.5})
    assert section["parts"]["pooler"]["package"]
    assert "_target_" not in json.dumps(section)


def test_a_registered_pooler_is_found_by_its_name_with_its_weights(of_other: tuple[Path, Tensor], brings: Brings) -> None:
    folder, expected = of_other
    brings(registered.GROUPS["pooler"], {"mine": f"{__name__}:Weighted"})
    loaded = load_encoder(str(folder), revision=None, pooler=None, projection=None)
    assert loaded.pooler == "mine"
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)


def test_where_its_package_is_missing_one_line_names_it_and_the_users_own_node_helps(of_other: tuple[Path, Tensor]) -> None:
    folder, expected = of_other
    package = json.loads((folder / "config.json").read_text())["simcse"]["parts"]["pooler"]["package"]
    with pytest.raises(UserError) as refused:
        load_export(folder)
    assert f"was made with pooler=mine of the package {package}, which is not installed here." in str(refused.value)
    for given in ("mine", node(OfBatch) | {"name": "another"}):
        with pytest.raises(UserError, match="not installed here"):
            load_encoder(str(folder), revision=None, pooler=given, projection=None)
    own = {"name": "mine", "_target_": f"{__name__}.Weighted"}
    loaded = load_encoder(str(folder), revision=None, pooler=own, projection=None)
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)


def test_lost_weights_of_a_pooler_are_no_random_ones(of_other: tuple[Path, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, make_pooler(WEIGHTED), "none")
    export(encoder, tokenizer, tmp_path / "export", max_length=32, provenance=Provenance("base", None))
    (tmp_path / "export" / "pooler.safetensors").unlink()
    with pytest.raises(UserError, match="the export is damaged"):
        load_encoder(str(tmp_path / "export"), revision=None, pooler=WEIGHTED, projection=None)


@pytest.mark.parametrize(
    "planted",
    [
        {"pooler": {"_target_": "os.system", "command": "touch PWNED"}},
        {"parts": {"pooler": {"arguments": {"_target_": "os.system", "command": "touch PWNED"}}}},
        {"parts": {"projection": {"arguments": {"layers": [{"_target_": "os.system", "command": "touch PWNED"}]}}}},
        {"_target_": "os.system"},
    ],
)
def test_code_that_a_download_names_is_refused_and_not_run(
    planted: dict[str, Any], tmp_path: Path, brings: Brings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    brings(registered.GROUPS["pooler"], {"mine": f"{__name__}:Weighted"})
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, "avg", "none")
    export(encoder, tokenizer, tmp_path / "export", max_length=32, provenance=Provenance("base", None))
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    config["simcse"] |= {"pooler": "mine", **planted}
    (tmp_path / "export" / "config.json").write_text(json.dumps(config))
    saved = {"simcse": config["simcse"] | {"model": {}, "adapter": {}}, "state_dict": {}}
    torch.save(saved, tmp_path / "planted.ckpt")
    for source in ("export", "planted.ckpt"):
        with pytest.raises(UserError, match=r"asks to run code: _target_=os\.system\. It was not run"):
            load_encoder(source, revision=None, pooler=None, projection=None)
    assert not (tmp_path / "PWNED").exists()


def test_a_head_for_training_alone_may_be_missing_where_its_vectors_are_used(tmp_path: Path) -> None:
    head = {"name": "mine", "_target_": "tests.encoder.test_head.Projector", "wide": 48, "when": "training"}
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    kept: dict[str, Any] = {"max_length": 32, "provenance": Provenance("base", None)}
    encoder = SentenceEncoder(backbone, "avg", head_of(head)).eval()
    expected = encode(encoder, tokenizer, SENTENCES)
    export(encoder, tokenizer, tmp_path / "training", **kept)
    loaded = load_encoder(str(tmp_path / "training"), revision=None, pooler=None, projection=None)
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)
    encoder = SentenceEncoder(encoder.backbone, "avg", head_of({**head, "when": "always"})).eval()
    expected = encode(encoder, tokenizer, SENTENCES)
    export(encoder, tokenizer, tmp_path / "always", **kept)
    with pytest.raises(UserError, match="was made with projection=mine of the package"):
        load_encoder(str(tmp_path / "always"), revision=None, pooler=None, projection=None)
    loaded = load_encoder(str(tmp_path / "always"), revision=None, pooler=None, projection=head)
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="format=sentence-transformers: it has no projection=mine"):
        export_as(loaded, tmp_path / "st", WRITERS["sentence-transformers"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "mine"}, "pooler.name=mine: not one of"),
        ({"name": "mine", "_target_": "torch.nn.Identity"}, r"pooler._target_=torch.nn.Identity: is not a .*Pooler"),
        ({"name": "avg", "layers": 3}, "pooler.layers: Average takes no such argument"),
        (node(Weighted), "pooler.layers: has no value, but Weighted needs one"),
    ],
)
def test_a_wrong_node_is_told_with_its_key(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_pooler(given)


def test_what_is_recorded_is_what_is_made_again(brings: Brings) -> None:
    brings(registered.GROUPS["pooler"], {"mine": f"{__name__}:Weighted"})
    encoder = SentenceEncoder(small_bert(), make_pooler({"name": "mine", "layers": 4}), "mlp").double().eval()
    pooler, head = parts_of(encoder.record(), "here")
    again = SentenceEncoder(encoder.backbone, pooler, head).double().eval()
    again.load_state_dict(encoder.state_dict())
    batch = ragged_batch([3, 7])
    assert torch.equal(again.embed(*batch), encoder.embed(*batch))
    assert again.record() == encoder.record()
