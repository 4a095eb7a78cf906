"""The MLM objective against transformers' own loss and BERT's masking rule."""

import pytest
import torch

from simcse_lit.objective.mlm import IGNORED, mask_tokens, mlm_loss
from tests.encoders import ragged_batch, small_bert


def test_mlm_loss_equals_the_loss_that_transformers_computes() -> None:
    model = small_bert(mlm=True).eval()
    ids, mask = ragged_batch([9, 5, 7])
    torch.manual_seed(3)
    corrupted, labels = mask_tokens(ids, mask.bool(), mask_token_id=4, vocab_size=100, probability=0.4)
    output = model(input_ids=corrupted, attention_mask=mask, labels=labels)
    assert mlm_loss(output.logits, labels).item() == pytest.approx(output.loss.item(), rel=1e-6)


def test_masking_follows_berts_rule() -> None:
    ids = torch.full((200, 500), 50)
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, :100] = False
    torch.manual_seed(0)
    corrupted, labels = mask_tokens(ids, maskable, mask_token_id=4, vocab_size=100, probability=0.15)
    chosen = labels != IGNORED
    assert not chosen[:, :100].any()
    assert (labels[chosen] == 50).all()
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert chosen[:, 100:].float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (corrupted[chosen] == 4).float().mean().item() == pytest.approx(0.8 + 0.1 / 100, abs=0.015)
    assert (corrupted[chosen] == 50).float().mean().item() == pytest.approx(0.1 + 0.1 / 100, abs=0.01)
    others = corrupted[chosen & (corrupted != 4) & (corrupted != 50)]
    assert len(others.unique()) == 98


def test_loss_and_gradient_are_zero_when_no_token_is_chosen() -> None:
    logits = torch.randn(2, 3, 11, requires_grad=True)
    loss = mlm_loss(logits, torch.full((2, 3), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()
