"""What is said of a corpus, against counts made here line by line; and what is refused, since it holds nothing to learn."""

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.reporting.read_corpus import described
from tests.conftest import train_config
from tests.views.encoded import encoded

SAMPLES = local_path("pkg://simcse_lit/data/samples/tiny", "test").parent


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(SAMPLES / "tiny")  # type: ignore[return-value]


def module(tokenizer: PreTrainedTokenizerFast, file: Path, *overrides: str) -> SimCSEDataModule:
    cache = f"data.cache_dir={file.parent}/cache"
    config = train_config("model=tiny", "data=file", f"data.train_file={file}", cache, "data.batch_size=8", *overrides)
    sentences: dict[str, list[str]] = {"dev": [], "test": []}
    views = encoded(config.data, tokenizer, config.augmentation.makers)
    return SimCSEDataModule(config.data, tokenizer, **sentences, token_budget=1, seed=1, views=views)


def summary(tokenizer: PreTrainedTokenizerFast, file: Path, *overrides: str) -> dict[str, Any]:
    return module(tokenizer, file, *overrides).summary()


def write(folder: Path, lines: Sequence[str], name: str = "a.txt") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def test_rows_duplicates_cuts_and_blanks_are_those_counted_one_by_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    known = (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines()
    lines = [*random.Random(0).choices(known[:60], k=90), "", "\u200b", " ", "\u200b\u200b", *known[100:130]]
    read = summary(tokenizer, write(tmp_path, lines), "data.on_bad_row=skip", "data.max_length=16")
    good = [line for line in lines if line.strip()]
    lengths = [len(tokenizer(line)["input_ids"]) for line in good]
    assert read == {
        "rows": len(lines),
        "left_out": len(lines) - len(good),
        "unlabelled": 0,
        "examples": len(good),
        "duplicates": {"texts": len(good) - len(set(good))},
        "cut": sum(length > 16 for length in lengths),
        "blank": sum(length == 2 for length in lengths),
        "max_length": 16,
        "shortest_batch": len(good) % 8,
    }
    assert read["cut"] and read["blank"] == 2 and read["shortest_batch"], "nothing is tested"


def test_duplicates_are_counted_for_each_view(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = ["sent0,sent1,hard_neg", *(f"a {n % 9},b {n % 3},c {n}" for n in range(10))]
    read = summary(tokenizer, write(tmp_path, rows, "a.csv"), "loss=sup")
    assert read["duplicates"] == {"anchors": 1, "positives": 7, "hard negatives": 0}


def test_texts_of_all_views_that_are_cut_are_counted(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = ["sent0,sent1", "the sea,the cold deep water of the river and the sea", "a b c d e f g h,a b c d e f g h i j"]
    read = summary(tokenizer, write(tmp_path, rows, "a.csv"), "loss=sup", "data.columns=[sent0,sent1]", "data.max_length=8")
    assert read["cut"] == sum(len(tokenizer(t)["input_ids"]) > 8 for row in rows[1:] for t in row.split(","))


def test_examples_that_are_built_of_labelled_nli_are_beside_their_rows(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    labels = ["entailment", "contradiction", "neutral", "-"]
    rows = [f"premise {n // 4}\thypothesis {n}\t{labels[n % 4]}" for n in range(40)]
    file = write(tmp_path, ["sentence1\tsentence2\tgold_label", *rows], "a.tsv")
    read = summary(tokenizer, file, "loss=sup")
    assert (read["rows"], read["examples"], read["left_out"], read["unlabelled"]) == (40, 10, 10, 10)
    assert described(read, 8)[0] == "10 examples of 40 rows, 10 left out (10 without a gold label)"


def test_sentences_of_documents_are_counted_without_their_blank_lines(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    file = write(tmp_path, ["one two", "three", "", "four", "five", "one two"])
    read = summary(tokenizer, file, "data.next_sentences=1")
    assert (read["rows"], read["left_out"], read["examples"], read["duplicates"]) == (5, 0, 3, {"texts": 1})


def test_texts_that_the_augmentation_leaves_alone_are_counted(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = write(tmp_path, ["one two three", "alone", "a b", "word", " blank  between "])
    read = summary(tokenizer, file, "augmentation=crop")
    assert (read["unchanged"], read["compared"]) == (2, 5)
    assert "2 unchanged by the augmentation" in described(read, 8)
    assert "unchanged" not in summary(tokenizer, file)


def test_of_a_large_corpus_a_sample_is_augmented(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simcse_lit.views.changing.COMPARED", 10)
    file = write(tmp_path, [word for number in range(15) for word in (f"word{number}", f"two words{number}")])
    read = summary(tokenizer, file, "augmentation=crop")
    assert read["compared"] == 10 and read["unchanged"] == 5  # every third of alternating lines
    assert "5 of 10 unchanged by the augmentation" in described(read, 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"rows": 514, "left_out": 2}, ["512 rows of 514, 2 left out"]),
        ({"rows": 200}, ["512 examples of 200 rows"]),
        ({"duplicates": {"texts": 1200}}, ["1,200 duplicates"]),
        (
            {"duplicates": {"anchors": 12, "positives": 0, "hard negatives": 3}},
            ["duplicates: 12 anchors, 3 hard negatives"],
        ),
        ({"cut": 40, "blank": 3}, ["40 cut at 32 tokens", "3 blank to the tokenizer"]),
        ({"shortest_batch": 28}, ["shortest batch 28"]),
    ],
)
def test_only_what_is_unusual_is_said(changes: dict[str, Any], said: list[str]) -> None:
    read = {
        **{"rows": 512, "left_out": 0, "unlabelled": 0, "examples": 512, "duplicates": {"texts": 0}},
        **{"cut": 0, "blank": 0, "max_length": 32, "shortest_batch": 64},
    }
    assert described({**read, **changes}, 64) == said


REFUSED = {
    "one line": (["alone"], (), "has one example"),
    "equal lines": (["the same"] * 64, (), "all 64 texts are the same text"),
    "one positive for all": (["sent0,sent1", *(f"a {n},b" for n in range(9))], (), "all 9 positives are the same text"),
    "one anchor for all": (["sent0,sent1", *(f"a,b {n}" for n in range(9))], (), "all 9 anchors are the same text"),
    "nothing for the tokenizer": (["\u200b" * n for n in range(1, 9)], (), "turns every text into unknown tokens only"),
    "unknown to the tokenizer": (["คนเล่น", "ในสวน สวย", "ฝนตก"], (), "turns every text into unknown tokens only"),
    "one followed sentence": (["one", "two", "", "three"], ("data.next_sentences=1",), "has one example"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_corpus_from_which_nothing_can_be_learnt_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, case: str
) -> None:
    lines, overrides, message = REFUSED[case]
    table = lines[0].startswith("sent0")
    if table and not overrides:
        overrides = ("loss=sup", "data.columns=[sent0,sent1]")
    file = write(tmp_path, lines, "a.csv" if table else "a.txt")
    for _ in ("made", "from the cache"):
        with pytest.raises(UserError, match=f"data.train_file: .*{message}"):
            summary(tokenizer, file, *overrides)


@pytest.mark.parametrize(
    ("lines", "overrides", "warning"),
    [
        ([*["the same"] * 6, "a", "b", "c", "d"], (), None),
        ([*["the same"] * 7, "a", "b", "c"], (), "6 of 10 texts repeat an earlier one"),
        (["a b c d e f g h", "h g f e d c b a"], ("data.max_length=5",), "Every text is longer than data.max_length=5"),
        (["a b c d e f g h", "h g f"], ("data.max_length=5",), None),
        ([f"line {n}" for n in range(9)], (), "The last batch of an epoch has one example"),
        ([f"line {n}" for n in range(9)], ("data.drop_last=true",), None),
        ([f"line {n}" for n in range(10)], (), None),
        (["sent0,sent1,hard_neg", "a,b,c"], ("loss=sup",), "There is one example, so its hard negative"),
        (["one", "two", "three"], ("augmentation=crop",), "The augmentation changes no text"),
        (["one two", "two", "three"], ("augmentation=crop",), None),
        (["คนเล่น", "ในสวน", "ฝนตก", "one"], (), "turns 3 of 4 texts into unknown tokens only"),
        (["คนเล่น", "ในสวน", "two", "one"], (), None),
    ],
)
def test_a_corpus_from_which_little_can_be_learnt_is_announced(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lines: list[str],
    overrides: tuple[str, ...],
    warning: str | None,
) -> None:
    name = "a.csv" if lines[0].startswith("sent0") else "a.txt"
    summary(tokenizer, write(tmp_path, lines, name), *overrides)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == (warning is not None) and (warning or "") in "".join(warned)


def test_a_batch_of_one_is_refused_unless_it_has_hard_negatives() -> None:
    for loss in (("loss=unsup",), ("loss=sup", "data.columns=[sent0,sent1]")):
        with pytest.raises(UserError, match=r"data\.batch_size=1: .*negatives"):
            train_config("model=tiny", "data=samples", "data.batch_size=1", *loss)
    train_config("model=tiny", "data=samples", "data.batch_size=1", "loss=sup")
    train_config("model=tiny", "data=samples", "data.batch_size=2")


@pytest.mark.parametrize(
    ("name", "content", "overrides"),
    [
        ("a.txt", "the same\n" * 20, ()),
        ("a.csv", "sent0,sent1\n" + "".join(f"a {n},b\n" for n in range(20)), ("loss=sup", "data.columns=[sent0,sent1]")),
    ],
)
def test_a_stream_of_one_text_is_refused_with_its_first_batch(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, name: str, content: str, overrides: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    given = ("data=stream", "trainer.max_steps=9", "data.batch_size=8", f"data.train_file={tmp_path}/{name}")
    config = train_config("model=tiny", *given, *overrides).data
    with pytest.raises(UserError, match="all 8 rows of the first batch have the same text"):
        next(iter(StreamedBatches(config, encoded(config, tokenizer), seed=1)))


def test_a_record_of_a_summary_is_json(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    read = summary(tokenizer, write(tmp_path, ["one two", "three four", "one two"]), "augmentation=crop")
    assert json.loads(json.dumps(read)) == read


def test_another_process_opens_what_was_prepared_and_does_not_read_the_files_again(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Files behind a URL would be fetched once a process."""
    file = write(tmp_path, [f"line {number}" for number in range(20)])
    url = ("data.train_file=" + file.as_uri(), f"data.cache_dir={tmp_path}/cache")
    first, second = module(tokenizer, file, *url), module(tokenizer, file, *url)
    made = first.prepare_corpus()
    file.unlink()
    assert made is not None
    second.open_corpus(**made)
    assert second.state_dict() == first.state_dict()
    assert second.digests() == {file.as_uri(): hashlib.sha256(b"".join(b"line %d\n" % n for n in range(20))).hexdigest()}
    assert second.corpus.dataset["view0"][:] == first.corpus.dataset["view0"][:]
