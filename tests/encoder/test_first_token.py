"""Where the pooler reads the first token alone, the end of the last layer sees no other; no vector or gradient changes."""

from copy import deepcopy
from functools import partialmethod
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from transformers import AutoConfig, AutoModel, BertModel, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer

from simcse_lit.config.registered import OURS
from simcse_lit.encoder.backbone import _checkpoint_activations
from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.encoder.packing import pack
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.training.chunking import encode_in_chunks, plan
from tests.encoders import SIZES, pooler_of, ragged_batch, small_bert

OF_FIRST_TOKEN = [name for name in OURS["pooler"] if make_pooler(name).first_token]
KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")  # tests/encoder/test_kinds.py has them all
LENGTHS = [4, 12, 4, 30, 7, 12, 3]
PADDED: dict[str, Any] = {**SIZES, "pad_token_id": 0}


def backbone_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return cast(PreTrainedModel, AutoModel.from_config(AutoConfig.for_model(kind, **PADDED)).double())


def tokens_fed(backbone: Any) -> list[int]:
    """A list that grows by the number of tokens whenever the last layer's feed-forward is passed."""
    counts: list[int] = []
    backbone.encoder.layer[-1].intermediate.register_forward_hook(
        lambda _, inputs, __: counts.append(inputs[0].shape[:-1].numel())
    )
    return counts


def gradients(vectors_NH: Tensor, encoder: SentenceEncoder) -> list[Tensor]:
    weights_NH = torch.linspace(-1, 1, vectors_NH.numel(), dtype=torch.float64).view_as(vectors_NH)
    return list(torch.autograd.grad((vectors_NH * weights_NH).sum(), list(encoder.parameters())))


@pytest.mark.parametrize("pooler", OF_FIRST_TOKEN)
@pytest.mark.parametrize(("kind", "packed"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in KINDS)])
def test_vectors_and_gradients_are_those_of_a_whole_last_layer(kind: str, pooler: str, packed: bool) -> None:
    encoder = SentenceEncoder(backbone_of(kind), pooler, "none").eval()
    counts = tokens_fed(encoder.backbone)
    ids, mask = ragged_batch(LENGTHS)
    whole = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    assert counts == [mask.numel()], "the backbone alone is as it was"
    chunks = plan(mask, "packed" if packed else "never", limit=4)
    vectors = encode_in_chunks(encoder, ids, mask, chunks)
    assert counts[1:] == [4, 3], "one token a sentence"
    torch.testing.assert_close(vectors, whole, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(vectors, encoder), gradients(whole, encoder), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pooler", sorted(OURS["pooler"].keys() - set(OF_FIRST_TOKEN)))
def test_other_poolers_get_every_token(pooler: str) -> None:
    encoder = SentenceEncoder(small_bert(), pooler_of(pooler), "none")
    counts = tokens_fed(encoder.backbone)
    ids, mask = ragged_batch(LENGTHS)
    encoder(ids, mask)
    assert counts == [mask.numel()]


@pytest.mark.parametrize("kind", ["albert", "deberta-v2"])
def test_other_kinds_of_backbones_are_left_as_they_are(kind: str) -> None:
    encoder = SentenceEncoder(backbone_of(kind), "cls", "none").eval()
    ids, mask = ragged_batch(LENGTHS)
    whole = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(ids, mask), whole)


def test_masked_language_modelling_has_every_token_after_a_pass_for_vectors() -> None:
    encoder = SentenceEncoder(small_bert(mlm=True), "cls", "none").eval()
    ids, mask = ragged_batch(LENGTHS)
    before = encoder.mlm_logits(ids, mask)
    encoder(ids, mask)
    torch.testing.assert_close(encoder.mlm_logits(ids, mask), before)
    with pytest.raises(IndexError):  # a pass that fails leaves nothing behind
        encoder(ids + 1000, mask)
    torch.testing.assert_close(encoder.mlm_logits(ids, mask), before)


@pytest.mark.long
def test_a_compiled_backbone_heeds_what_each_pass_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph is the same, but no code is generated from it, which would take a minute.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    plain = SentenceEncoder(small_bert(mlm=True), "cls", "none").eval()
    compiled = deepcopy(plain)
    compiled.compile_backbone("default")
    counts = tokens_fed(compiled.backbone)
    for lengths in (LENGTHS, [9, 5], LENGTHS):
        ids, mask = ragged_batch(lengths)
        packing = pack(mask)
        for given in (None, packing):
            with torch.no_grad():
                torch.testing.assert_close(compiled(ids, mask, given), plain(ids, mask, given), rtol=0, atol=1e-12)
                logits, expected = (each.mlm_logits(ids, mask, given) for each in (compiled, plain))
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
        assert counts[-4:] == [len(lengths), mask.numel(), len(lengths), packing.tokens_RW.numel()]


@pytest.mark.parametrize("how", ["transformers", "wrapped"])
def test_gradient_checkpointing_runs_the_whole_layer_and_has_the_same_gradient(how: str) -> None:
    ids, mask = ragged_batch(LENGTHS)
    found = []
    for checkpointing in (False, True):
        backbone = small_bert()
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointing and how == "transformers":
            _checkpoint_activations(backbone, "small")
        encoder = SentenceEncoder(backbone, "cls", "none").train()
        if checkpointing and how == "wrapped":  # as FSDP's activation_checkpointing_policy does
            apply_activation_checkpointing(encoder, check_fn=lambda module: isinstance(module, BertLayer))
        counts = tokens_fed(encoder.backbone)
        vectors = encoder(ids, mask)
        found.append([vectors, *gradients(vectors, encoder)])
        assert counts == ([mask.numel()] * 2 if checkpointing else [len(LENGTHS)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_of_two_encoders_each_has_its_own() -> None:
    encoder = SentenceEncoder(small_bert(), "cls", "none").eval()
    second = second_encoder(encoder).eval()
    ids, mask = ragged_batch(LENGTHS)
    counts = [tokens_fed(each.backbone) for each in (encoder, second)]
    torch.testing.assert_close(second(ids, mask), encoder(ids, mask))
    with encoder._first_token.alone(None):
        assert isinstance(second.backbone, BertModel)
        assert second.backbone(input_ids=ids, attention_mask=mask).last_hidden_state.shape[1] == mask.shape[1]
    assert counts == [[len(LENGTHS)], [len(LENGTHS), mask.numel()]]
