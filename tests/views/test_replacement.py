"""A masked language model's guesses in the positives (Table 1, "MLM k = 15 %")."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from simcse_lit.cli.tasks import asks_hub
from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.errors import UserError
from simcse_lit.training.build import build
from simcse_lit.training.module import SimCSEModule
from simcse_lit.views import replacement as replacement_file
from simcse_lit.views.makers import on_device
from simcse_lit.views.replacement import Replacement, choose
from simcse_lit.views.view import resolve, set_up
from tests.cli.test_resume import outcome, run
from tests.cli.test_train import SHORT
from tests.conftest import Cli, train_config
from tests.encoders import ragged_batch, small_bert
from tests.training.test_two_views import module_of, step

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
LENGTHS = [4, 12, 3, 30, 7, 2, 21, 9]  # with a special token at either end; the sixth sentence is empty
FIRST, LAST, MASK = 1, 2, 4


class Tokenizer:
    mask_token_id = MASK
    all_special_ids = (0, FIRST, LAST, MASK)

    def __len__(self) -> int:
        return 90  # of a vocabulary of 100: the last rows of the matrix belong to no token


def language_model() -> BertForMaskedLM:
    """One that would best like to guess a special token or a row of none, and is in training mode."""
    model = small_bert(mlm=True)
    assert isinstance(model, BertForMaskedLM)
    with torch.no_grad():
        model.cls.predictions.bias[[0, FIRST, LAST, MASK, 95]] += 50
    model.train()
    return model


def replacement(rate: float = 0.15) -> Replacement:
    made = Replacement(rate)
    made.use(language_model(), Tokenizer())  # type: ignore[arg-type]
    return made


def views() -> tuple[Tensor, Tensor]:
    """(B, 2, L) ids and mask of sentences that are their own positives."""
    ids, mask = ragged_batch(LENGTHS)
    ids[:, 0] = FIRST
    ids[torch.arange(len(LENGTHS)), mask.sum(1) - 1] = LAST
    return torch.stack([ids, ids], 1), torch.stack([mask, mask], 1)


places = st.lists(st.booleans(), min_size=9, max_size=9)


@given(st.lists(places, min_size=1, max_size=5), st.floats(0.01, 0.99), st.integers())
def test_a_share_of_what_may_be_replaced_is_chosen_and_nothing_else(rows: list[list[bool]], rate: float, seed: int) -> None:
    replaceable = torch.tensor(rows)
    torch.manual_seed(seed % 2**63)
    chosen = choose(replaceable, rate)
    assert not (chosen & ~replaceable).any()
    for allowed, count in zip(replaceable.sum(1).tolist(), chosen.sum(1).tolist(), strict=True):
        assert count == min(allowed, 1) or abs(count - rate * allowed) <= 0.5 + 1e-5
        assert count >= min(allowed, 1)


def test_fifteen_percent_are_the_nearest_number_of_tokens_and_every_place_comes_up_alike() -> None:
    torch.manual_seed(0)
    replaceable = torch.ones(129, 128).tril(-1).bool()  # 0 to 128 tokens
    assert choose(replaceable, 0.15).sum(1).tolist() == [0, *(max(1, round(0.15 * tokens)) for tokens in range(1, 129))]
    share_L = choose(torch.ones(4000, 20, dtype=torch.bool), 0.15).double().mean(0)
    assert share_L.sum().item() == pytest.approx(3)
    assert (share_L - 0.15).abs().max() < 0.03


def test_chosen_tokens_of_the_positive_become_the_likeliest_that_are_not_special(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = views()
    before = ids.clone()
    makers = {1: [replacement(0.4)]}
    torch.manual_seed(5)
    replaced = on_device(makers, ids, mask)
    assert torch.equal(ids, before), "the batch that was given is changed"
    assert torch.equal(replaced[:, 0], before[:, 0]), "an anchor is changed"

    inner = mask[:, 1].bool() & (before[:, 1] > MASK)
    torch.manual_seed(5)
    chosen = choose(inner, 0.4)
    assert torch.equal(replaced[:, 1][~chosen], before[:, 1][~chosen])
    model = language_model().eval()
    for row, length in enumerate(LENGTHS):
        sentence = torch.where(chosen[row], MASK, before[row, 1])[None, :length]
        scores = model(input_ids=sentence).logits[0]  # alone, without padding
        best = 5 + scores[:, 5:90].argmax(1)
        assert torch.equal(replaced[row, 1, :length][chosen[row, :length]], best[chosen[row, :length]])
    assert (replaced[:, 1] != before[:, 1]).sum() > 0.8 * chosen.sum() > 10

    monkeypatch.setattr(replacement_file, "TOKENS", 1)  # a sentence a pass
    torch.manual_seed(5)
    assert torch.equal(on_device(makers, ids, mask), replaced)


@pytest.mark.parametrize(
    ("encoders", "mlm_weight", "settings"),
    [
        (1, 0.0, {}),
        (2, 0.0, {}),
        (1, 0.1, {"how": "always", "micro_batch_size": 2}),
        (1, 0.1, {"how": "packed"}),
    ],
)
def test_a_step_is_that_of_the_replaced_text(encoders: int, mlm_weight: float, settings: dict[str, Any]) -> None:
    """The objective of masked language modelling sees the replaced text too."""
    encoder = SentenceEncoder(small_bert(mlm=mlm_weight > 0), "avg", "mlp").double()
    second = second_encoder(encoder).double() if encoders == 2 else None
    plain, module = (module_of(encoder, second, mlm_weight=mlm_weight, **settings) for _ in range(2))
    module.makers = {1: [replacement()]}
    ids, mask = views()
    torch.manual_seed(7)
    loss = step(module, {"input_ids": ids, "attention_mask": mask})
    loss.backward()
    torch.manual_seed(7)
    same = step(plain, {"input_ids": on_device(module.makers, ids, mask), "attention_mask": mask})
    assert loss.item() == pytest.approx(same.item(), rel=1e-12)
    torch.manual_seed(7)
    assert loss.item() != step(plain, {"input_ids": ids, "attention_mask": mask}).item()


def test_the_language_model_is_frozen_and_no_part_of_the_module() -> None:
    encoder = SentenceEncoder(small_bert(), "avg", "mlp").double()
    plain, module = module_of(encoder), module_of(encoder)
    maker = replacement()
    module.makers = {1: [maker]}
    module.train()
    ids, mask = views()
    before = {name: value.clone() for name, value in maker.language_model.state_dict().items()}
    step(module, {"input_ids": ids, "attention_mask": mask}).backward()
    model = maker.language_model
    assert not any(part.training for part in model.modules())
    assert all(weight.grad is None and not weight.requires_grad for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(module.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_the_language_model_goes_where_the_batch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_tokens = replacement()
    monkeypatch.setattr(replace_tokens, "_guess", lambda masked, mask: masked)  # which reads the mask, and has no values
    ids, mask = views()
    assert replace_tokens(ids[:, 1].to("meta"), mask[:, 1].to("meta")).device.type == "meta"
    assert {weight.device.type for weight in replace_tokens.language_model.parameters()} == {"meta"}


def test_seed_step_and_rank_decide_what_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(SentenceEncoder(small_bert(), "avg", "mlp").double())
    ids, mask = views()
    replace_tokens = replacement(0.3)

    def drawn(seed: int, at: int, rank: int) -> Tensor:
        torch.rand(3)  # whatever was drawn before
        module.seed = seed
        monkeypatch.setattr(SimCSEModule, "global_step", at)
        monkeypatch.setattr(SimCSEModule, "global_rank", rank)
        module.on_train_batch_start({}, 0)
        return replace_tokens(ids[:, 1], mask[:, 1])

    first = drawn(1, 2, 3)
    assert torch.equal(drawn(1, 2, 3), first)
    assert not any(torch.equal(drawn(*other), first) for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A masked language model with the tiny backbone's tokenizer."""
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig.from_pretrained(TINY)).save_pretrained(tmp_path / "language_model")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "language_model")
    return tmp_path / "language_model"


def chosen_by(tokenizer: PreTrainedTokenizerFast, *changes: str) -> Replacement:
    config = train_config("data=samples", "loss=unsup", "augmentation=mlm", *changes)
    made = resolve(config.data, config.augmentation.makers)
    set_up(made, tokenizer, config.model, config.data.max_length)
    (maker,) = made[1].makers
    assert isinstance(maker, Replacement) and not made[0].makers
    return maker


def test_null_is_the_backbones_own_checkpoint_whole_and_with_its_head(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = chosen_by(tokenizer, f"model.name_or_path={folder}", "model.num_layers=1", "model.dropout=0.3")
    assert found.rate == 0.15
    theirs = BertForMaskedLM.from_pretrained(folder).state_dict()
    ours = found.language_model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    named = chosen_by(tokenizer, "model=tiny", f"augmentation.model={folder}")
    assert all(torch.equal(value, theirs[name]) for name, value in named.language_model.state_dict().items())


def test_a_model_without_a_head_is_refused(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    expected = rf"augmentation\.model: {folder}: has no language-modelling head(?s:.*)augmentation\.model=HUB_ID_OR_FOLDER"
    with pytest.raises(UserError, match=expected):
        chosen_by(tokenizer, f"model.name_or_path={folder}")
    with pytest.raises(UserError, match=expected):
        chosen_by(tokenizer, "model=tiny", f"augmentation.model={folder}")


def test_another_vocabulary_is_refused(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = description["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(UserError, match=rf"augmentation\.model: {folder}: has another vocabulary than .*samples/tiny"):
        chosen_by(tokenizer, "model=tiny", f"augmentation.model={folder}")


def test_too_few_positions_and_a_tokenizer_without_a_mask_token_are_refused(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    BertForMaskedLM(BertConfig.from_pretrained(TINY, max_position_embeddings=16)).save_pretrained(folder)
    with pytest.raises(UserError, match=r"data\.max_length=32: augmentation\.model=.* takes 16 tokens at most"):
        chosen_by(tokenizer, "model=tiny", f"augmentation.model={folder}", "data.max_length=32")
    tokenizer.mask_token = None
    with pytest.raises(UserError, match=r"augmentation=mlm: the tokenizer of .*tiny has no mask token"):
        chosen_by(tokenizer, "model=tiny", f"augmentation.model={folder}")


def test_training_is_given_the_language_model_that_the_configuration_names(folder: Path) -> None:
    settings = ("model=tiny", "data=samples", "senteval.from_hub=false", "trainer=cpu", "loss=unsup")
    module = build(
        train_config(*settings, "augmentation=mlm", "augmentation.rate=0.3", f"augmentation.model={folder}")
    ).module
    ((maker,),) = module.makers.values()
    assert isinstance(maker, Replacement) and maker.rate == 0.3 and list(module.makers) == [1]
    assert not build(train_config(*settings)).module.makers


def test_a_language_model_of_the_hub_is_asked_of_the_hub(folder: Path) -> None:
    local = ("model=tiny", "data=samples", "senteval.from_hub=false", "loss=unsup", "augmentation=mlm")
    assert not asks_hub("train", train_config(*local, f"augmentation.model={folder}"))
    assert asks_hub("train", train_config(*local, "augmentation.model=owner/name"))


@pytest.mark.long
def test_a_run_that_was_stopped_ends_as_one_that_was_not(cli: Cli, tmp_path: Path, folder: Path) -> None:
    settings = (*SHORT, "loss=unsup", "augmentation=mlm", f"augmentation.model={folder}", "data.max_length=24")
    short = ("trainer.max_steps=6", "evaluation.before=false", "evaluation.test=false")

    def start(name: str, *changes: str) -> Any:
        return run(cli, tmp_path / name, *short, f"hydra.run.dir={name}", *changes, settings=settings)

    done = start("whole")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr
    stop = ("+callbacks.signal._target_=of_this_test.Signal", "+callbacks.signal.step=3")
    stopped = start("stopped", *stop, f"+callbacks.signal.number={int(signal.SIGTERM)}")
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    resumed = start("stopped", "resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "from step 3" in resumed.stdout
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")

    kept = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.partition(".")[0] for name in kept["state_dict"]} == {"encoder"}
    assert len(kept["optimizer_states"][0]["state"]) <= len(kept["state_dict"])
