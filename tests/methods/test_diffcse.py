"""DiffCSE: the loss of replaced tokens against a loop over sentences, what is masked, and its two encoders and its head."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, ElectraConfig, ElectraModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import in_slots, pack
from simcse_lit.errors import UserError
from simcse_lit.methods.batch_norm_head import BatchNormMLP
from simcse_lit.methods.diffcse import Discriminator, ReplacedTokens
from simcse_lit.methods.frozen import LanguageModel, Unregistered
from simcse_lit.objective.mlm import Masking
from simcse_lit.objective.step import Step
from simcse_lit.testing import check_head, check_micro_batches, check_packing, check_processes, check_term
from simcse_lit.testing.small_run import SETTINGS, VOCABULARY, Trained, batch_of, roles_of
from simcse_lit.training.build import build_objective
from tests.conftest import train_config
from tests.encoders import ragged_batch, small_bert

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
BESIDE = {
    "discriminator": {"_target_": "simcse_lit.methods.diffcse.Discriminator"},
    "generator": {"_target_": f"{__name__}.RandomGenerator"},
}


class RandomGenerator(Unregistered):
    """A language model with random weights, which guesses a part of the original tokens."""

    def setup(self, encoder: SentenceEncoder, tokenizer: Any) -> None:
        with torch.random.fork_rng(devices=[]):
            model = cast(BertForMaskedLM, small_bert(mlm=True, layers=1)).float()
            with torch.no_grad():
                model.bert.embeddings.word_embeddings.weight.mul_(5)
                model.cls.predictions.transform.dense.weight.copy_(torch.eye(32))
        self.hold(SentenceEncoder(model, "cls", "none"))


class FixedMasking(Masking):
    """Masks tokens by their ids, so that two processes mask what one would."""

    def forward(self, ids_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        return ids_NL.masked_fill((ids_NL % 3 == 0) & mask_NL.bool(), self.mask_token_id), ids_NL


class Fixed(ReplacedTokens):
    """Draws no masks."""

    def __init__(self, rate: float, *arguments: Any, **more: Any) -> None:
        super().__init__(rate, *arguments, **more)
        self.masking = FixedMasking(rate)


def trained(make: Any, **settings: Any) -> tuple[Trained, Step, Tensor]:
    """A module with this term after a step, the step, and the loss."""
    settings = {**SETTINGS, "roles": roles_of(2), "beside": BESIDE, **settings}
    model = Trained(make, **settings).double()
    loss = model(batch_of(2))
    assert model.trained._step is not None
    return model, model.trained._step, loss


@pytest.mark.parametrize("over", ["attended", "all"])
def test_it_is_the_mean_cross_entropy_of_a_loop_over_sentences(over: str) -> None:
    model, step, loss = trained(partial(Fixed, 0.3, over), head="batch_norm")
    term = cast(Fixed, model.trained.objective.terms["term"])
    discriminator = cast(Any, model.trained.beside["discriminator"]).encoder.backbone
    generator = cast(Any, model.trained.beside["generator"]).encoder.language_model
    total, slots, replaced = 0.0, 0, 0
    longest = step.ids_BVL.shape[2]
    for ids, mask, z in zip(
        step.ids_BVL.flatten(0, 1), step.mask_BVL.flatten(0, 1), step.vectors_BVD.flatten(0, 1), strict=True
    ):
        length = int(mask.sum())
        masked = torch.tensor([term.masking.mask_token_id if token % 3 == 0 else token for token in ids[:length].tolist()])
        guess = generator(input_ids=masked[None]).logits[0].argmax(1).tolist()
        tokens = [int(ids[0]), *guess[1:]]
        labels = [int(token != int(own)) for token, own in zip(tokens, ids[:length], strict=True)]
        extra = longest - length if over == "all" else 0
        embedded = discriminator.embeddings(torch.tensor([[*tokens, *[0] * extra]])).clone()
        embedded[0, 0] = z
        seen = torch.zeros(1, 1, length + extra, length + extra, dtype=torch.float64)
        seen[..., length:] = -math.inf
        states = discriminator.encoder(embedded, attention_mask=seen).last_hidden_state[0]
        logs = term.classifier(states).log_softmax(1)
        total -= sum(float(logs[place, label].detach()) for place, label in enumerate([*labels, *[0] * extra]))
        slots += length + extra
        replaced += sum(labels)
    assert 0.2 < replaced / int(step.mask_BVL.sum()) < 0.8
    assert float(loss.detach()) == pytest.approx(total / slots, rel=1e-9)
    numbers = term(step)[1]
    assert float(numbers["replaced"]) == pytest.approx(replaced / slots)


def test_it_holds_what_a_term_must_with_the_head_of_batch_statistics() -> None:
    check_term(partial(ReplacedTokens, 0.3), views=2, draws=True, beside=BESIDE, head="batch_norm")


def test_two_processes_have_the_gradient_of_one() -> None:
    check_processes(partial(Fixed, 0.3), views=2, beside=BESIDE, head="batch_norm")


def test_counting_padding_is_exact_with_micro_batches_and_packing_too() -> None:
    make = partial(Fixed, 0.3, "all", before_head=True)
    check_micro_batches(make, views=2, beside=BESIDE)
    check_packing(make, views=2, beside=BESIDE)


@pytest.mark.parametrize("over", ["attended", "all"])
def test_the_gradient_reaches_the_encoder_through_the_vector_only(over: str) -> None:
    model, step, loss = trained(partial(Fixed, 0.3, over))
    loss.backward()
    weights = [weight for weight in model.trained.encoder.parameters() if weight.requires_grad]
    assert all(weight.grad is not None for weight in weights) and any(weight.grad.any() for weight in weights)  # type: ignore[union-attr]
    assert all(weight.grad is not None for weight in model.trained.beside["discriminator"].parameters())
    model.zero_grad()
    cut, _ = model.trained.objective.terms["term"](replace(step, vectors_BVD=step.vectors_BVD.detach()))
    cut.backward()
    assert all(weight.grad is None for weight in weights)


def test_before_the_head_the_head_has_no_gradient() -> None:
    model, _, loss = trained(partial(Fixed, 0.3, before_head=True))
    loss.backward()
    head = cast(Any, model.trained.encoder.projection)
    assert all(weight.grad is None for weight in head.parameters())
    assert model.trained.encoder.backbone.get_input_embeddings().weight.grad is not None


def test_a_share_of_the_ordinary_tokens_is_masked() -> None:
    term = ReplacedTokens(0.3)
    term.setup(8, VOCABULARY)
    torch.manual_seed(0)
    ids_NL, mask_NL = torch.randint(0, 100, (500, 20)), torch.ones(500, 20, dtype=torch.long)
    mask_NL[:, 15:] = 0
    changed_NL, _ = term.masking(ids_NL, mask_NL)
    ordinary_NL = mask_NL.bool() & ~torch.isin(ids_NL, torch.tensor(VOCABULARY.special_ids))
    assert torch.equal(changed_NL[~ordinary_NL], ids_NL[~ordinary_NL])
    ordinary_NL &= ids_NL != 4  # VOCABULARY.mask_token_id
    share = changed_NL[ordinary_NL].eq(4).double().mean()
    assert 0.22 < float(share) < 0.26  # 80 % of 30 %


def test_the_discriminator_is_a_copy_of_the_backbone_that_nothing_shares() -> None:
    encoder = SentenceEncoder(small_bert(mlm=True), "avg", "mlp")
    beside = Discriminator()
    beside.setup(encoder, cast(Any, None))
    copy, own = beside.encoder.state_dict(), encoder.backbone.state_dict()
    assert set(copy) == {f"backbone.{name}" for name in own}  # neither head nor language-modelling head
    for name, value in own.items():
        assert torch.equal(copy[f"backbone.{name}"], value) and copy[f"backbone.{name}"] is not value
    assert all(weight.requires_grad for weight in beside.parameters())


def test_a_backbone_with_embeddings_of_another_size_is_refused() -> None:
    config = ElectraConfig(vocab_size=100, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    with pytest.raises(UserError, match="a backbone of type electra cannot be a discriminator"):
        Discriminator().setup(SentenceEncoder(ElectraModel(config), "cls", "none"), cast(Any, None))


@pytest.fixture
def language_model(tmp_path: Path) -> str:
    """The folder of a masked language model with the tokenizer of `model=tiny`."""
    BertForMaskedLM(BertConfig.from_pretrained(TINY)).save_pretrained(tmp_path / "lm")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "lm")
    return str(tmp_path / "lm")


def test_the_generator_has_dropout_unless_that_is_off_and_nothing_of_it_is_saved_or_trained(language_model: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(TINY)
    ids_NL, mask_NL = ragged_batch([8, 5])
    for dropout in (True, False):
        generator = LanguageModel(language_model, dropout=dropout)
        generator.setup(SentenceEncoder(small_bert(), "cls", "none"), tokenizer)
        generator.train()
        first, second = (generator.encoder.mlm_logits(ids_NL, mask_NL) for _ in range(2))
        assert torch.equal(first, second) != dropout and not first.requires_grad
        assert not generator.state_dict() and not list(generator.parameters())


def test_a_generator_of_other_words_or_without_a_head_is_refused(language_model: str, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens(["anewword"])
    encoder = SentenceEncoder(small_bert(), "cls", "none")
    with pytest.raises(UserError, match=r"loss\.beside: .*lm: has another vocabulary than the trained model"):
        LanguageModel(language_model).setup(encoder, tokenizer)
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(language_model)
    with pytest.raises(UserError, match="has no language-modelling head"):
        LanguageModel(language_model).setup(encoder, tokenizer)


def test_an_encoder_that_is_not_packed_gives_what_the_slots_of_another_need() -> None:
    ids_NL, mask_NL = ragged_batch([8, 5, 3])
    packing = pack(mask_NL, 8)
    states = in_slots(lambda ids, mask, none: ids[..., None].double(), False, ids_NL, mask_NL, packing)
    filled_RW = packing.sentences_RW >= 0
    assert torch.equal(states[filled_RW], packing.pack(ids_NL, 0)[filled_RW][:, None].double())


def test_a_rate_that_is_no_share_and_an_unknown_mean_are_refused() -> None:
    with pytest.raises(ValueError, match="rate=0: must be greater than 0"):
        ReplacedTokens(0)
    with pytest.raises(ValueError, match="over=some: must be attended or all"):
        ReplacedTokens(0.3, "some")


def test_the_head_holds_what_a_head_must_and_is_that_of_the_paper() -> None:
    check_head("batch_norm")
    head = BatchNormMLP(6).double()
    vectors = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, last = (cast(Tensor, head.layers[place].weight) for place in (0, 3))

    def normal(rows: Tensor) -> Tensor:
        return (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()

    torch.testing.assert_close(head(vectors), normal(normal(vectors @ first.T).relu() @ last.T))
    assert len(list(head.parameters())) == 4  # two matrices, and a scale and a shift of the first normalisation


@pytest.mark.parametrize(
    ("model", "lr", "rate", "generator"),
    [("bert-base", 7e-6, 0.3, "distilbert-base-uncased"), ("roberta-base", 1e-5, 0.2, "distilroberta-base")],
)
def test_the_loss_of_that_name_selects_head_encoders_and_recipe(model: str, lr: float, rate: float, generator: str) -> None:
    config = train_config("loss=diffcse", f"model={model}")
    objective = build_objective(config)
    assert list(objective.terms) == ["contrastive", "replaced"]
    assert objective.weights == {"contrastive": 1.0, "replaced": 0.005}
    term = cast(ReplacedTokens, objective.terms["replaced"])
    assert (term.masking.probability, term.over, term.before_head) == (rate, "attended", False)
    assert config.loss.beside["generator"]["checkpoint"] == f"distilbert/{generator}"
    assert config.projection == {"name": "batch_norm", "when": "training"}
    assert (config.optimizer.lr, config.data.batch_size, config.trainer.max_epochs) == (lr, 64, 2)
