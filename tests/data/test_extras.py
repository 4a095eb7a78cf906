"""What a batch holds beside its texts: scores, labels, rows and hashes, of a corpus and of a stream."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import TrainConfig
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.text.extras import Extra, stable_hash
from simcse_lit.training.build import build
from tests.conftest import Cli, metrics, train_config
from tests.views.encoded import encoded

ROWS = [(f"{number} the water", f"a river {number % 3}", number / 4 - 1, f"class {number % 2}") for number in range(12)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scored.csv"
    path.write_text("one,two,score,kind\n" + "".join(f"{','.join(map(str, row))}\n" for row in ROWS))
    return path


def config_of(file: Path, *more: str) -> TrainConfig:
    columns = ("data.columns=[one,two]", "data.scores=score", "data.labels=kind", f"data.cache_dir={file.parent}/cache")
    return train_config(
        "model=tiny", "loss=sup", "data=file", f"data.train_file={file}", *columns, "data.batch_size=4", *more
    )


def batches_of(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, *needs: str, **share: Any) -> list[dict[str, Any]]:
    views = encoded(config.data, tokenizer, config.augmentation.makers)
    if config.data.streaming:
        stream = iter(StreamedBatches(config.data, views, seed=1, needs=needs, **share))
        return [next(stream) for _ in range(3)]
    data = SimCSEDataModule(config.data, tokenizer, dev=[], test=[], token_budget=9, seed=1, views=views, needs=needs)
    return list(data.train_dataloader())


STREAM = ("data=stream", "trainer.max_steps=3", "data.shuffle_buffer=5")


@pytest.mark.parametrize("stream", [(), STREAM])
def test_each_example_has_its_own_score_label_row_and_hashes(
    file: Path, tokenizer: PreTrainedTokenizerFast, stream: tuple[str, ...]
) -> None:
    config = config_of(file, f"data.train_file={file}", *stream)
    seen = []
    for batch in batches_of(config, tokenizer, "rows", "hashes"):
        extras = batch["extras"]
        assert extras["scores"].dtype == torch.float32 and extras["scores"].shape == (4,)
        assert extras["labels"].dtype == extras["rows"].dtype == extras["hashes"].dtype == torch.int64
        for place, text in enumerate(tokenizer.batch_decode(batch["input_ids"][:, 0], skip_special_tokens=True)):
            number = int(text.split()[0]) if text.split()[0].isdigit() else int(text.replace(" ", "")[:-8])
            assert extras["scores"][place].item() == ROWS[number][2]
            assert extras["labels"][place].item() == stable_hash(ROWS[number][3].encode())
            assert stream or extras["rows"][place].item() == number
            for view in (0, 1):
                ids = tokenizer(ROWS[number][view])["input_ids"]
                expected = stable_hash(torch.tensor(ids, dtype=torch.int32).numpy().tobytes())
                assert extras["hashes"][place, view].item() == expected
        seen += extras["rows"].tolist()
    assert sorted(seen) == list(range(12))


def test_a_stream_numbers_its_rows_the_same_on_every_process(file: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    whole = batches_of(config_of(file, *STREAM, f"data.train_file={file}"), tokenizer, "rows")
    for rank in range(2):
        config = config_of(file, *STREAM, f"data.train_file={file}")
        for part, batch in zip(batches_of(config, tokenizer, "rows", rank=rank, processes=2), whole, strict=True):
            for name in ("rows", "scores", "labels"):
                assert torch.equal(part["extras"][name], batch["extras"][name].chunk(2)[rank])


def test_nothing_comes_that_nobody_asks_for(file: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = config_of(file, "data.scores=null", "data.labels=null")
    assert all("extras" not in batch for batch in batches_of(config, tokenizer))
    assert batches_of(config, tokenizer, "hashes")[0]["extras"].keys() == {"hashes"}


def test_extras_come_with_changed_views_too(file: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    maker = "makers: [{_target_: simcse_lit.views.augmentation.DeleteWords}]"
    views = f"data.views=[{{column: one, role: anchor}}, {{column: two, role: positive, {maker}}}]"
    usual, changed = (batches_of(config_of(file, *more), tokenizer, "rows", "hashes") for more in ((), (views,)))
    for batch, other in zip(usual, changed, strict=True):
        assert torch.equal(batch["extras"]["scores"], other["extras"]["scores"])
        assert torch.equal(batch["extras"]["hashes"][:, 0], other["extras"]["hashes"][:, 0])
        assert not torch.equal(batch["extras"]["hashes"][:, 1], other["extras"]["hashes"][:, 1])


@pytest.mark.parametrize(
    ("value", "said"),
    [("much", "score is not a number: 'much'"), ("", "score is missing"), ("nan", "score is not a number: 'nan'")],
)
def test_a_row_without_a_number_is_named_with_file_and_line(
    file: Path, tokenizer: PreTrainedTokenizerFast, value: str, said: str
) -> None:
    file.write_text(file.read_text() + f"a,b,{value},class 1\n")
    with pytest.raises(UserError, match=f"1 row cannot be used:\n  .*scored.csv, line 14: {said}"):
        batches_of(config_of(file), tokenizer)
    assert len(batches_of(config_of(file, "data.on_bad_row=skip"), tokenizer)) == 3


def test_labels_may_be_any_text_or_number() -> None:
    label = Extra("labels", "kind")
    assert label.read("1") == label.read(1) == label.read(" 1 ") != label.read("2")
    assert 0 <= label.read("數") < 2**63
    assert Extra("scores", "score").read("1e-1") == 0.1


def test_labelled_nli_is_read_as_a_table_where_its_label_is_asked_for(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = tmp_path / "nli.csv"
    path.write_text("premise,hypothesis,label\n" + "".join(f"p {n},h {n},{n % 3}\n" for n in range(8)))
    config = config_of(path, "data.columns=[premise,hypothesis]", "data.scores=null", "data.labels=label")
    labels = torch.cat([batch["extras"]["labels"] for batch in batches_of(config, tokenizer)])
    assert len(labels) == 8 and len(set(labels.tolist())) == 3


def test_a_column_that_is_not_there_is_named_with_its_key(file: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match=r"data\.scores=scor: .*scored\.csv: has no such column\. Did you mean score\?"):
        batches_of(config_of(file, "data.scores=scor"), tokenizer)
    with pytest.raises(UserError, match=r"data\.labels=two: is already a text column"):
        config_of(file, "data.labels=two")
    with pytest.raises(UserError, match=r"data\.labels=kind: a \.txt file has no columns"):
        train_config("model=tiny", "data=file", "data.train_file=a.txt", "data.labels=kind")


def test_a_term_that_needs_what_no_column_holds_says_which_key_to_set(file: Path) -> None:
    short = ("trainer=cpu", "senteval.from_hub=false", "tasks=[]", "tasks@dev=samples-dev", "analyses=[]")
    targets = "loss.terms.contrastive.targets=labels"
    with pytest.raises(UserError, match=r"loss\.terms\.contrastive: needs labels\. .*data\.labels=COLUMN"):
        build(config_of(file, *short, targets, "data.labels=null"))
    assert build(config_of(file, *short, targets)).module.objective.needs == {"positive", "labels"}


def test_a_run_with_labels_and_the_mask_of_duplicates_trains(warm_cli: Cli, file: Path, tmp_path: Path) -> None:
    mask = "loss.terms.contrastive.masks={duplicates: {_target_: simcse_lit.objective.masks.Duplicates}}"
    columns = ("data.columns=[one,two]", "data.labels=kind", "loss.terms.contrastive.targets=labels", mask)
    short = ("trainer=cpu", "trainer.max_steps=2", "evaluation.before=false", "tasks=[]", "tasks@dev=samples-dev")
    data = ("loss=sup", "data=file", f"data.train_file={file}", "data.batch_size=4", "trainer.log_every_n_steps=1")
    done = warm_cli("model=tiny", *data, *columns, *short, "senteval.from_hub=false", "analyses=[]", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")["train/loss"]) == 2
