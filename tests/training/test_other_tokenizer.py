"""An encoder beside the trained one that has another tokenizer: it reads the same texts, in token ids of its own."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.methods.frozen import Frozen
from simcse_lit.training.build import build
from simcse_lit.training.step_passes import passes_of
from tests.conftest import Cli, metrics, train_config

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
WORDS = ["water", "river", "stone", "house", "green", "early", "people", "market"]
ASKED = (
    *(
        "loss=rankcse",
        "model=tiny",
        "data=file",
        "data.batch_size=8",
        "trainer=cpu",
        "senteval.from_hub=false",
        "analyses=[]",
    ),
    *("tasks=[]", "tasks@dev=samples-dev", "evaluation.before=false", "evaluation.test=false", "loss.beside.large=null"),
    *("loss.terms.distill.teachers.large=0", "loss.beside.base.pooler=cls"),
)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """A model with random weights, to which some words are one token that the tiny model cuts into several."""
    tokenizer: Any = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens([f"{word}{word}" for word in WORDS])
    config = BertConfig.from_pretrained(TINY, vocab_size=len(tokenizer))
    torch.manual_seed(1)
    BertModel(config).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "train.txt"
    lines = [f"the {WORDS[number % 8] * 2} of {WORDS[number // 8] * 2} is {number}" for number in range(32)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def asked(teacher: str, text: str, cache: Path, *more: str) -> tuple[str, ...]:
    files = (f"data.train_file={text}", f"data.cache_dir={cache}", f"loss.beside.base.checkpoint={teacher}")
    return (*ASKED, *files, *more)


def words(tokenizer: Any, tokens: Mapping[str, Tensor]) -> list[list[str]]:
    """The text of each view of a batch, without blanks."""
    rows = zip(tokens["input_ids"], tokens["attention_mask"], strict=True)
    return [
        [
            tokenizer.decode(ids[mask.bool()], skip_special_tokens=True).replace(" ", "")
            for ids, mask in zip(*row, strict=True)
        ]
        for row in rows
    ]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("augmentation=delete_one_word",),
        ("data.next_sentences=2",),
        ("data=stream", "trainer.max_steps=4"),
        ("data=stream", "trainer.max_steps=4", "augmentation=delete_one_word"),
        ("data.template='they say: {text} .'",),
    ],
)
def test_it_gets_the_texts_of_the_views_in_its_own_tokens(
    more: tuple[str, ...], teacher: str, text: str, tmp_path: Path
) -> None:
    module, data = build(train_config(*asked(teacher, text, tmp_path / "cache", *more)))
    own, other = data.tokenizer, module.beside["base"].tokenizer
    for batch in islice(data.train_dataloader(), 2):
        theirs = batch["others"]["base"]
        assert theirs["input_ids"].shape[:2] == (8, 2)
        assert words(other, theirs) == words(own, batch)
        assert theirs["attention_mask"].sum() < batch["attention_mask"].sum()  # fewer tokens for the same words
        assert torch.isin(theirs["input_ids"], torch.arange(2000, 2008)).any()


def test_a_maker_of_tokens_changes_its_tokens_too(teacher: str, text: str, tmp_path: Path) -> None:
    config = train_config(
        *asked(teacher, text, tmp_path / "cache", "augmentation=token_repetition", "augmentation.rate=0.6")
    )
    longer = 0
    for batch in build(config).data.train_dataloader():
        for anchor, positive in batch["others"]["base"]["input_ids"].tolist():
            assert [token for place, token in enumerate(positive) if token and token != positive[place - 1]] == [
                token for token in anchor if token
            ]
            longer += positive.count(0) < anchor.count(0)
    assert 16 <= longer < 32


def test_a_view_is_encoded_in_its_own_tokens_and_foreign_ids_are_refused(teacher: str, text: str, tmp_path: Path) -> None:
    module, data = build(train_config(*asked(teacher, text, tmp_path / "cache")))
    batch = module.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
    ids_BVL, mask_BVL, theirs = batch["input_ids"], batch["attention_mask"], batch["others"]["base"]
    passes = passes_of(
        module.encoder, cast(Any, module.beside), module.chunking, ids_BVL, mask_BVL, batch["chunks"], batch["others"]
    )
    teacher_encoder = cast(Frozen, module.beside["base"]).encoder
    expected_BD = teacher_encoder.embed(theirs["input_ids"][:, 1], theirs["attention_mask"][:, 1])
    torch.testing.assert_close(passes.encode_view(1, encoder="base"), expected_BD)
    with torch.no_grad():
        module.encoder.eval()
        expected_BD = module.encoder(ids_BVL[:, 1], mask_BVL[:, 1])
        torch.testing.assert_close(passes.encode_view(1), expected_BD)
    with pytest.raises(UserError, match=r"loss\.beside\.base: has another tokenizer than the trained model"):
        passes.encode(ids_BVL[:, 1], mask_BVL[:, 1], encoder="base")


def test_a_corpus_for_another_tokenizer_is_another_corpus(teacher: str, text: str, tmp_path: Path) -> None:
    without = build(train_config(*asked(of_the_same_words(tmp_path), text, tmp_path / "cache")))
    assert "others" not in next(iter(without.data.train_dataloader()))
    both = build(train_config(*asked(teacher, text, tmp_path / "cache")))
    assert "others" in next(iter(both.data.train_dataloader()))
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2


def of_the_same_words(folder: Path) -> str:
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder / "same")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder / "same")
    return str(folder / "same")


def test_a_sentence_that_is_too_long_for_it_is_refused(teacher: str, text: str, tmp_path: Path) -> None:
    BertModel(BertConfig.from_pretrained(teacher, max_position_embeddings=16)).save_pretrained(teacher)
    with pytest.raises(UserError, match=r"data\.max_length=32: loss\.beside\.base takes 16 tokens at most"):
        build(train_config(*asked(teacher, text, tmp_path / "cache")))


def test_a_run_learns_from_a_teacher_with_another_tokenizer(warm_cli: Cli, teacher: str, text: str, tmp_path: Path) -> None:
    more = ("trainer.max_steps=3", "trainer.log_every_n_steps=1", "data.num_workers=1", "hydra.run.dir=run")
    done = warm_cli(*asked(teacher, text, tmp_path / "cache", *more))
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")["train/loss/distill"]) == 3
