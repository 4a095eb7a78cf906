"""Hard negatives that are missing in some rows: no bad rows, and no candidates."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.data.what_was_read import Counting
from simcse_lit.errors import UserError
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import step_of
from tests.conftest import train_config
from tests.views.encoded import encoded

ROWS = [(f"{number} water", f"a river {number}", "the deep" if number % 3 else "  ") for number in range(9)]
STREAM = ("data=stream", "trainer.max_steps=1", "data.shuffle_buffer=1")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


def first_batch(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, *more: str) -> dict[str, Any]:
    (tmp_path / "a.csv").write_text("sent0,sent1,hard_neg\n" + "".join(f"{','.join(row)}\n" for row in ROWS))
    data = ("data=file", f"data.train_file={tmp_path}/a.csv", f"data.cache_dir={tmp_path}/cache", "data.batch_size=9")
    config = train_config("model=tiny", "loss=sup", *data, *more).data
    views = encoded(config, tokenizer)
    if config.streaming:
        return next(iter(StreamedBatches(config, views, seed=1)))
    module = SimCSEDataModule(config, tokenizer, dev=[], test=[], token_budget=9, seed=1, views=views)
    assert module.summary()["blank"] == 0 and module.summary()["examples"] == len(module.corpus)
    batch: dict[str, Any] = next(iter(module.train_dataloader()))
    return batch


TEMPLATE = """data.template='It says "{text}"'"""


@pytest.mark.parametrize("more", [(), STREAM, (TEMPLATE,), (*STREAM, TEMPLATE)])
def test_an_empty_cell_is_a_view_that_is_not_there(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, more: tuple[str, ...]
) -> None:
    batch = first_batch(tokenizer, tmp_path, "data.optional=[hard_neg]", f"data.train_file={tmp_path}/a.csv", *more)
    assert batch["extras"].keys() == {"present"}
    decoded = tokenizer.batch_decode(batch["input_ids"][:, 2], skip_special_tokens=True)
    assert batch["extras"]["present"].tolist() == [[True, True, "deep" in text] for text in decoded]
    assert batch["extras"]["present"][:, 2].sum() == 6


def test_without_it_an_empty_cell_is_a_bad_row(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 rows cannot be used:\n  .*a.csv, line 2: hard_neg is blank"):
        first_batch(tokenizer, tmp_path)
    for column in ("sent1", "other"):
        with pytest.raises(UserError, match=rf"data\.optional=\[{column}\]: only a column of hard negatives"):
            first_batch(tokenizer, tmp_path, f"data.optional=[{column}]")


@given(st.lists(st.booleans(), min_size=1, max_size=6))
@settings(deadline=None)
def test_a_missing_hard_negative_is_no_candidate_of_any_anchor(present: list[bool]) -> None:
    batch = len(present)
    vectors_BVD = torch.randn(batch, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    anchors, positives, hard = normalize(vectors_BVD, dim=2).unbind(1)
    there_BV = torch.ones(batch, 3, dtype=torch.bool)
    there_BV[:, 2] = torch.tensor(present)
    columns = [*positives, *(each for each, is_there in zip(hard, present, strict=True) if is_there)]
    vectors_BVD.requires_grad_()
    losses = []
    for i, anchor in enumerate(anchors):
        total = sum(math.exp(float(anchor @ column) / 0.1) for column in columns)
        losses.append(math.log(total) - float(anchor @ positives[i]) / 0.1)
    loss: Any = InfoNCE(0.1)(step_of(vectors_BVD, extras={"present": there_BV}))
    torch.testing.assert_close(loss.item(), sum(losses) / batch, rtol=1e-6, atol=1e-6)
    loss.backward()
    assert vectors_BVD.grad is not None and vectors_BVD.grad.isfinite().all()
    assert not vectors_BVD.grad[~there_BV].any()


def test_a_list_of_hard_negatives_may_be_empty_too(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [
        {"query": f"{number} water", "pos": [f"a river {number}"], "neg": ["the deep"] * (number % 2)} for number in range(8)
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = ("data.columns=[query,pos,neg,neg]", "data.optional=[neg]", f"data.train_file={tmp_path}/a.jsonl")
    batch = first_batch(tokenizer, tmp_path, *columns)
    assert batch["extras"]["present"].sum(0).tolist() == [8, 8, 4, 4]


def test_missing_texts_are_no_duplicates() -> None:
    counting = Counting(["anchors", "positives", "hard negatives"])
    counting.add([("a", "b", ""), ("c", "b", ""), ("d", "e", "f"), ("g", "h", "f")])
    found = counting.summary(rows=4, left_out=0, unlabelled=0, max_length=32)
    assert found.examples == 4 and found.duplicates == {"anchors": 0, "positives": 1, "hard negatives": 1}
    counting = Counting(["anchors", "hard negatives"])
    counting.add([("a", "")])
    assert counting.summary(rows=1, left_out=0, unlabelled=0, max_length=32).duplicates == {
        "anchors": 0,
        "hard negatives": 0,
    }
