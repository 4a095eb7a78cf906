"""The language-modelling head, sharing the word embeddings or with a copy of them: against that of the paper's code."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM
from transformers.models.bert.modeling_bert import BertLMPredictionHead

from simcse_lit.encoder.backbone import untie_head
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.objective.mlm import IGNORED, mask_tokens
from simcse_lit.training.build import build
from simcse_lit.training.module import SimCSEModule
from tests.conftest import train_config
from tests.encoders import ragged_batch, small_bert
from tests.objective.test_gather import MASKING
from tests.training.test_two_views import batch_of, module_of, step

LENGTHS = [9, 5, 7, 12]
SETTINGS = ("model=tiny", "data=samples", "senteval.from_hub=false", "senteval.dir=null", "loss.mlm_weight=0.1")


def head_and_words(model: Any) -> tuple[Tensor, Tensor]:
    return model.get_output_embeddings().weight, model.get_input_embeddings().weight


def test_loss_and_gradients_are_those_of_a_head_that_copies_the_word_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the paper's code the head is a BertLMPredictionHead of its own, which loads the weights of the checkpoint's."""
    torch.manual_seed(0)
    masked = mask_tokens(
        ragged_batch(LENGTHS)[0], ragged_batch(LENGTHS)[1].bool(), mask_token_id=4, vocab_size=100, probability=0.4
    )
    monkeypatch.setattr(MASKING, lambda *arguments, **options: tuple(part.repeat_interleave(2, 0) for part in masked))
    model = small_bert(mlm=True)
    assert isinstance(model, BertForMaskedLM)
    theirs, words = copy.deepcopy(model.bert).eval(), model.bert.embeddings.word_embeddings.weight
    lm_head = BertLMPredictionHead(model.config).double()
    lm_head.load_state_dict(model.cls.predictions.state_dict())
    untie_head(model)
    encoder = SentenceEncoder(model, "avg", "none").double().eval()
    view = ragged_batch(LENGTHS)
    batch = batch_of(view, view)
    plain, loss = (step(module_of(encoder, mlm_weight=weight), batch) for weight in (0.0, 0.1))

    logits = lm_head(theirs(masked[0], attention_mask=view[1]).last_hidden_state)
    mlm = F.cross_entropy(logits.flatten(0, 1), masked[1].flatten(), ignore_index=IGNORED)
    assert (loss - plain).item() == pytest.approx(0.1 * mlm.item(), rel=1e-12)
    ours = torch.autograd.grad(loss - plain, [model.cls.predictions.decoder.weight, words])
    other = torch.autograd.grad(0.1 * mlm, [lm_head.decoder.weight, theirs.embeddings.word_embeddings.weight])
    for got, expected in zip(ours, other, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(ours[0], ours[1])


def test_of_a_shared_head_the_gradient_is_the_sum_of_both() -> None:
    def gradient(tied: bool) -> tuple[Tensor, list[Tensor]]:
        model = small_bert(mlm=True).eval()
        if not tied:
            untie_head(model)
        ids, mask = ragged_batch(LENGTHS)
        loss = F.cross_entropy(model(ids, attention_mask=mask).logits.flatten(0, 1), ids.flatten())
        weights = list({id(weight): weight for weight in head_and_words(model)}.values())
        return loss.detach(), list(torch.autograd.grad(loss, weights))

    (shared_loss, shared), (own_loss, own) = gradient(tied=True), gradient(tied=False)
    assert (len(shared), len(own)) == (1, 2)
    assert torch.equal(shared_loss, own_loss)  # at the start the copy is the same
    torch.testing.assert_close(shared[0], own[0] + own[1], rtol=0, atol=1e-12)


def built(*changes: str) -> SimCSEModule:
    torch.manual_seed(0)
    return build(train_config(*SETTINGS, *changes)).module


@pytest.mark.parametrize("tied", [True, False])
def test_the_optimiser_trains_the_head_apart_from_the_embeddings_or_with_them(tied: bool) -> None:
    module = built(f"loss.mlm_tied={str(tied).lower()}", "loss=unsup")
    head, words = head_and_words(module.encoder.language_model)
    assert (head is words) == tied and torch.equal(head, words)
    optimizer = module.optimisation.configured({1.0: [p for p in module.parameters() if p.requires_grad]}, 10)["optimizer"]
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sum(parameter is head for parameter in trained) == sum(parameter is words for parameter in trained) == 1
    ids, mask = ragged_batch(LENGTHS)
    logits = module.encoder.mlm_logits(ids, mask)
    F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    optimizer.step()
    assert torch.equal(head, words) == tied


def test_what_a_checkpoint_holds_comes_back_into_both() -> None:
    stopped, going_on = (built("loss.mlm_tied=false") for _ in range(2))
    head, words = head_and_words(stopped.encoder.language_model)
    with torch.no_grad():
        head.mul_(2.0)
        words.add_(1.0)
    going_on.load_state_dict(stopped.state_dict())
    for got, expected in zip(head_and_words(going_on.encoder.language_model), (head, words), strict=True):
        assert torch.equal(got, expected)


def test_with_lora_the_heads_copy_is_trained_and_the_embeddings_are_frozen() -> None:
    head, words = head_and_words(built("loss.mlm_tied=false", "adapter=lora").encoder.language_model)
    assert head.requires_grad and not words.requires_grad
    head, words = head_and_words(built("adapter=lora").encoder.language_model)
    assert head is words and not head.requires_grad


@pytest.mark.parametrize(
    "model",
    [
        RobertaForMaskedLM(RobertaConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)),
        DistilBertForMaskedLM(DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=16)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_other_architectures_give_their_heads_up_too(model: Any) -> None:
    model.eval()
    ids = torch.arange(5, 15).view(2, 5)
    before = model(ids).logits
    untie_head(model)
    head, words = head_and_words(model)
    assert head is not words and torch.equal(model(ids).logits, before)
    with torch.no_grad():
        head.zero_()
    assert words.abs().sum() > 0 and not torch.equal(model(ids).logits, before)


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.mlm_tied=false: the head of BertModel shares no weights"):
        untie_head(small_bert())
