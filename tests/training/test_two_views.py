"""How the views of a batch are encoded: by one encoder or two, under one dropout mask or two. Tables 2 and 3."""

from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.testing.small_run import roles_of
from simcse_lit.training.chunking import Chunking
from simcse_lit.training.module import SimCSEModule
from tests.encoders import objective_of, ragged_batch, small_bert

LENGTHS = [4, 12, 4, 30, 7, 12, 3, 9]


def module_of(encoder: SentenceEncoder, second: SentenceEncoder | None = None, **changes: Any) -> Any:
    """A module whose training step logs nothing."""
    settings = {"mlm_weight": 0.0, "similarity": "cosine", "how": "never", "micro_batch_size": None, **changes}
    objective = objective_of(mlm_weight=settings.pop("mlm_weight"), similarity=settings.pop("similarity"))
    how, micro_batch_size = settings.pop("how"), settings.pop("micro_batch_size")
    module: Any = SimCSEModule(
        encoder,
        objective,
        chunking=Chunking(how, 96, micro_batch_size),
        optimisation=None,  # type: ignore[arg-type]
        scorer=None,  # type: ignore[arg-type]
        made_of={},
        seed=0,
        roles=(),  # of the batch: see `step`
        second_encoder=second,
        **settings,
    )
    module._log_loss = lambda name, loss: None
    return module


def batch_of(*views: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    ids, mask = (torch.stack(parts, 1) for parts in zip(*views, strict=True))
    return {"input_ids": ids, "attention_mask": mask}


def step(module: Any, batch: dict[str, Tensor]) -> Tensor:
    module.roles = roles_of(batch["input_ids"].shape[1])
    loss: Tensor = module.training_step(module.on_before_batch_transfer(batch, 0), 0)
    return loss


def gradients(loss: Tensor, *encoders: SentenceEncoder) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [p for encoder in encoders for p in encoder.parameters() if p.requires_grad]))


def test_fixed_dropout_is_the_same_random_state_for_both_views() -> None:
    """The reference encodes each view, with the random state set back between them."""
    encoder = SentenceEncoder(small_bert(), "avg", "mlp").double()
    view = ragged_batch(LENGTHS)
    vectors = []
    for _ in range(2):
        torch.manual_seed(7)
        vectors.append(encoder(*view))
    expected = contrastive_loss(contrastive_logits(*vectors, temperature=0.05))
    torch.manual_seed(7)
    loss = step(module_of(encoder, fixed_dropout=True), batch_of(view, view))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, encoder), gradients(expected, encoder), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.manual_seed(7)
    assert not torch.allclose(step(module_of(encoder), batch_of(view, view)), expected)


@pytest.mark.parametrize("chunks", [{"how": "always"}, {"micro_batch_size": 3}])
def test_fixed_dropout_holds_in_chunks_and_each_sentence_has_a_mask_of_its_own(chunks: dict[str, Any]) -> None:
    encoder = SentenceEncoder(small_bert(), "avg", "none").double()
    view = ragged_batch([9] * 6)
    alike = tuple(part[:1].expand(6, -1) for part in view)  # one sentence six times
    batch = batch_of(alike, alike)  # type: ignore[arg-type]
    module = module_of(encoder, fixed_dropout=True, **chunks)
    mask = batch["attention_mask"]
    _, vectors_BVH = module._views(batch["input_ids"], mask, module.chunking.plan(mask))
    assert torch.equal(vectors_BVH[:, 0], vectors_BVH[:, 1])
    assert len({tuple(row) for row in vectors_BVH[:, 0].tolist()}) == 6


@pytest.mark.parametrize("chunks", [{}, {"how": "always"}, {"micro_batch_size": 3}])
def test_the_second_encoder_encodes_positives_and_hard_negatives(chunks: dict[str, Any]) -> None:
    first = SentenceEncoder(small_bert(), "cls", "mlp").double().eval()
    second = second_encoder(first).double().eval()
    with torch.no_grad():
        next(second.backbone.parameters()).mul_(1.5)
    ids, mask = ragged_batch(LENGTHS * 3)
    views = list(zip(ids.split(8), mask.split(8), strict=True))
    expected = contrastive_loss(contrastive_logits(first(*views[0]), second(*views[1]), second(*views[2]), temperature=0.05))
    loss = step(module_of(first, second, **chunks), batch_of(*views))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, first, second), gradients(expected, first, second), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_second_encoder_starts_from_the_same_backbone_with_its_own_projection() -> None:
    first = SentenceEncoder(small_bert(), "cls", "mlp")
    second = second_encoder(first)
    theirs = dict(first.named_parameters())
    for name, parameter in second.named_parameters():
        assert parameter is not theirs[name]
        assert torch.equal(parameter, theirs.pop(name)) == (name != "projection.dense.weight"), name
    assert not theirs


def test_the_dot_product_reaches_the_training_step() -> None:
    encoder = SentenceEncoder(small_bert(), "avg", "mlp").double().eval()
    views = [ragged_batch(LENGTHS, 30), ragged_batch(LENGTHS[::-1], 30)]
    a, b = encoder(*views[0]), encoder(*views[1])
    expected = torch.nn.functional.cross_entropy(a @ b.T / 0.05, torch.arange(len(LENGTHS)))
    torch.testing.assert_close(step(module_of(encoder, similarity="dot"), batch_of(*views)), expected)
