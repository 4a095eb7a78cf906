"""Changed copies as positives (Table 1), next sentences as positives (Table 2), both drawn anew, but repeatably."""

import pickle
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, pairwise
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.text.rows import Row
from simcse_lit.views.augmentation import (
    Crop,
    DeleteWords,
    ReplaceBySynonym,
    crop,
    delete_words,
    read_synonyms,
    replace_by_synonym,
    units,
)
from simcse_lit.views.documents import followed
from simcse_lit.views.makers import TextMaker
from tests.conftest import train_config
from tests.views.encoded import encoded

TWENTY = [f"w{place}" for place in range(20)]
words = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=25)
rates = st.floats(0.01, 0.99)


def share(count: int, rate: float) -> int:
    """What a rate takes of so many words: the nearest whole number, at least one word, and one is left."""
    whole = min(range(count + 1), key=lambda number: (abs(number - rate * count), number % 2))
    return 0 if count == 1 else sorted([1, whole, count - 1])[1]


@given(words, rates, st.integers())
def test_crop_keeps_a_stretch_of_the_sentence(sentence: list[str], rate: float, seed: int) -> None:
    kept = crop(sentence, rate, random.Random(seed))
    length = len(sentence) - share(len(sentence), rate)
    assert kept in [sentence[start : start + length] for start in range(len(sentence) - length + 1)]


@given(words, rates, st.integers())
def test_word_deletion_keeps_the_others_in_order(sentence: list[str], rate: float, seed: int) -> None:
    numbered = [f"{word}{place}" for place, word in enumerate(sentence)]
    kept = delete_words(numbered, rate, random.Random(seed))
    assert len(kept) == len(sentence) - share(len(sentence), rate)
    assert kept == [word for word in numbered if word in set(kept)]


@pytest.mark.parametrize(("rate", "left"), [(0.1, 18), (0.2, 16), (0.3, 14)])
def test_the_papers_rates_leave_what_they_say_and_every_place_comes_up_alike(rate: float, left: int) -> None:
    deleted: Counter[str] = Counter()
    starts: Counter[str] = Counter()
    for seed in range(2000):
        kept = delete_words(TWENTY, rate, random.Random(seed))
        deleted.update(set(TWENTY) - set(kept))
        stretch = crop(TWENTY, rate, random.Random(seed))
        starts[stretch[0]] += 1
        assert len(kept) == len(stretch) == left
    assert set(starts) == set(TWENTY[: 20 - left + 1])
    assert min(starts.values()) > 0.7 * 2000 / len(starts)
    assert len(deleted) == 20 and min(deleted.values()) > 0.8 * 2000 * rate


def test_one_word_is_deleted_whatever_the_length(tokenizer: PreTrainedTokenizerFast) -> None:
    augment = augment_by("delete_one_word", tokenizer)
    seen = {augment("a  b c", random.Random(seed)) for seed in range(50)}
    assert seen == {" ".join(pair) for pair in combinations("abc", 2)}
    assert augment("alone", random.Random(0)) == "alone"


CHINESE = st.text(st.sampled_from("我们喜欢猫。，ab 1\u3000"), min_size=1, max_size=20)


def augment_by(kind: str, tokenizer: PreTrainedTokenizerFast, synonyms: Path | None = None) -> TextMaker:
    made: dict[str, Callable[[], TextMaker]] = {
        "crop": lambda: Crop(0.3),
        "word_deletion": lambda: DeleteWords(0.3),
        "delete_one_word": DeleteWords,
        "synonym": lambda: ReplaceBySynonym(str(synonyms)),
    }
    maker = made[kind]()
    maker.setup(tokenizer)
    return maker


@given(CHINESE)
def test_units_are_together_the_text_and_each_character_of_a_script_without_blanks_is_one(text: str) -> None:
    cut = units(text, bert())
    assert "".join(cut) == text
    for unit in cut:
        assert len(re.findall("[我们喜欢猫]", unit)) <= 1, cut
        assert " " not in unit.strip()


@pytest.mark.parametrize("kind", ["crop", "word_deletion", "delete_one_word"])
@pytest.mark.parametrize(
    "text", ["一只狗在公园里奔跑。", "今日は天気がいいです", "我喜欢用BERT模型做实验", "ສວັດດີ", "สุนัขวิ่งในสวน"]
)
def test_text_without_blanks_is_changed_by_the_tokenizers_units(kind: str, text: str) -> None:
    tokenizer = bert() if re.search("[是我狗天]", text) else byte_level()  # the former knows no Lao and no Thai
    augment = augment_by(kind, tokenizer)
    made = {augment(text, random.Random(seed)) for seed in range(40)}
    assert text not in made and len(made) > 2
    cut = units(text, tokenizer)
    for changed in made:
        left = len(cut) - share(len(cut), 0.3 if kind != "delete_one_word" else 0.0)
        assert changed in {"".join(part) for part in combinations(cut, left)}
        assert kind != "crop" or changed in text


def test_blanks_between_units_stay_where_they_were() -> None:
    made = {augment_by("delete_one_word", bert())("我 喜欢 BERT 模型", random.Random(seed)) for seed in range(60)}
    assert made == {
        "喜欢 BERT 模型",
        "我 欢 BERT 模型",
        "我 喜BERT 模型",
        "我 喜欢 模型",
        "我 喜欢 BERT 型",
        "我 喜欢 BERT 模",
    }


def test_a_synonym_of_several_characters_is_found(tmp_path: Path) -> None:
    (tmp_path / "synonyms.tsv").write_text("公园\t花园\n公\t错\n", encoding="utf-8")
    augment = augment_by("synonym", bert(), tmp_path / "synonyms.tsv")
    assert augment("一只狗在公园里。", random.Random(0)) == "一只狗在花园里。"
    assert augment("没有别的词。", random.Random(0)) == "没有别的词。"


@given(st.lists(st.text("ab,.'é", min_size=1, max_size=4), min_size=1, max_size=12), st.integers(0, 9))
def test_text_with_blanks_is_changed_word_by_word_as_ever(words: list[str], seed: int) -> None:
    text = " ".join(words)
    assert augment_by("crop", bert())(text, random.Random(seed)) == " ".join(crop(words, 0.3, random.Random(seed)))
    foreign = [*words, "北京", "x"] if len(words) > 2 else [*words, "x"]  # a few characters of another script change nothing
    deleted = " ".join(delete_words(foreign, 0.3, random.Random(seed)))
    assert augment_by("word_deletion", bert())(" ".join(foreign), random.Random(seed)) == deleted


@cache
def bert() -> PreTrainedTokenizerFast:
    """A tokenizer of the kind of BERT's that knows no character of these scripts."""
    tokenizer = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    """Of the kind of RoBERTa's: a character of these scripts is three tokens, and a blank belongs to the word behind it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: place for place, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=alphabet[0])


def test_a_byte_level_tokenizer_cuts_between_characters() -> None:
    assert units("我喜欢 BERT 模型", byte_level()) == ["我", "喜", "欢 ", "BERT ", "模", "型"]
    assert units("我喜欢 BERT 模型", bert()) == ["我", "喜", "欢 ", "BERT ", "模", "型"]


def test_a_text_longer_than_the_tokenizer_was_last_told_is_changed_in_full() -> None:
    tokenizer = bert()
    tokenizer("a b", truncation=True, max_length=4)
    assert units("我" * 50, tokenizer) == ["我"] * 50


def test_a_synonym_replaces_one_word_and_nothing_else() -> None:
    table = {"big": ["large", "huge"], "dog": ["hound"]}
    sentence = "The Big (dog), a cat."
    made = {" ".join(replace_by_synonym(sentence.split(), table, random.Random(seed))) for seed in range(60)}
    assert made == {"The Large (dog), a cat.", "The Huge (dog), a cat.", "The Big (hound), a cat."}
    assert replace_by_synonym(["no", "such", "word"], table, random.Random(0)) == ["no", "such", "word"]
    assert replace_by_synonym(["...", "-"], table, random.Random(0)) == ["...", "-"]


def test_the_bundled_synonyms_are_single_other_words_and_know_most_sentences() -> None:
    table = read_synonyms("pkg://simcse_lit/data/samples/synonyms.tsv")
    assert all(word == word.lower() and word not in others and others for word, others in table.items())
    assert all(len(other.split()) == 1 for others in table.values() for other in others)
    sentences = local_path("pkg://simcse_lit/data/samples/wikipedia.txt", "test").read_text(encoding="utf-8").splitlines()
    changed = sum(replace_by_synonym(text.split(), table, random.Random(0)) != text.split() for text in sentences)
    assert changed > 0.7 * len(sentences)


@pytest.mark.parametrize(
    ("content", "message"),
    [("big\tlarge\nsmall\n", "line 2: expected a word"), ("", "is empty"), (None, "cannot be read")],
)
def test_a_file_of_synonyms_that_is_none_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "synonyms.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"augmentation\.synonyms: .*synonyms\.tsv.*{message}"):
        read_synonyms(str(path))


@given(st.lists(st.one_of(st.none(), st.integers(0, 99)), max_size=40), st.integers(1, 4))
def test_followers_are_counted_within_the_document_and_the_window(lines: list[int | None], window: int) -> None:
    rows = [None if number is None else Row(place, (str(number),), "a.txt") for place, number in enumerate(lines)]
    expected = []
    for place, row in enumerate(rows):
        if row is not None:
            rest = rows[place + 1 :]
            in_document = rest.index(None) if None in rest else len(rest)
            expected.append((row, min(in_document, window)))
    assert list(followed(rows, window)) == expected


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


class Texts:
    """Training data of a configuration, read back as texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, cache_dir: Path) -> None:
        self.tokenizer, self.cache = tokenizer, cache_dir

    def module(self, file: Path, *changes: str, seed: int = 0, done: int = 0) -> SimCSEDataModule:
        settings = ("model=tiny", "data=file", f"data.train_file={file}", "data.batch_size=4")
        config = train_config(*settings, f"data.cache_dir={self.cache}", *changes)
        views = encoded(config.data, self.tokenizer, config.augmentation.makers)
        sentences: dict[str, list[str]] = {"dev": [], "test": []}
        module = SimCSEDataModule(config.data, self.tokenizer, **sentences, token_budget=1, seed=seed, views=views)
        module.done = done
        return module

    def epochs(self, module: SimCSEDataModule, first: int = 0, last: int = 2) -> list[list[tuple[str, str]]]:
        loader = module.train_dataloader()
        sampler: Any = loader.batch_sampler
        epochs = []
        for epoch in range(first, last):
            sampler.sampler.set_epoch(epoch)  # as Lightning does
            epochs.append([pair for batch in loader for pair in self.pairs(batch)])
        return epochs

    def pairs(self, batch: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for views in batch["input_ids"]:
            first, second = (str(self.tokenizer.decode(ids, skip_special_tokens=True)) for ids in views)
            yield first, second


@pytest.fixture
def texts(tokenizer: PreTrainedTokenizerFast, cache_dir: Path) -> Texts:
    return Texts(tokenizer, cache_dir)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"{number} the water of a river is cold and deep\n" for number in range(10)))
    return path


def test_the_positive_is_changed_anew_in_every_epoch_and_the_anchor_never(texts: Texts, file: Path) -> None:
    first, second = texts.epochs(texts.module(file, "augmentation=delete_one_word"))
    original = file.read_text().splitlines()
    assert sorted(anchor for anchor, _ in first) == sorted(anchor for anchor, _ in second) == original
    for anchor, positive in first + second:
        one_less = [" ".join(left) for left in combinations(anchor.split(), len(anchor.split()) - 1)]
        assert positive in one_less
    again = dict(second)
    assert sum(positive != again[anchor] for anchor, positive in first) >= 5


@pytest.mark.parametrize("kind", ["augmentation=delete_one_word", "data.next_sentences=3"])
def test_what_is_drawn_depends_on_seed_epoch_and_example_alone(texts: Texts, file: Path, kind: str) -> None:
    expected = texts.epochs(texts.module(file, kind))
    random.seed(1)
    assert texts.epochs(texts.module(file, kind)) == expected
    assert texts.epochs(texts.module(file, kind, "data.num_workers=1")) == expected
    assert [sorted(epoch) for epoch in texts.epochs(texts.module(file, kind, "data.batch_size=3"))] == [
        sorted(epoch) for epoch in expected
    ]
    assert dict(texts.epochs(texts.module(file, kind, seed=1))[0]) != dict(expected[0])
    # Resumed in the second epoch behind its first batch: three batches of 4, 4 and 2 (or 1) make an epoch.
    resumed = texts.epochs(texts.module(file, kind, done=4), first=1)
    assert resumed == [expected[1][4:]]


@pytest.mark.parametrize("kind", ["crop", "word_deletion", "delete_one_word", "synonym"])
def test_a_worker_that_is_a_new_process_draws_the_same(texts: Texts, file: Path, kind: str) -> None:
    """By the start methods `spawn` and `forkserver` it is sent what it works with."""
    settings = (file, f"augmentation={kind}")
    loader = texts.module(*settings).train_dataloader()
    dataset, collate = pickle.loads(ForkingPickler.dumps((loader.dataset, loader.collate_fn)))
    batches = [collate(dataset.__getitems__([3, 0])), loader.collate_fn(loader.dataset.__getitems__([3, 0]))]  # type: ignore[attr-defined]
    assert list(texts.pairs(batches[0])) == list(texts.pairs(batches[1]))
    config = train_config(
        "model=tiny",
        "data=stream",
        "trainer.max_steps=9",
        "data.batch_size=4",
        "data.max_length=32",
        *(f"data.train_file={file}", f"augmentation={kind}"),
    )
    stream = StreamedBatches(config.data, encoded(config.data, texts.tokenizer, config.augmentation.makers), seed=3)
    sent = pickle.loads(ForkingPickler.dumps(stream))
    assert list(texts.pairs(next(iter(sent)))) == list(texts.pairs(next(iter(stream))))


def test_a_stream_changes_its_texts_too_and_goes_on_where_it_was(texts: Texts, file: Path) -> None:
    changes = ("data=stream", f"data.train_file={file}", "trainer.max_steps=9", "augmentation=delete_one_word")
    config = train_config("model=tiny", *changes, "data.batch_size=4", "data.max_length=32")
    views = encoded(config.data, texts.tokenizer, config.augmentation.makers)

    def batches(count: int, **share: Any) -> list[list[tuple[str, str]]]:
        stream = iter(StreamedBatches(config.data, views, seed=3, **share))
        return [list(texts.pairs(next(stream))) for _ in range(count)]

    expected = batches(5)
    for anchor, positive in expected[0]:
        assert len(positive.split()) == len(anchor.split()) - 1 and set(positive.split()) < set(anchor.split())
    deleted = set()
    for batch in expected:
        anchor, positive = batch[0]
        deleted.add(next(place for place, word in enumerate(anchor.split()) if word not in positive.split()))
    assert len(deleted) > 1, "the same place of every batch loses the same word"
    assert batches(2, done=3) == expected[3:]
    halves = [batches(5, rank=rank, processes=2) for rank in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == expected


def test_the_positive_is_one_of_the_next_sentences_of_the_document(texts: Texts, tmp_path: Path) -> None:
    path = tmp_path / "documents.txt"
    documents = [[f"{name} {number}" for number in range(size)] for name, size in (("a", 5), ("b", 1), ("c", 2))]
    path.write_text("\n\n".join("\n".join(document) for document in documents))
    allowed = {
        (document[place], document[later])
        for document in documents
        for place in range(len(document))
        for later in range(place + 1, min(place + 4, len(document)))
    }
    epochs = texts.epochs(texts.module(path, "data.next_sentences=3"), last=40)
    assert {pair for epoch in epochs for pair in epoch} == allowed
    anchors = [sentence for document in documents for sentence in document[:-1]]
    assert all(sorted(anchor for anchor, _ in epoch) == sorted(anchors) for epoch in epochs)
    alone = {pair for epoch in texts.epochs(texts.module(path, "data.next_sentences=1")) for pair in epoch}
    assert alone == {pair for document in documents for pair in pairwise(document)}
    path.write_text("one\n\ntwo\n")
    with pytest.raises(UserError, match=r"data\.next_sentences: no sentence is followed"):
        texts.epochs(texts.module(path, "data.next_sentences=1"))


def test_a_batch_of_next_sentences_names_the_lines_of_its_anchors(texts: Texts, tmp_path: Path) -> None:
    path = tmp_path / "documents.txt"
    path.write_text("\n\na 0\na 1\n\nalone\n\nb 0\nb 1\nb 2\n")
    module = texts.module(path, "data.next_sentences=1", "data.batch_size=2")
    anchors = [anchor for anchor, _ in texts.epochs(module, last=1)[0]]
    places = [place for batch in (0, 1) for place in module.places_of(module.rows_of(batch) or []) or []]
    lines = path.read_text().splitlines()
    assert [lines[line - 1] for _, line in places] == anchors
    assert sorted(places) == [(str(path), line) for line in (3, 8, 9)]
