"""Adapters of anyone: what is added is merged for an export, and a checkpoint names it without naming a class to import."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import AdapterConfig
from simcse_lit.encoder.adapter import add_adapter, build_adapter, merge_adapter, record, recorded_adapter
from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.encoder.lora import LoRA
from simcse_lit.errors import UserError
from simcse_lit.formats.checkpoint import load_checkpoint
from tests.conftest import Brings, train_config
from tests.encoders import ragged_batch, small_bert


class Multiplied(nn.Module):
    """A linear layer with a factor for each of its weights, which is trained."""

    def __init__(self, linear: nn.Linear, factor: float) -> None:
        super().__init__()
        self.linear = linear
        self.factors = nn.Parameter(torch.full_like(linear.weight, factor))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.linear.weight * self.factors, self.linear.bias)


class Doubling:
    """Multiplies the last layer's output, by `factor` at first so that tests see it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def add(self, backbone: Any) -> None:
        backbone.requires_grad_(False)
        output = backbone.encoder.layer[-1].output
        output.dense = Multiplied(output.dense, self.factor)

    def merge(self, backbone: Any) -> None:
        output = backbone.encoder.layer[-1].output
        factors, output.dense = output.dense.factors, output.dense.linear
        output.dense.weight.data *= factors.data


class Leaving(Doubling):
    """Leaves what it has added where it is."""

    def merge(self, backbone: PreTrainedModel) -> None: ...


class WithoutMerge:
    def add(self, backbone: PreTrainedModel) -> None: ...


def own(name: str = "doubling", kind: str = "Doubling", **arguments: Any) -> AdapterConfig:
    return AdapterConfig(name, None, None, None, None, {"_target_": f"{__name__}.{kind}", **arguments})


def test_what_is_added_alone_is_trained_and_is_merged_into_the_weights() -> None:
    encoder = SentenceEncoder(small_bert(), "cls", "none").eval()
    names = set(encoder.state_dict())
    ids, mask = ragged_batch([4, 7])
    plain = encoder(ids, mask)
    add_adapter(encoder.backbone, build_adapter(own(factor=2.0)))
    assert [name for name, parameter in encoder.named_parameters() if parameter.requires_grad] == [
        "backbone.encoder.layer.2.output.dense.factors"
    ]
    doubled = encoder(ids, mask)
    assert not torch.allclose(doubled, plain)
    copy = second_encoder(encoder)
    for each in (encoder, copy):
        merge_adapter(each.backbone)
        assert set(each.state_dict()) == names
        torch.testing.assert_close(each.eval()(ids, mask), doubled)
        merge_adapter(each.backbone)  # there is none any more
        torch.testing.assert_close(each(ids, mask), doubled)


def test_without_an_adapter_nothing_is_added_or_merged() -> None:
    backbone = small_bert()
    assert build_adapter(train_config().adapter) is None
    add_adapter(backbone, None)
    merge_adapter(backbone)
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_an_adapter_that_is_not_merged_away_is_refused() -> None:
    backbone = small_bert()
    add_adapter(backbone, build_adapter(own(kind="Leaving", factor=2.0)))
    with pytest.raises(UserError, match=r"adapter\.method: Leaving\.merge must leave the names of the weights .*dense"):
        merge_adapter(backbone)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (own(kind="Dubling"), r"adapter\.method\._target_=.*Dubling: cannot be imported"),
        (own(), r"adapter\.method\.factor: has no value, but Doubling needs one"),
        (own(factor=2.0, more=1), r"adapter\.method\.more: Doubling takes no such argument"),
        (own(kind="WithoutMerge"), r"WithoutMerge: is not an adapter: it needs add\(backbone\) and merge"),
        (
            own(factor={"_target_": "builtins.float"}),
            r"adapter\.method\.factor\._target_: the arguments of an",
        ),
        (own("lora", factor=2.0), r"adapter\.name=lora: another adapter has this name\. Give .*Doubling another name"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_named(config: AdapterConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_adapter(config)


def test_a_wrong_name_is_answered_with_the_options() -> None:
    with pytest.raises(UserError, match=r"adapter\.name=lore: not one of lora, none\. Did you mean lora\?"):
        train_config("adapter.name=lore")


def test_lora_is_what_its_keys_say_and_a_checkpoint_of_any_version_brings_it_back() -> None:
    config = train_config("adapter=lora", "adapter.r=4", "adapter.target_modules=[query,key]").adapter
    made = LoRA(4, 32, 0.1, ["query", "key"])
    assert build_adapter(config) == made
    assert recorded_adapter(record(config), "last.ckpt") == made
    of_0_1 = {"name": "lora", "r": 4, "alpha": 32, "dropout": 0.1, "target_modules": ["query", "key"]}
    assert recorded_adapter(of_0_1, "last.ckpt") == made
    none = {"name": "none", "r": None, "alpha": None, "dropout": None, "target_modules": None}
    assert recorded_adapter(none, "last.ckpt") is recorded_adapter(record(train_config().adapter), "last.ckpt") is None


def checkpoint(folder: Path, adapter: dict[str, Any]) -> str:
    """A checkpoint of the tiny model, with an adapter, as training writes it."""
    encoder = SentenceEncoder(tiny(), "cls", "none")
    add_adapter(encoder.backbone, Doubling(2.0))
    model = {"name_or_path": "pkg://simcse_lit/data/samples/tiny", "revision": None, "num_layers": None, "dropout": None}
    saved = {"model": {**model, "attention": None}, "adapter": adapter, "pooler": "cls", "projection": "none"}
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"state_dict": state, "simcse": saved}, folder / "last.ckpt")
    return str(folder / "last.ckpt")


def tiny() -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test")))


def test_a_checkpoint_is_loaded_by_the_registered_name(brings: Brings, tmp_path: Path) -> None:
    brings("simcse_lit.adapters", {"doubling": f"{__name__}:Doubling"})
    path = checkpoint(tmp_path, record(own(factor=2.0)))
    encoder: Any = load_checkpoint(path)[0]
    plain = tiny().encoder.layer[-1].output.dense.weight
    torch.testing.assert_close(encoder.backbone.encoder.layer[-1].output.dense.weight, 2 * plain)
    assert not any("factors" in name for name in encoder.state_dict())


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            {"name": "doubling", "package": "my-lab", "arguments": {"factor": 2.0}},
            r"last\.ckpt: was trained with adapter=doubling, which no installed package has: pip install my-lab",
        ),
        (
            {"name": f"{__name__}.Doubling", "arguments": {"factor": 2.0}},
            r"which no installed package has: install the package that has it",
        ),
        (
            {"name": "lora", "_target_": f"{__name__}.Doubling", "factor": 2.0},
            r"last\.ckpt: asks to run code: _target_=.*Doubling\. It was not run",
        ),
    ],
)
def test_a_checkpoint_that_names_anything_else_is_refused(adapter: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_checkpoint(checkpoint(tmp_path, adapter))
