"""Packed rows hold each token once, and give the vectors, losses and gradients of padded rows."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import MPNetConfig, MPNetModel, PreTrainedModel, RobertaConfig, RobertaModel

from simcse_lit.config.registered import OURS
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import Packing, pack
from simcse_lit.errors import UserError
from simcse_lit.training.chunking import chunking, encode_in_chunks, plan
from tests.conftest import train_config
from tests.encoders import pooler_of, ragged_batch, small_bert
from tests.objective.test_gather import MASKING, every_fifth_id
from tests.training.test_two_views import LENGTHS, batch_of, gradients, module_of, step

SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def backbone_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "roberta":  # its positions start behind the id of padding
        return RobertaModel(RobertaConfig(**SMALL, max_position_embeddings=40, pad_token_id=1)).double()
    return small_bert()


@given(st.lists(st.integers(1, 32), min_size=1, max_size=60), st.sampled_from([32, 40, 128]))
def test_each_token_has_one_slot_in_a_row_beside_those_of_its_sentence(lengths: list[int], width: int) -> None:
    ids, mask = ragged_batch(lengths)
    packing = pack(mask, width)
    rows, real = packing.tokens_RW.shape[0], mask.bool()
    slots = packing.slots_T
    assert packing.places_T.tolist() == real.flatten().nonzero().flatten().tolist()
    own_slots = slots.split(lengths)
    assert len(slots.unique()) == len(slots) == sum(lengths), "no two tokens in one slot"
    assert int((packing.sentences_RW >= 0).sum()) == sum(lengths), "and no slot is taken by what is no token"
    for number, (own, length) in enumerate(zip(own_slots, lengths, strict=True)):
        assert own.tolist() == list(range(int(own[0]), int(own[0]) + length)), "in order, side by side"
        assert int(own[0]) // packing.tokens_RW.shape[1] == int(own[-1]) // packing.tokens_RW.shape[1], "in one row"
        assert packing.pack(ids, -7).flatten()[own].tolist() == ids[number, :length].tolist()
        assert packing.sentences_RW.flatten()[own].tolist() == [number] * length
        assert packing.positions_RW.flatten()[own].tolist() == list(range(length))
        assert int(packing.starts_n[number]) == int(own[0])
    empty = packing.sentences_RW < 0
    assert packing.pack(ids, -7)[empty].tolist() == [-7] * int(empty.sum())
    # Of best-fit rows at most one is half empty; and at most 1/32 more are added.
    assert rows <= (2 * sum(lengths) / packing.tokens_RW.shape[1] + 1) * 33 / 32


def test_packing_leaves_hardly_a_slot_of_a_large_batch_empty() -> None:
    torch.manual_seed(0)
    lengths = (torch.randn(1536) * 5 + 13).round().clamp(4, 32).long()
    _, mask = ragged_batch(lengths.tolist())
    assert int(lengths.sum()) / pack(mask).tokens_RW.numel() > 0.97


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooler", OURS["pooler"])
@pytest.mark.parametrize(("limit", "keep"), [(None, None), (3, None), (3, 0)])
def test_packed_rows_give_the_vectors_and_gradients_of_padded_rows(
    kind: str, pooler: str, limit: int | None, keep: int | None
) -> None:
    encoder = SentenceEncoder(backbone_of(kind), pooler_of(pooler), "mlp").double().eval()
    assert encoder.can_pack
    ids, mask = ragged_batch(LENGTHS)
    ids = torch.where(mask.bool(), ids, int(encoder.backbone.config.pad_token_id))
    target = torch.randn(len(LENGTHS), 32, dtype=torch.float64)

    def of(vectors: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((vectors * target).sum(), list(encoder.parameters())))

    chunks = plan(mask, "packed", limit=limit)
    whole, packed = encoder(ids, mask), encode_in_chunks(encoder, ids, mask, chunks, keep=keep)
    torch.testing.assert_close(packed, whole, rtol=0, atol=1e-12)
    for ours, theirs in zip(of(packed), of(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 3}, {"mlm_weight": 0.1}, {"fixed_dropout": True}])
def test_a_packed_training_step_has_the_loss_and_gradient_of_a_padded_one(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MASKING, every_fifth_id)
    found = []
    for packed in (False, True):
        encoder = SentenceEncoder(small_bert(mlm="mlm_weight" in changes), "cls", "mlp").double().eval()
        module = module_of(encoder, how="packed" if packed else "never", **changes)
        batch = module.on_before_batch_transfer(batch_of(ragged_batch(LENGTHS), ragged_batch(LENGTHS[::-1])), 0)
        assert all((chunk.packing is not None) == packed for chunk in batch["chunks"])
        loss = step(module, batch)
        found.append([loss, *gradients(loss, encoder)])
    for padded, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, padded, rtol=0, atol=1e-10)


def test_sentences_of_one_row_do_not_see_each_other() -> None:
    encoder = SentenceEncoder(small_bert(), "avg", "none").eval()
    ids, mask = ragged_batch([5, 7, 6])
    packing = pack(mask)
    assert len(packing.tokens_RW) == 1
    before = encoder(ids, mask, packing)
    after = encoder(torch.where(torch.arange(3)[:, None] == 1, (ids + 1) * mask, ids), mask, packing)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_a_packing_moves_to_a_device_as_a_whole() -> None:
    moved = pack(ragged_batch([5, 7])[1]).to(torch.device("meta"))
    assert isinstance(moved, Packing)
    assert {getattr(moved, field.name).device.type for field in fields(moved)} == {"meta"}


def test_a_gpu_packs_where_the_backbone_allows_it_and_a_cpu_cuts_by_length() -> None:
    auto = train_config().trainer
    bert = SentenceEncoder(small_bert(), "cls", "none")
    other = SentenceEncoder(MPNetModel(MPNetConfig(**SMALL)), "cls", "none")
    assert chunking(auto, bert, on_cpu=True).how == "always"
    assert chunking(auto, bert, on_cpu=False).how == "packed"
    assert chunking(auto, other, on_cpu=False).how == "never"
    with pytest.raises(UserError, match="length_chunks=packed: does not support mpnet with eager attention"):
        chunking(train_config("trainer.length_chunks=packed").trainer, other, on_cpu=False)
    bert.backbone.set_attn_implementation("eager")
    with pytest.raises(UserError, match="does not support bert with eager attention"):
        chunking(train_config("trainer.length_chunks=packed").trainer, bert, on_cpu=False)


def test_cuda_graphs_are_for_packed_passes_on_a_gpu() -> None:
    bert = SentenceEncoder(small_bert(), "cls", "none")
    assert chunking(train_config("trainer.compile=cuda_graphs").trainer, bert, on_cpu=False).how == "packed"
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu, trainer\.length_chunks=packed"):
        chunking(train_config("trainer.compile=cuda_graphs").trainer, bert, on_cpu=True)
    for key in ("trainer.length_chunks=never", "trainer.micro_batch_size=4"):
        with pytest.raises(UserError, match=r"trainer\.micro_batch_size=null"):
            chunking(train_config("trainer.compile=cuda_graphs", key).trainer, bert, on_cpu=False)


def test_cuda_graphs_compile_packed_passes_once_for_any_number_of_rows_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The graph is the same, but no code is generated from it, and a CPU has no graphs to record.
    asked = []

    def compiled(function: Any, **how: Any) -> Any:
        asked.append(how)
        return plainly(function, backend="eager")

    plainly = torch.compile
    monkeypatch.setattr(torch, "compile", compiled)
    encoder = SentenceEncoder(small_bert(), "cls", "mlp").double().eval()
    torch.compiler.reset()  # what other tests have compiled
    encoder.compile_backbone("cuda_graphs")
    assert asked == [{"mode": "reduce-overhead"}]
    counters.clear()
    for lengths in ([9, 4, 3], [30] * 9, [12, 7] * 20, [28] * 21):
        ids, mask = ragged_batch(lengths)
        graphs = counters["stats"]["unique_graphs"]
        with torch.no_grad():
            expected = encoder(ids, mask)
            assert counters["stats"]["unique_graphs"] == graphs, "padded rows are not compiled"
            chunks = plan(mask, "packed")
            torch.testing.assert_close(encode_in_chunks(encoder, ids, mask, chunks), expected, rtol=0, atol=1e-12)
    assert counters["stats"]["unique_graphs"] == 2, "one for a single row, one for any more"
