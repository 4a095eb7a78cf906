"""Rows to padded batches, token by token; sentences cut by a budget; and an order of training that only the seed decides."""

import math
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.schema import DataConfig
from simcse_lit.data.collation import SentenceBatches, ViewCollator, length_sorted, pad
from simcse_lit.data.datamodule import SimCSEDataModule, dealt
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import unique_sentences
from simcse_lit.text.corpus import Corpus
from tests.views.encoded import encoded

PAD = 7  # also a token id that rows use, so that only the mask tells padding from text
SAMPLES = Path(str(files("simcse_lit"))) / "data" / "samples"

Rows = list[list[int]]
Module = Callable[..., SimCSEDataModule]

row = st.lists(st.integers(0, 9), min_size=1, max_size=8)
ragged = st.lists(row, min_size=1, max_size=6)
views = st.integers(1, 3).flatmap(lambda number: st.lists(st.lists(row, min_size=number, max_size=number), min_size=1))


def table(columns: list[Rows]) -> pa.Table:
    return pa.table({f"view{view}": pa.array(rows, pa.list_(pa.int32())) for view, rows in enumerate(columns)})


def real_tokens(ids: Any, mask: Any) -> list[int]:
    return [int(token) for token, real in zip(ids, mask, strict=True) if real]


def cells(batch: dict[str, Tensor]) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """(example, view, ids, mask) of every sentence of a batch."""
    for example, (ids, mask) in enumerate(zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True)):
        for view in range(len(ids)):
            yield example, view, ids[view], mask[view]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLES / "tiny")
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


@given(ragged, st.integers(0, 3))
@settings(deadline=None)
def test_padded_rows_are_the_rows_then_the_pad_id(rows: Rows, spare: int) -> None:
    width = max(map(len, rows)) + spare
    ids, mask = pad(np.concatenate([np.array(row) for row in rows]), np.array([len(row) for row in rows]), PAD, width)
    assert ids.tolist() == [row + [PAD] * (width - len(row)) for row in rows]
    assert mask.tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    assert ids.dtype == mask.dtype == np.int64


@given(views)
@settings(deadline=None)
def test_any_ragged_batch_comes_back_from_ids_and_mask(examples: list[Rows]) -> None:
    columns = [[example[view] for example in examples] for view in range(len(examples[0]))]
    places = (0, 0) if len(columns) == 1 else range(len(columns))
    batch = ViewCollator(PAD, places)(table(columns))
    stacked = columns * 2 if len(columns) == 1 else columns
    longest = max(len(row) for rows in columns for row in rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(examples), len(stacked), longest)
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
    for example, view, ids, mask in cells(batch):
        text = stacked[view][example]
        assert mask == [1] * len(text) + [0] * (longest - len(text))
        assert ids == text + [PAD] * (longest - len(text))


def test_sentence_of_one_column_stands_in_both_views() -> None:
    batch = ViewCollator(PAD, (0, 0))(table([[[1, 2, 3], [4]]]))
    assert batch["input_ids"].tolist() == [[[1, 2, 3], [1, 2, 3]], [[4, PAD, PAD], [4, PAD, PAD]]]
    assert batch["attention_mask"].tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 0, 0], [1, 0, 0]]]


@pytest.mark.parametrize("longest", [0, 1, 2])
def test_all_views_are_padded_to_the_longest_sentence_of_any_view(longest: int) -> None:
    columns: list[Rows] = [[[1], [2, 3]], [[4], [5]], [[6], [8]]]
    columns[longest][0] = [9] * 5
    batch = ViewCollator(PAD, (0, 1, 2))(table(columns))
    assert batch["input_ids"].shape == (2, 3, 5)
    assert batch["input_ids"][0, longest].tolist() == [9] * 5


@pytest.mark.parametrize("pieces", [[(2, 2)], [(3, 2), (1, 1), (0, 1)]], ids=["one slice", "three chunks"])
def test_slices_of_a_table_are_collated_like_a_whole_one(pieces: list[tuple[int, int]]) -> None:
    rows: list[Rows] = [[[1], [2, 3], [4, 5, 6], [8], [9, 9]], [[1, 1], [2], [3], [4, 4, 4, 4], [5]]]
    batch = ViewCollator(PAD, (0, 1))(pa.concat_tables([table(rows).slice(start, length) for start, length in pieces]))
    order = [place for start, length in pieces for place in range(start, start + length)]
    for example, view, ids, mask in cells(batch):
        assert real_tokens(ids, mask) == rows[view][order[example]]


@given(st.lists(st.integers(0, 19), min_size=1, max_size=30))
@settings(deadline=None)
def test_corpus_gives_rows_in_the_order_of_the_indices(indices: list[int]) -> None:
    rows = [[number] * (1 + number % 3) for number in range(20)]
    corpus = Corpus(Dataset(table([rows, rows[::-1]])), seed=0)
    assert len(corpus) == 20
    batch = corpus.__getitems__(indices)
    assert batch["view0"].to_pylist() == [rows[index] for index in indices]
    assert batch["view1"].to_pylist() == [rows[19 - index] for index in indices]
    assert corpus[indices[0]]["view0"].to_pylist() == [rows[indices[0]]]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200))
@settings(deadline=None)
def test_batches_hold_each_place_once_by_falling_length_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_sorted(lengths, budget))
    places = [place for batch in batches for place in batch]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= budget


def test_batches_end_where_that_saves_more_padding_than_a_pass_costs() -> None:
    def sizes(lengths: list[int], budget: int) -> list[int]:
        return [len(batch) for batch in length_sorted(lengths, budget)]

    one_long = [12] + [10] * 48  # 48 x 2 tokens of padding are what a pass costs, so one more pays
    assert sizes([*one_long, 10], 4096) == [1, 49]
    assert sizes(one_long[:-1], 4096) == [48]
    assert sizes([*one_long, 10], 200) == [1, 20, 20, 9]


def test_every_sentence_stands_once_in_the_batches_with_its_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    sentences = (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines()[:200]
    batches = SentenceBatches(sentences, tokenizer, max_length=20, token_budget=300)
    seen = {}
    for number in range(len(batches)):
        batch = batches[number]
        ids, mask, index = batch["input_ids"], batch["attention_mask"], batch["index"]
        assert ids.shape == mask.shape and len(ids) == len(index)
        assert ids.numel() <= 300 and ids.shape[1] == int(mask.sum(1).max())
        assert ids.dtype == mask.dtype == index.dtype == torch.int64
        assert bool((ids[mask == 0] == tokenizer.pad_token_id).all())
        for place, row_ids, row_mask in zip(index.tolist(), ids, mask, strict=True):
            assert place not in seen
            seen[place] = real_tokens(row_ids, row_mask)
    expected = [tokenizer(text, truncation=True, max_length=20)["input_ids"] for text in sentences]
    assert [seen[place] for place in range(200)] == expected


def test_sentence_longer_than_the_budget_is_a_batch_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    batches = SentenceBatches(["a b c d e f g h", "a", "b"], tokenizer, max_length=64, token_budget=6)
    assert [batches[number]["index"].tolist() for number in range(len(batches))] == [[0], [1, 2]]


@pytest.fixture
def make_module(tmp_path: Path, cache_dir: Path, tokenizer: PreTrainedTokenizerFast) -> Module:
    """A data module over ten sentences of different lengths, so that a batch tells which rows it holds."""
    (tmp_path / "a.txt").write_text("".join(" ".join("a" * length) + "\n" for length in range(1, 11)))
    dev = STSTask("dev", [("a b c", "a"), ("a", "b b")], np.array([1.0, 2.0]))
    test = [dev, STSTask("other", [("b b", "c " * 100)], np.array([3.0]))]

    def make(*, seed: int = 0, batch_size: int = 4, **changes: Any) -> SimCSEDataModule:
        values: dict[str, Any] = {
            "train_file": str(tmp_path / "a.txt"),
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
            "max_length": 32,
            "drop_last": False,
            "num_workers": 0,
            "cache_dir": str(cache_dir),
            "streaming": False,
            "shuffle_buffer": None,
        }
        config = DataConfig(**{**values, **changes}, batch_size=batch_size)
        return SimCSEDataModule(
            config,
            tokenizer,
            dev=unique_sentences([dev]),
            test=unique_sentences(test),
            token_budget=1000,
            seed=seed,
            views=encoded(config, tokenizer),
        )

    return make


def orders(module: SimCSEDataModule, epochs: int = 2) -> list[list[int]]:
    """Which sentence comes when, epoch by epoch: sentence n has n words, [CLS] and [SEP]."""
    loader = module.train_dataloader()
    order: Any = loader.batch_sampler
    sentences = []
    for epoch in range(epochs):
        order.sampler.set_epoch(epoch)  # as Lightning does
        sentences.append([int(mask.sum()) - 2 for batch in loader for mask in batch["attention_mask"][:, 0]])
    return sentences


def test_each_epoch_shows_every_example_once_in_another_order(make_module: Module) -> None:
    first, second = orders(make_module())
    assert sorted(first) == sorted(second) == list(range(1, 11))
    assert first != second and first != sorted(first)


def test_order_depends_on_the_seed_alone(make_module: Module) -> None:
    torch.manual_seed(1)
    expected = orders(make_module(seed=5))
    torch.manual_seed(2)
    assert orders(make_module(seed=5)) == expected
    assert orders(make_module(seed=5, batch_size=3)) == expected
    assert orders(make_module(seed=6)) != expected


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_the_same_with_workers(make_module: Module, workers: int) -> None:
    assert orders(make_module(seed=5, num_workers=workers), epochs=3) == orders(make_module(seed=5), epochs=3)


def test_loading_leaves_the_random_state_of_dropout_alone(make_module: Module) -> None:
    module = make_module()
    before = torch.get_rng_state()
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_last_smaller_batch_is_kept_or_left_out(make_module: Module, drop_last: bool, sizes: list[int]) -> None:
    loader = make_module(drop_last=drop_last).train_dataloader()
    assert [len(batch["input_ids"]) for batch in loader] == sizes and len(loader) == len(sizes)


def test_evaluation_reads_each_sentence_once_and_cuts_it_at_the_model_limit(
    make_module: Module, tokenizer: PreTrainedTokenizerFast
) -> None:
    module = make_module()
    for loader, sentences in (
        (module.val_dataloader(), ["a b c", "a", "b b"]),
        (module.test_dataloader(), ["a b c", "a", "b b", "c " * 100]),
    ):
        rows = {}
        for batch in loader:
            for place, ids, mask in zip(batch["index"].tolist(), batch["input_ids"], batch["attention_mask"], strict=True):
                rows[place] = real_tokens(ids, mask)
        expected = [tokenizer(text, truncation=True, max_length=64)["input_ids"] for text in sentences]
        assert [rows[place] for place in sorted(rows)] == expected


@given(st.integers(1, 40), st.integers(1, 12))
def test_every_batch_to_score_is_some_processs_and_all_processes_have_as_many(batches: int, processes: int) -> None:
    dealt_out = [dealt(batches, rank, processes) for rank in range(processes)]
    assert {batch for own in dealt_out for batch in own} == set(range(batches))
    assert {len(own) for own in dealt_out} == {math.ceil(batches / processes)}
    if batches % processes == 0:  # none twice
        assert sum(map(len, dealt_out)) == batches
