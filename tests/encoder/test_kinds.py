"""Each row of the table of backbone kinds is true of a small random model of that type, made from a configuration."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.architecture import text_encoder
from simcse_lit.encoder.backbone import _adapt, untie_head
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.kinds import KINDS, KNOWN_DROPOUTS, UNKNOWN, Kind, kind_of
from simcse_lit.encoder.packing import pack
from simcse_lit.errors import UserError
from tests.conftest import Brings, train_config
from tests.encoders import ragged_batch

LENGTHS = [4, 12, 4, 30, 7, 12, 3]
SIZES: dict[str, Any] = {
    **{"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    **{"max_position_embeddings": 40, "pad_token_id": 0},
}
HALVES = {f"{half}_{name}": 2 for half in ("encoder", "decoder") for name in ("layers", "attention_heads")}
OF_T5_LIKE: dict[str, Any] = {"vocab_size": 100, "d_model": 32, **HALVES, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
# Where a type's settings have names of their own, or must fit to one another.
OWN: dict[str, dict[str, Any]] = {
    "albert": {**SIZES, "embedding_size": 16},
    "distilbert": {
        "vocab_size": 100,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 40,
    },
    "electra": {**SIZES, "embedding_size": 16},
    "led": {**OF_T5_LIKE, "attention_window": 4},
    "longformer": {**SIZES, "attention_window": 4},
    "pegasus": OF_T5_LIKE,
    "squeezebert": {
        **{**SIZES, "embedding_size": 32},
        **{f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
    },
    "xlnet": {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
}
PACKED = [name for name, kind in KINDS.items() if kind.first_position]
CUT = [name for name, kind in KINDS.items() if kind.after_attention]
MASKED_LM = [name for name, kind in KINDS.items() if kind.masked_lm and not kind.padding_counts]


def small(kind: str) -> PretrainedConfig:
    return AutoConfig.for_model(kind, **OWN.get(kind, SIZES))


def model_of(kind: str, auto: Any = AutoModel) -> PreTrainedModel:
    torch.manual_seed(0)
    return cast(PreTrainedModel, auto.from_config(small(kind)).double().eval())


def batch_for(backbone: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = ragged_batch(LENGTHS)
    return torch.where(mask.bool(), ids, int(backbone.config.pad_token_id or 0)), mask


@pytest.mark.parametrize("pooler", ["cls", "avg"])
@pytest.mark.parametrize("kind", PACKED)
def test_a_kind_that_can_be_packed_has_the_same_vectors_packed_and_padded(kind: str, pooler: str) -> None:
    encoder = SentenceEncoder(model_of(kind), pooler, "none").eval()
    assert encoder.can_pack
    ids, mask = batch_for(encoder.backbone)
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids, mask, pack(mask)), encoder(ids, mask), rtol=0, atol=1e-10)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", CUT)
def test_a_kind_with_a_module_after_attention_has_the_same_vectors_by_the_first_token_alone(kind: str, packed: bool) -> None:
    encoder = SentenceEncoder(model_of(kind), "cls", "none").eval()
    ids, mask = batch_for(encoder.backbone)
    places: list[int] = []
    layers = cast(nn.ModuleList, encoder.backbone.get_submodule(KINDS[kind].layers))
    layers[-1].register_forward_hook(
        lambda _, __, output: places.append((output[0] if isinstance(output, tuple) else output).shape[1])
    )
    with torch.no_grad():
        whole = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        alone = encoder(ids, mask, pack(mask) if packed and encoder.can_pack else None)
    assert places == [mask.shape[1], 1]
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dropouts_of_a_kind_are_all_that_its_configuration_has(kind: str) -> None:
    config, absent = small(kind), object()
    assert all(getattr(config, name, absent) is not absent for name in KINDS[kind].dropouts)
    nothing: Any = SimpleNamespace(num_layers=None, dropout=0.37, name_or_path=kind)
    _adapt(config, cast(ModelConfig, nothing))
    assert {getattr(config, name) for name in KNOWN_DROPOUTS if hasattr(config, name)} == {0.37}


@pytest.mark.parametrize("kind", MASKED_LM)
def test_a_kind_with_a_language_modelling_head_scores_the_vocabulary_and_gives_up_the_words_that_it_shares(
    kind: str,
) -> None:
    model = model_of(kind, AutoModelForMaskedLM)
    encoder = SentenceEncoder(model, "avg", "none").eval()
    ids, mask = batch_for(encoder.backbone)
    with torch.no_grad():
        padded = encoder.mlm_logits(ids, mask)
        assert padded.shape == (*ids.shape, 100)
        if encoder.can_pack:
            packing = pack(mask)
            packed = packing.unpack(encoder.mlm_logits(ids, mask, packing), ids.shape)
            torch.testing.assert_close(packed, padded * mask[..., None], rtol=0, atol=1e-10)
        untie_head(model)
        torch.testing.assert_close(encoder.mlm_logits(ids, mask), padded, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.masked_lm is False])
def test_a_kind_without_one_is_not_known_to_transformers_as_a_masked_language_model(kind: str) -> None:
    with pytest.raises(ValueError, match="AutoModelForMaskedLM"):
        AutoModelForMaskedLM.from_config(small(kind))


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.unreached])
def test_what_a_sentence_never_reaches_is_not_trained(kind: str) -> None:
    encoder = SentenceEncoder(text_encoder(model_of(kind)), "avg", "none")
    ids, mask = batch_for(encoder.backbone)
    encoder.backbone.config.use_cache = False
    encoder(ids, mask).sum().backward()
    parameters = dict(encoder.backbone.named_parameters())
    assert {name for name, parameter in parameters.items() if parameter.requires_grad and parameter.grad is None} == set()
    assert any(name.endswith(KINDS[kind].unreached) for name in parameters)


def test_of_a_type_without_a_row_nothing_is_assumed() -> None:
    assert kind_of("modernbert") is UNKNOWN == Kind()
    encoder = SentenceEncoder(model_of("deberta"), "cls", "none")
    assert not encoder.can_pack and not encoder._first_token.possible


OWN_ROW = Kind(dropouts=("shaky",), masked_lm=True)
NO_ROW = "a string"


def test_a_package_brings_the_row_of_its_own_architecture(brings: Brings) -> None:
    brings("simcse_lit.backbones", {"labformer": f"{__name__}:OWN_ROW"})
    assert kind_of("labformer") is OWN_ROW and kind_of("otherformer") is UNKNOWN
    config = SimpleNamespace(model_type="labformer", shaky=0.1, hidden_dropout_prob=0.1)
    _adapt(config, train_config("model.dropout=0.3").model)
    assert (config.shaky, config.hidden_dropout_prob) == (0.3, 0.1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            f"{__name__}:NO_ROW",
            r"simcse_lit\.backbones\.labformer: is not a .*\.Kind, but 'a string'",
        ),
        ("no_such_lab:ROW", r"simcse_lit\.backbones\.labformer cannot be imported: No module named 'no_such_lab'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(brings: Brings, value: str, message: str) -> None:
    brings("simcse_lit.backbones", {"labformer": value})
    with pytest.raises(UserError, match=message):
        kind_of("labformer")


def test_a_model_that_brings_its_own_code_has_no_row_of_ours_whatever_type_it_names() -> None:
    model = model_of("bert")
    assert SentenceEncoder(model, "cls", "none").can_pack
    other = type("Theirs", (type(model),), {"__module__": "transformers_modules.owner.modeling"})
    theirs = cast(PreTrainedModel, other(small("bert")))
    encoder = SentenceEncoder(theirs, "cls", "none")
    assert not encoder.can_pack and not encoder._first_token.possible
