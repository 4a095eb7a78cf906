"""ESimCSE: which tokens and words are repeated and how often, and the average of the backbone with the live head."""

from collections import Counter
from random import Random
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.methods.esimcse import RepeatTokens, RepeatWords
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.queue import Queue
from simcse_lit.testing import check_processes, check_resume
from simcse_lit.training.beside import Momentum
from simcse_lit.training.build import build_objective
from simcse_lit.views.encoded import EncodedViews
from simcse_lit.views.view import View
from tests.conftest import train_config
from tests.encoders import small_bert

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
MOMENTUM = {"slow": {"_target_": "simcse_lit.training.beside.Momentum", "decay": 0.5, "live_head": True}}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)  # type: ignore[return-value]


def tokens(rate: float, special: int = 2) -> RepeatTokens:
    maker = RepeatTokens(rate)
    maker.special = special
    return maker


@given(st.integers(1, 40), st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_each_token_is_kept_and_repeated_at_most_once_in_its_place(length: int, rate: float, seed: int) -> None:
    changed = tokens(rate)(list(range(length)), Random(seed))
    assert changed == sorted(changed) and set(changed) == set(range(length))
    assert max(Counter(changed).values()) <= 2


@pytest.mark.parametrize(
    ("length", "rate", "most"),
    [(30, 0.32, 9), (20, 0.32, 6), (4, 0.32, 0), (5, 0.32, 1), (1, 0.9, 1), (30, 0.28, 7)],
)
def test_the_number_of_repeated_tokens_is_uniform_below_the_share_of_all_tokens(length: int, rate: float, most: int) -> None:
    """min(10, floor(rate x length with specials)) - 1: 10.24, 7.04, 1.92, 2.24, 2.7 and 8.96 before they are rounded."""
    maker = tokens(rate)
    numbers = Counter(len(maker(list(range(length)), Random(seed))) - length for seed in range(600))
    assert set(numbers) == set(range(most + 1))
    assert min(numbers.values()) > 0.5 * 600 / (most + 1)


def test_a_text_is_cut_first_and_then_grows_with_its_special_tokens_at_the_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = RepeatTokens(0.9)
    maker.setup(tokenizer)
    views = EncodedViews([View(0, "anchor"), View(0, "positive", None, (maker,))], tokenizer, 12)
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    kept = tokenizer(text, truncation=True, max_length=12)["input_ids"]
    longest = 0
    for seed in range(200):
        (ids,) = views.made_ids({0: [text]}, lambda example, view, seed=seed: Random(seed))["view1"].to_pylist()  # type: ignore[misc]
        longest = max(longest, len(ids))
        assert [token for place, token in enumerate(ids) if place == 0 or token != ids[place - 1]] == kept
        assert (ids.count(tokenizer.cls_token_id), ids.count(tokenizer.sep_token_id)) == (1, 1)
    assert longest == views.longest - 12 + len(kept) == 21  # min(10, 0.9 x 12) - 1 more than 12
    assert views.unchanged(1, text, Never()) and not views.unchanged(1, text, Random(1))


class Never(Random):
    """Draws 0."""

    def randrange(self, *arguments: Any) -> int:
        return 0


def test_words_are_repeated_by_the_rule_of_the_paper_in_any_script(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = RepeatWords(0.32)
    maker.setup(tokenizer)
    for words, most in (("a b", 2), ("a b c d e f g h i j", 3)):
        found = Counter(len(maker(words, Random(seed)).split()) - len(words.split()) for seed in range(400))
        assert set(found) == set(range(most + 1))
    chinese = {maker("我们去公园", Random(seed)) for seed in range(20)}
    assert all(" " not in each and len(each) >= 5 for each in chinese) and len(chinese) > 2


def test_a_rate_that_is_no_share_is_refused() -> None:
    for maker in (RepeatTokens, RepeatWords):
        with pytest.raises(ValueError, match=r"rate=1\.5: must be greater than 0 and below 1"):
            maker(1.5)


def test_the_backbone_is_averaged_and_the_head_is_the_live_one() -> None:
    encoder = SentenceEncoder(small_bert(), "cls", "mlp")
    momentum = Momentum(0.5, live_head=True)
    momentum.setup(encoder, None)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in momentum.encoder.named_parameters()}
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
        momentum.after_step(encoder)
    for name, value in momentum.encoder.named_parameters():
        torch.testing.assert_close(value, before[name] + (1.0 if name.startswith("projection.") else 0.5))


def with_queue() -> InfoNCE:
    return InfoNCE(0.05, negatives={"queue": Queue(10, role="anchor", encoder="slow")})


def test_the_queue_of_anchors_is_the_same_with_two_processes_and_after_a_resume() -> None:
    check_processes(with_queue, views=2, beside=MOMENTUM)
    check_resume(with_queue, views=2, beside=MOMENTUM)


@pytest.mark.parametrize(
    ("model", "lr", "rate", "size", "dropout"),
    [
        ("bert-base", 3e-5, 0.32, 160, None),
        ("bert-large", 1e-5, 0.32, 160, None),
        ("roberta-base", 1e-5, 0.30, 160, None),
        ("roberta-large", 1e-5, 0.28, 128, 0.15),
    ],
)
def test_the_loss_alone_selects_the_values_of_the_official_code(
    model: str, lr: float, rate: float, size: int, dropout: float | None
) -> None:
    config = train_config("loss=esimcse", f"model={model}")
    assert (config.optimizer.lr, config.data.batch_size, config.model.dropout) == (lr, 64, dropout)
    assert (config.augmentation.name, config.augmentation.rate) == ("token_repetition", rate)
    assert config.augmentation.makers == [{"_target_": "simcse_lit.methods.esimcse.RepeatTokens", "rate": rate}]
    assert config.loss.beside["momentum"] == {
        "_target_": "simcse_lit.training.beside.Momentum", "decay": 0.995, "live_head": True
    }  # fmt: skip
    queue = cast(Any, build_objective(config).terms["contrastive"]).negatives["queue"]
    assert (queue.size, queue.role, queue.encoder) == (size, "anchor", "momentum")
