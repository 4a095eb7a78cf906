"""SentenceEncoder: what is projected when, how the projection starts, and that dropout is on in training."""

import pytest
import torch

from simcse_lit.data.lengths import length_chunks
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import MLP
from simcse_lit.errors import UserError
from simcse_lit.training.chunking import encode_in_chunks, plan
from tests.encoders import ragged_batch, small_bert

LENGTHS = [4, 12, 4, 30, 7, 12, 3]


@pytest.mark.parametrize(
    ("projection", "training", "evaluation"), [("mlp", True, True), ("mlp_train_only", True, False), ("none", False, False)]
)
def test_projection_is_applied_where_its_name_says(projection: str, training: bool, evaluation: bool) -> None:
    encoder = SentenceEncoder(small_bert(), "cls", projection).double().eval()
    ids, mask = ragged_batch(LENGTHS)
    pooled = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    projected = pooled
    if encoder.projection is not None:
        assert isinstance(encoder.projection, MLP)
        dense = encoder.projection.dense
        projected = torch.tanh(pooled @ dense.weight.T + dense.bias)
    torch.testing.assert_close(encoder(ids, mask), projected if training else pooled)
    torch.testing.assert_close(encoder.embed(ids, mask), projected if evaluation else pooled)


def test_projection_starts_fresh_and_the_pretrained_pooler_is_gone() -> None:
    torch.manual_seed(0)
    projection = MLP(512)
    assert projection.dense.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert projection.dense.weight.mean().abs().item() < 1e-3
    assert not projection.dense.bias.any()
    backbone = small_bert()
    theirs = dict(backbone.named_parameters())["pooler.dense.weight"].clone()
    encoder = SentenceEncoder(backbone, "cls", "mlp")
    assert isinstance(encoder.projection, MLP)
    assert not torch.equal(encoder.projection.dense.weight.double(), theirs)
    assert not any("pooler" in name for name, _ in encoder.named_parameters())


def test_two_views_of_a_sentence_differ_in_training_and_agree_in_evaluation() -> None:
    encoder = SentenceEncoder(small_bert().eval(), "cls", "none")  # as from_pretrained returns it: in evaluation mode
    ids, mask = ragged_batch(LENGTHS)
    assert not torch.allclose(encoder(ids, mask), encoder(ids, mask))
    assert torch.equal(encoder.eval()(ids, mask), encoder(ids, mask))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match=r"pooler\.name=mean: not one of .*avg_top2"):
        SentenceEncoder(small_bert(), "mean", "none")
    with pytest.raises(UserError, match=r"projection\.name=linear: not one of .*mlp_train_only"):
        SentenceEncoder(small_bert(), "cls", "linear")
    with pytest.raises(ValueError, match="language-modelling head"):
        SentenceEncoder(small_bert(), "cls", "none").mlm_logits(*ragged_batch(LENGTHS))


def test_masked_language_model_shares_its_encoder_with_the_contrastive_objective() -> None:
    model = small_bert(mlm=True).eval()
    encoder = SentenceEncoder(model, "cls", "none").eval()
    ids, mask = ragged_batch(LENGTHS)
    torch.testing.assert_close(encoder.mlm_logits(ids, mask), model(input_ids=ids, attention_mask=mask).logits)
    assert encoder.backbone is model.base_model
    names = [name for name, _ in encoder.named_parameters()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("how", ["always", "never"])
@pytest.mark.parametrize("limit", [None, 2, 3])
@pytest.mark.parametrize("keep", [None, 0, 40])
def test_chunks_give_the_same_vectors_and_gradients_as_one_padded_batch(
    how: str, limit: int | None, keep: int | None
) -> None:
    encoder = SentenceEncoder(small_bert(), "avg", "mlp").double().eval()
    ids, mask = ragged_batch(LENGTHS)
    target = torch.randn(len(LENGTHS), 32, dtype=torch.float64)

    def gradients(vectors: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((vectors * target).sum(), list(encoder.parameters())))

    chunks = plan(mask, how, limit=limit, overhead=96)
    assert limit is None or max(len(chunk.rows_n) for chunk in chunks) == limit
    whole, chunked = encoder(ids, mask), encode_in_chunks(encoder, ids, mask, chunks, keep=keep)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(chunked), gradients(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_chunking_is_the_cheapest_of_all_cuts() -> None:
    def cost(ordered: list[int], sizes: list[int], overhead: int) -> int:
        total, start = 0, 0
        for size in sizes:
            total += ordered[start] * size + overhead
            start += size
        return total

    def all_cuts(count: int) -> list[list[int]]:
        if count == 0:
            return [[]]
        return [[first, *rest] for first in range(1, count + 1) for rest in all_cuts(count - first)]

    for lengths in ([5], LENGTHS, [3, 3, 3, 3], [32, 1, 1, 1, 1, 1, 1, 1, 9]):
        ordered = sorted(lengths, reverse=True)
        for overhead in (0, 4, 1000):
            sizes = length_chunks(lengths, overhead)
            assert sum(sizes) == len(lengths)
            assert cost(ordered, sizes, overhead) == min(cost(ordered, cut, overhead) for cut in all_cuts(len(lengths)))
    assert length_chunks(LENGTHS, 1000) == [len(LENGTHS)]
