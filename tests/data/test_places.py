"""Rows of a tokenised corpus are traced back to file and line, by which a message names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import DataConfig
from simcse_lit.data import tokenisation
from tests.conftest import train_config
from tests.views.encoded import encoded


def tokenised_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    return tokenisation.tokenised_corpus(config, encoded(config, tokenizer))


def places(
    corpus: Any, rows: Sequence[int], config: DataConfig, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[str, int]] | None:
    return tokenisation.places(corpus, rows, config, encoded(config, tokenizer))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def data_config(*files: Path, **changes: str) -> DataConfig:
    loss = "sup" if "columns" in changes else "unsup"
    settings = [f"data.{key}={value}" for key, value in changes.items()]
    settings += [f"data.train_file=[{','.join(map(str, files))}]", f"data.cache_dir={files[0].parent}"]
    return train_config("model=tiny", f"loss={loss}", "data=file", *settings).data


def test_rows_are_traced_past_bad_rows_and_across_files(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.txt"
    first.write_text('text\none\n"two\nlines"\n" "\nthree\n')
    second.write_text("four\n\nfive\n")
    config = data_config(first, second, on_bad_row="skip")
    corpus = tokenised_corpus(config, tokenizer)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in corpus["view0"]]
    assert texts == ["one", "two lines", "three", "four", "five"]
    expected = [(str(first), 2), (str(first), 3), (str(first), 6), (str(second), 1), (str(second), 3)]
    assert places(corpus, range(5), config, tokenizer) == expected
    assert places(corpus, [4, 0, 3], config, tokenizer) == [expected[4], expected[0], expected[3]]


def test_an_example_of_labelled_nli_is_traced_to_its_positive(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("premise\thypothesis\tlabel\nP\tc\t2\nQ\tc\t2\nP\te\t0\n")
    second.write_text("premise\thypothesis\tlabel\nQ\tn\t1\nQ\te\t0\n")
    config = data_config(first, second, columns="[sent0,sent1,hard_neg]")
    corpus = tokenised_corpus(config, tokenizer)
    assert places(corpus, [0, 1], config, tokenizer) == [(str(first), 4), (str(second), 3)]


def test_rows_of_a_file_that_has_changed_or_is_gone_are_not_traced(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("one\ntwo\n")
    config = data_config(file)
    corpus = tokenised_corpus(config, tokenizer)
    assert places(corpus, [0], config, tokenizer) == [(str(file), 1)]
    file.write_text("another first line\none\ntwo\n")
    assert places(corpus, [0], config, tokenizer) is None
    file.unlink()
    assert places(corpus, [0], config, tokenizer) is None
