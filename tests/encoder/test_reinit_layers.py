"""`model.reinit_layers`: the last layers are drawn anew, and nothing else changes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    RobertaConfig,
)

from simcse_lit.encoder.backbone import reinit_layers
from simcse_lit.errors import UserError
from simcse_lit.training.build import build
from tests.architectures import save_model
from tests.conftest import train_config

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "bert": BertConfig(**SIZES, num_hidden_layers=3),
    "roberta": RobertaConfig(**SIZES, num_hidden_layers=3),
    "distilbert": DistilBertConfig(vocab_size=50, dim=32, n_heads=4, hidden_dim=64, n_layers=3),
}
SHORT = ("senteval.from_hub=false", "senteval.dir=null", "tasks=[]", "tasks@dev=samples-dev", "data=samples")


def loaded(kind: str, folder: Path) -> Any:
    """A model as it comes from a file, with weights that no initialiser draws."""
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIGS[kind])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5)
    model.save_pretrained(folder)
    return AutoModel.from_pretrained(folder)


def changed(before: dict[str, Tensor], model: Any) -> set[int | None]:
    """The layers with a weight that differs; None for other weights."""
    names = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    return {int(found[1]) if (found := re.search(r"layer\.(\d+)\.", name)) else None for name in names}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_last_layers_are_drawn_anew_and_every_other_weight_is_bit_equal(kind: str, count: int, tmp_path: Path) -> None:
    model = loaded(kind, tmp_path)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    reinit_layers(model, count, seed=1)
    assert changed(before, model) == set(range(3 - count, 3))


@pytest.mark.parametrize("kind", CONFIGS)
def test_drawn_weights_are_normal_biases_zero_and_norms_one(kind: str, tmp_path: Path) -> None:
    model = loaded(kind, tmp_path)
    reinit_layers(model, 1, seed=1)
    last = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == 3)[2]
    for part in last.modules():
        if isinstance(part, nn.Linear):
            assert part.weight.std().item() == pytest.approx(model.config.initializer_range, rel=0.1)
            assert part.weight.mean().item() == pytest.approx(0, abs=0.002)
            assert not part.bias.any()
        if isinstance(part, nn.LayerNorm):
            assert (part.weight == 1).all() and not part.bias.any()


def test_the_seed_decides_the_draws_and_torchs_generator_is_left_alone(tmp_path: Path) -> None:
    found, drawn = [], []
    for seed, state in ((1, 5), (1, 6), (2, 5)):
        model = loaded("bert", tmp_path)
        torch.manual_seed(state)
        reinit_layers(model, 1, seed)
        drawn.append(torch.rand(1).item())
        found.append(model.encoder.layer[2].output.dense.weight.detach())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    torch.manual_seed(5)
    assert drawn[0] == drawn[2] == torch.rand(1).item()


def test_a_head_behind_the_layers_stays() -> None:
    model = BertForMaskedLM(BertConfig(**SIZES, num_hidden_layers=3))
    with torch.no_grad():
        model.cls.predictions.transform.dense.bias.fill_(3.0)
    reinit_layers(model, 3, seed=1)
    assert (model.cls.predictions.transform.dense.bias == 3.0).all()


def test_more_layers_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(UserError, match=r"model\.reinit_layers=4: .* has 3 layers"):
        reinit_layers(AutoModel.from_config(CONFIGS["bert"]), 4, seed=1)


def test_layers_that_share_their_weights_are_refused() -> None:
    albert = AutoModel.from_config(AlbertConfig(**SIZES, num_hidden_layers=3, embedding_size=16))
    with pytest.raises(UserError, match=r"model\.reinit_layers=1: .*albert has no list of its 3 layers\. Set it to 0"):
        reinit_layers(albert, 1, seed=1)


def test_it_counts_from_the_layers_that_num_layers_keeps(tmp_path: Path) -> None:
    named = f"model.name_or_path={save_model(tmp_path / 'bert', 'bert')}"

    def built(*changes: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        config = train_config(named, "model.pretrained=true", "model.num_layers=1", *SHORT, *changes)
        return build(config).module.state_dict()

    plain, drawn = built(), built("model.reinit_layers=1")
    differ = {name for name in plain if not torch.equal(plain[name], drawn[name])}
    assert differ and all(".layer.0." in name for name in differ)  # the projection is drawn as before
    with pytest.raises(UserError, match=r"model\.reinit_layers=2: .* has 1 layers"):
        built("model.reinit_layers=2")


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.reinit_layers=-1: must be 0 or more"):
        train_config("model=tiny", "model.reinit_layers=-1", *SHORT)
