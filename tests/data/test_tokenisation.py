"""The tokenised corpus and its cache: the ids of one sentence at a time, one file for each different corpus, none after a
failure."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.schema import DataConfig
from simcse_lit.data import tokenisation
from simcse_lit.errors import UserError
from simcse_lit.views.encoded import EncodedViews
from tests.views.encoded import encoded

SAMPLES = Path(str(files("simcse_lit"))) / "data" / "samples"
LINES = (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines()[:50]
BAD_CSV = "sent0,sent1\none,two\nthree\n"

MakeConfig = Callable[..., DataConfig]


def tokenised_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    return tokenisation.tokenised_corpus(config, encoded(config, tokenizer))


def load(folder: Path = SAMPLES / "tiny") -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A fresh one for each test, since a call of a tokenizer may change it."""
    return load()


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Builds the group `data`; the cache of each test is its own."""

    def make(train_file: Path | list[Path], **changes: Any) -> DataConfig:
        names = [str(path) for path in train_file] if isinstance(train_file, list) else str(train_file)
        values: dict[str, Any] = {
            "train_file": names,
            "revision": None,
            "columns": ["text"],
            "nli_labels": ["entailment", "contradiction", "neutral"],
            "views": None,
            "template": None,
            "scores": None,
            "labels": None,
            "optional": None,
            "template_in_length": False,
            "next_sentences": None,
            "held_out": 0.0,
            "on_bad_row": "error",
            "batch_size": 4,
            "max_length": 16,
            "drop_last": False,
            "num_workers": 0,
            "cache_dir": str(tmp_path / "cache"),
        }
        return DataConfig(**{**values, **changes})

    return make


@pytest.fixture
def wiki(tmp_path: Path) -> Path:
    return write(tmp_path / "wiki.txt", "\n".join(LINES) + "\n")


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    rows = "".join(f"anchor {n},positive {n},negative {n}\n" for n in range(9))
    return write(tmp_path / "triplets.csv", "sent0,sent1,hard_neg\n" + rows)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cached(config: DataConfig) -> set[str]:
    folder = Path(config.cache_dir)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def one_by_one(texts: list[str], max_length: int) -> list[list[int]]:
    """Each text alone, by a tokenizer of its own."""
    tokenizer = load()
    return [tokenizer(text, truncation=True, max_length=max_length)["input_ids"] for text in texts]


@pytest.mark.parametrize("max_length", [3, 16, 64])
def test_ids_equal_those_of_one_sentence_at_a_time(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, wiki: Path, max_length: int
) -> None:
    corpus = tokenised_corpus(make_config(wiki, max_length=max_length), tokenizer)
    assert corpus.column_names == ["view0"]
    assert corpus["view0"][:] == one_by_one(LINES, max_length)


def test_each_column_becomes_a_view_in_the_order_asked_for(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, triplets: Path
) -> None:
    corpus = tokenised_corpus(make_config(triplets, columns=["hard_neg", "sent0", "sent1"]), tokenizer)
    assert corpus.column_names == ["view0", "view1", "view2"]
    assert corpus["view0"][:] == one_by_one([f"negative {n}" for n in range(9)], 16)
    assert corpus["view1"][:] == one_by_one([f"anchor {n}" for n in range(9)], 16)
    assert corpus["view2"][:] == one_by_one([f"positive {n}" for n in range(9)], 16)


@pytest.mark.parametrize("block", [1, 7, 49, 50, 51])
def test_no_row_is_lost_or_moved_where_blocks_meet(
    make_config: MakeConfig,
    tokenizer: PreTrainedTokenizerFast,
    wiki: Path,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenisation, "BLOCK", block)
    assert tokenised_corpus(make_config(wiki), tokenizer)["view0"][:] == one_by_one(LINES, 16)


def test_files_of_a_list_follow_each_other(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first, second = write(tmp_path / "a.txt", "one\ntwo"), write(tmp_path / "b.csv", "text\nthree\n")
    assert tokenised_corpus(make_config([first, second]), tokenizer)["view0"][:] == one_by_one(["one", "two", "three"], 16)


def test_bundled_file_is_found_in_the_package(make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    config = make_config(Path("x"))
    config.train_file = "pkg://simcse_lit/data/samples/wikipedia.txt"
    corpus = tokenised_corpus(config, tokenizer)
    assert corpus["view0"][:50] == one_by_one(LINES, 16)


def test_a_file_behind_a_url_is_the_corpus_that_the_local_file_is(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, wiki: Path
) -> None:
    fsspec.filesystem("memory").pipe("/corpus/wiki.txt", wiki.read_bytes())
    config = make_config(wiki)
    config.train_file = "memory://corpus/wiki.txt"
    assert tokenised_corpus(config, tokenizer)["view0"][:] == one_by_one(LINES, 16)
    made = cached(config)
    config.train_file = str(wiki)
    tokenised_corpus(config, tokenizer)
    assert cached(config) == made and len(made) == 1


def test_a_compressed_file_is_tokenised_as_what_is_in_it(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, wiki: Path, tmp_path: Path
) -> None:
    packed = write(tmp_path / "wiki.txt.gz", gzip.compress(wiki.read_bytes()))
    assert tokenised_corpus(make_config(packed), tokenizer)["view0"][:] == one_by_one(LINES, 16)


def test_padding_and_truncation_of_tokenizer_json_change_no_id(make_config: MakeConfig, tmp_path: Path, wiki: Path) -> None:
    shutil.copytree(SAMPLES / "tiny", tmp_path / "padding")
    backend = Tokenizer.from_file(str(SAMPLES / "tiny" / "tokenizer.json"))
    backend.enable_padding(length=128)
    backend.enable_truncation(6)
    backend.save(str(tmp_path / "padding" / "tokenizer.json"))
    tokenizer = load(tmp_path / "padding")
    assert tokenizer.backend_tokenizer.padding and tokenizer.backend_tokenizer.truncation, "nothing is tested"
    assert tokenised_corpus(make_config(wiki, max_length=40), tokenizer)["view0"][:] == one_by_one(LINES, 40)


def test_corpus_is_memory_mapped_from_the_one_cached_file(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, wiki: Path
) -> None:
    config = make_config(wiki)
    for _ in ("made", "opened"):
        (mapped,) = tokenised_corpus(config, load()).cache_files
        assert {Path(mapped["filename"]).name} == cached(config)


def test_second_time_neither_reads_text_nor_writes(
    make_config: MakeConfig, wiki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(wiki)
    made = tokenised_corpus(config, load())["view0"][:]
    (file,) = Path(config.cache_dir).iterdir()
    written = file.stat().st_mtime_ns
    monkeypatch.setattr(tokenisation, "read_examples", lambda *arguments: pytest.fail("the text was read again"))
    monkeypatch.setattr(EncodedViews, "stored_ids", lambda *arguments: pytest.fail("the text was tokenised again"))
    assert tokenised_corpus(config, load())["view0"][:] == made
    assert cached(config) == {file.name} and file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "use",
    [
        lambda tokenizer: tokenizer("a b", truncation=True, max_length=5),
        lambda tokenizer: tokenizer(["a b", "c"], padding=True),
        lambda tokenizer: tokenizer("a b", padding="max_length", max_length=9),
    ],
    ids=["truncated", "padded", "padded to a length"],
)
def test_what_a_tokenizer_was_used_for_before_makes_no_other_file(
    make_config: MakeConfig, wiki: Path, use: Callable[[PreTrainedTokenizerFast], object]
) -> None:
    config, used = make_config(wiki), load()
    use(used)
    corpora = [tokenised_corpus(config, tokenizer)["view0"][:] for tokenizer in (load(), used, used)]
    assert corpora == [one_by_one(LINES, 16)] * 3
    assert len(cached(config)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"max_length": 17}, {"columns": ["sent1", "sent0"]}, {"columns": ["sent0"]}, {"on_bad_row": "skip"}],
    ids=["max_length", "order of columns", "fewer columns", "policy"],
)
def test_another_setting_gives_another_file(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, triplets: Path, changes: dict[str, Any]
) -> None:
    config = make_config(triplets, columns=["sent0", "sent1"])
    tokenised_corpus(config, load())
    tokenised_corpus(make_config(triplets, **{"columns": ["sent0", "sent1"], **changes}), load())
    assert len(cached(config)) == 2


def test_another_content_of_the_same_file_gives_another_file(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tmp_path / "a.txt")
    for content in ("one\ntwo\n", "two\none\n"):
        write(tmp_path / "a.txt", content)
        assert tokenised_corpus(config, load())["view0"][:] == one_by_one(content.split(), 16)
    assert len(cached(config)) == 2


def test_another_order_of_files_gives_another_file(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path / "a.txt", "one\n"), write(tmp_path / "b" / "a.txt", "two\n")
    for order, texts in (([first, second], ["one", "two"]), ([second, first], ["two", "one"])):
        assert tokenised_corpus(make_config(order), load())["view0"][:] == one_by_one(texts, 16)


def other_vocabulary(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def other_case(folder: Path) -> None:
    content = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**content, "do_lower_case": False}), encoding="utf-8")


def other_truncation_side(folder: Path) -> None:
    content = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**content, "truncation_side": "left"}), encoding="utf-8")


@pytest.mark.parametrize("change", [other_vocabulary, other_case, other_truncation_side])
def test_another_tokenizer_gives_another_file(
    make_config: MakeConfig, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    shutil.copytree(SAMPLES / "tiny", tmp_path / "other")
    change(tmp_path / "other")
    config = make_config(write(tmp_path / "a.txt", "A b C d e f g h\n"), max_length=6)
    first = tokenised_corpus(config, load())["view0"][:]
    second = tokenised_corpus(config, load(tmp_path / "other"))["view0"][:]
    expected = load(tmp_path / "other")("A b C d e f g h", truncation=True, max_length=6)["input_ids"]
    assert first != [expected] and second == [expected]


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", BAD_CSV, ["sent0", "sent1"]),
        ("a.csv", BAD_CSV, ["sent0", "absent"]),
        ("a.txt", "one\ntwo\n\nthree\n", ["text"]),
        ("a.txt", b"one\ntwo\nthree\n\xff\n", ["text"]),
        ("a.txt", "", ["text"]),
        ("a.csv", "text\n", ["text"]),
        ("a.tsv", "premise\thypothesis\tlabel\nP\te\t0\n", ["sent0", "sent1", "hard_neg"]),
    ],
    ids=["bad row", "no column", "blank line", "not UTF-8", "empty txt", "header only", "no triplets"],
)
def test_failing_corpus_names_its_file_and_leaves_nothing_in_the_cache(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any, columns: list[str]
) -> None:
    monkeypatch.setattr(tokenisation, "BLOCK", 1)
    config = make_config(write(tmp_path / name, content), columns=columns)
    with pytest.raises(UserError, match=re.escape(name)):
        tokenised_corpus(config, load())
    assert cached(config) == set()


def test_nli_without_an_example_is_told_which_labels_one_needs(make_config: MakeConfig, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "premise,hypothesis,label\nP,n,neutral\n")
    with pytest.raises(UserError, match="a hypothesis for each of: entailment, contradiction"):
        tokenised_corpus(make_config(path, columns=["sent0", "sent1", "hard_neg"]), load())


def test_a_file_may_have_as_long_a_name_as_the_file_system_takes(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(write(tmp_path / f"{'語' * 80}.txt", "A b\nC d\n"))
    assert len(tokenised_corpus(config, load())) == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_interrupted_corpus_leaves_nothing_and_is_made_the_next_time(
    make_config: MakeConfig, wiki: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    config, real, calls = make_config(wiki), EncodedViews.stored_ids, []

    def interrupted(*arguments: Any) -> dict[str, pa.Array]:
        calls.append(arguments)
        if len(calls) == 3:
            raise failure
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tokenisation, "BLOCK", 10)
        patch.setattr(EncodedViews, "stored_ids", interrupted)
        with pytest.raises(failure):
            tokenised_corpus(config, load())
    assert cached(config) == set()
    assert tokenised_corpus(config, load())["view0"][:] == one_by_one(LINES, 16)


@pytest.mark.parametrize("inside", ["", "below", "below/deeper"])
def test_cache_that_cannot_be_made_is_named_with_its_key(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, wiki: Path, inside: str
) -> None:
    folder = write(tmp_path / "regular", "a file") / inside
    with pytest.raises(UserError, match=r"data\.cache_dir.*regular"):
        tokenised_corpus(make_config(wiki, cache_dir=str(folder)), tokenizer)
