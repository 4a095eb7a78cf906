"""Streamed batches: which rows come, in what order, to which rank, and what is said of bad ones."""

import csv
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.hydra_words import explain
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import DataConfig
from simcse_lit.data.streaming import StreamedBatches, shuffled
from simcse_lit.errors import UserError
from simcse_lit.text.rows import Row
from simcse_lit.text.sources import Source
from tests.conftest import LIMIT_S, ROOT, Cli, metrics, train_config
from tests.hub_server import HubServer
from tests.views.encoded import encoded

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
TRIPLETS = TINY.parent / "triplets.csv"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)  # type: ignore[return-value]


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """42 lines, in two files."""
    for name, numbers in (("a.txt", range(30)), ("b.txt", range(30, 42))):
        (tmp_path / name).write_text("".join(f"the {number} of may\n" for number in numbers))
    return tmp_path


def batches_of(config: DataConfig, tokenizer: PreTrainedTokenizerFast, **share: Any) -> StreamedBatches:
    return StreamedBatches(config, encoded(config, tokenizer), **share)


def stream(
    tokenizer: PreTrainedTokenizerFast, *overrides: str, seed: int = 1, rank: int = 0, processes: int = 1, done: int = 0
) -> Iterator[dict[str, Tensor]]:
    config = train_config("data=stream", "trainer.max_steps=9", "data.batch_size=8", "data.shuffle_buffer=10", *overrides)
    return iter(batches_of(config.data, tokenizer, seed=seed, rank=rank, processes=processes, done=done))


def numbers(tokenizer: PreTrainedTokenizerFast, batches: Iterator[dict[str, Tensor]], count: int) -> list[list[int]]:
    """The numbers in the lines of each of the next batches."""
    return [
        [
            int(text.replace(" ", "")[3:-5])
            for text in tokenizer.batch_decode(batch["input_ids"][:, 0], skip_special_tokens=True)
        ]
        for batch in islice(batches, count)
    ]


def both(folder: Path) -> str:
    return f"data.train_file=[{folder}/a.txt,{folder}/b.txt]"


def test_each_pass_holds_every_row_once_but_for_a_rest_and_in_another_order(
    tokenizer: PreTrainedTokenizerFast, numbered: Path
) -> None:
    batches = numbers(tokenizer, stream(tokenizer, both(numbered)), 30)  # 42 rows are 5 batches of 8, and 2 left out
    passes = [list(chain(*batches[start : start + 5])) for start in range(0, 30, 5)]
    assert all(len(set(rows)) == 40 and set(rows) <= set(range(42)) for rows in passes)
    assert len({tuple(rows) for rows in passes}) == 6
    assert {rows[0] >= 30 for rows in passes} == {True, False}  # now the one file first, now the other


def test_the_order_depends_on_the_seed_alone(tokenizer: PreTrainedTokenizerFast, numbered: Path) -> None:
    first = numbers(tokenizer, stream(tokenizer, both(numbered)), 7)
    random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert numbers(tokenizer, stream(tokenizer, both(numbered)), 7) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert numbers(tokenizer, stream(tokenizer, both(numbered), seed=2), 7) != first


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_ranks_shares_of_a_batch_are_together_the_global_batch(
    tokenizer: PreTrainedTokenizerFast, numbered: Path, world: int
) -> None:
    whole = numbers(tokenizer, stream(tokenizer, both(numbered)), 7)
    shares = [numbers(tokenizer, stream(tokenizer, both(numbered), rank=rank, processes=world), 7) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("skip", [1, 5, 12])
def test_a_resumed_stream_goes_on_behind_the_batches_that_were_trained_on(
    tokenizer: PreTrainedTokenizerFast, numbered: Path, skip: int
) -> None:
    whole = numbers(tokenizer, stream(tokenizer, both(numbered)), skip + 3)
    assert numbers(tokenizer, stream(tokenizer, both(numbered), done=skip), 3) == whole[skip:]


def test_a_worker_changes_no_batch(tokenizer: PreTrainedTokenizerFast, numbered: Path) -> None:
    config = train_config("data=stream", "trainer.max_steps=9", "data.batch_size=8", both(numbered))
    loader = DataLoader(batches_of(config.data, tokenizer, seed=1), batch_size=None, num_workers=1)
    one = numbers(tokenizer, iter(loader), 7)
    assert one == numbers(tokenizer, iter(batches_of(config.data, tokenizer, seed=1)), 7)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_buffer_moves_a_row_forward_by_less_than_its_size(size: int) -> None:
    rows = [Row(line, (), "a.txt") for line in range(50)]
    lines = [row.line for row in shuffled(iter(rows), size, random.Random(0))]
    assert sorted(lines) == list(range(50))
    assert all(line - place < size for place, line in enumerate(lines))
    assert (lines == sorted(lines)) == (size == 1)


def test_no_more_is_read_than_buffer_and_batch(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.txt").write_text("".join(f"line {number}\n" for number in range(10_000)))
    read = []
    rows = Source.rows

    def counted(self: Source, columns: Sequence[str]) -> Iterator[Any]:
        for row in rows(self, columns):
            read.append(row)
            yield row

    monkeypatch.setattr(Source, "rows", counted)
    next(stream(tokenizer, f"data.train_file={tmp_path}/long.txt"))
    assert len(read) == 10 + 8


def test_the_views_of_a_row_are_its_columns(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = next(stream(tokenizer, "loss=sup", f"data.train_file={TRIPLETS}", "data.shuffle_buffer=1", "data.max_length=12"))
    with TRIPLETS.open(encoding="utf-8", newline="") as file:
        rows = list(islice(csv.DictReader(file), 8))
    assert batch["input_ids"].shape[:2] == (8, 3)
    for place, row in enumerate(rows):
        for view, column in enumerate(("sent0", "sent1", "hard_neg")):
            expected = tokenizer(row[column], truncation=True, max_length=12)["input_ids"]
            mask = batch["attention_mask"][place, view].bool()
            assert batch["input_ids"][place, view][mask].tolist() == expected
            assert mask.tolist() == [True] * len(expected) + [False] * (len(mask) - len(expected))


def test_a_bad_row_stops_the_stream_with_its_file_and_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n{"text": "good"}\n' * 10)
    with pytest.raises(UserError, match=r"bad\.jsonl, line 2: text is not text\n.*data\.on_bad_row=skip"):
        next(stream(tokenizer, f"data.train_file={tmp_path}/bad.jsonl"))


def test_a_bad_row_that_a_worker_meets_is_told_without_its_stack(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("fine\n\n")
    config = train_config("data=stream", "trainer.max_steps=9", f"data.train_file={tmp_path}/bad.txt").data
    told = []
    for workers in (0, 1):
        try:
            next(iter(DataLoader(batches_of(config, tokenizer, seed=1), batch_size=None, num_workers=workers)))
        except UserError as error:
            told.append((explain(error, "train"), "Traceback" in str(error)))
            error.__traceback__ = None  # it holds the loader, for whose worker the garbage collector would wait five seconds
    (here, without_stack), (in_a_worker, with_stack) = told
    assert here == in_a_worker and with_stack and not without_stack
    assert here is not None and here.startswith("data.train_file: 1 row cannot be used:")


def test_bad_rows_that_are_skipped_are_reported_once(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.txt").write_text("".join(f"the {number} of may\n \n" for number in range(10)))
    skipping = (f"data.train_file={tmp_path}/bad.txt", "data.on_bad_row=skip")
    list(islice(stream(tokenizer, *skipping), 4))  # four passes
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "text is blank; skipped" in line] == lines and len(lines) == 5
    assert "bad.txt, line 2:" in lines[0] and "further ones are not reported" in lines[4]
    caplog.clear()
    next(stream(tokenizer, *skipping, rank=1, processes=2))
    assert not caplog.records


def test_a_stream_that_fills_no_batch_is_refused_instead_of_read_for_ever(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "few.txt").write_text("one\ntwo\n\n")
    with pytest.raises(UserError, match=r"few\.txt: 2 usable rows do not fill one batch of 8"):
        next(stream(tokenizer, f"data.train_file={tmp_path}/few.txt", "data.on_bad_row=skip"))


@pytest.mark.parametrize("names", [("premise", "hypothesis", "label"), ("sentence1", "sentence2", "gold_label")])
def test_a_stream_of_labelled_nli_is_of_its_entailments(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, names: Sequence[str]
) -> None:
    labels = ["entailment", "contradiction", "neutral"]
    rows = [dict(zip(names, (f"the {n}", f"of {n}", labels[n % 3]), strict=True)) for n in range(24)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("loss=sup", f"data.train_file={tmp_path}/a.jsonl", f"data.columns=[{names[0]},{names[1]}]")
    batch = next(stream(tokenizer, *given))
    said = [tokenizer.batch_decode(views, skip_special_tokens=True) for views in batch["input_ids"]]
    assert sorted(said) == sorted([f"the {n}", f"of {n}"] for n in range(0, 24, 3))
    with pytest.raises(
        UserError, match=r"a\.jsonl: building triplets from labelled NLI .*\n.*data\.columns=\[sent0,sent1\]"
    ):
        next(stream(tokenizer, *given[:2]))


def test_lists_of_texts_are_streamed_as_an_example_for_each_positive(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = [{"query": f"the {n}", "pos": [f"of {n}", f"may {n}"], "neg": ["1", "2"]} for n in range(4)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch = next(stream(tokenizer, "loss=sup", f"data.train_file={tmp_path}/a.jsonl", "data.columns=[query,pos,neg]"))
    said = [tokenizer.batch_decode(views, skip_special_tokens=True) for views in batch["input_ids"]]
    assert sorted(said) == sorted(
        [f"the {n}", positive, negative] for n in range(4) for positive, negative in ((f"of {n}", "1"), (f"may {n}", "2"))
    )


def test_a_stream_of_a_local_file_trains(warm_cli: Cli, numbered: Path, tmp_path: Path) -> None:
    done = warm_cli(
        "model=tiny", "data=stream", both(numbered), "trainer.max_steps=3", "data.batch_size=16", "trainer=cpu",
        "data.cache_dir=no_cache", "senteval.from_hub=false", "evaluation.before=false", "evaluation.test=false",
        "trainer.log_every_n_steps=1", "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr
    logged = metrics(tmp_path / "run")
    assert len(logged["train/loss"]) == 3
    assert len(logged["val/sts"]) == 1  # the last step is scored, though there is no length to know it by
    assert logged["lr-AdamW"] == pytest.approx([3e-5 * (3 - step) / 3 for step in range(3)])
    assert "3/3" in done.stdout
    assert "a stream, batch 16" in done.stdout and "3 steps" in done.stdout and "epochs" not in done.stdout
    assert not (tmp_path / "no_cache").exists()


def test_a_worker_reads_a_url_whose_file_system_its_parent_has_used(
    tokenizer: PreTrainedTokenizerFast, numbered: Path
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(numbered)))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        options = ("data=stream", "trainer.max_steps=9", "data.batch_size=8", "data.shuffle_buffer=10")
        url = f"data.train_file='http://127.0.0.1:{server.server_port}/a.txt?key=1'"
        config = train_config(*options, url).data
        batches = batches_of(config, tokenizer, seed=1)
        loader = DataLoader(batches, batch_size=None, num_workers=1)
        local = numbers(tokenizer, stream(tokenizer, f"data.train_file={numbered}/a.txt"), 7)
        assert numbers(tokenizer, iter(batches), 7) == local  # here first, as the training process does
        assert numbers(tokenizer, iter(loader), 7) == local
    finally:
        server.shutdown()
        server.server_close()


HUB_SCRIPT = """
import json, sys
sys.path.insert(0, "{root}")
from tests.conftest import train_config
from tests.views.encoded import encoded
from simcse_lit.config import resolvers, schema
from simcse_lit.errors import UserError
from simcse_lit.data.streaming import StreamedBatches
from transformers import AutoTokenizer
schema.register(); resolvers.register()
tokenizer = AutoTokenizer.from_pretrained("{tiny}")
for overrides in json.loads(sys.argv[1]):
    try:
        config = train_config("data=stream", "trainer.max_steps=1", "data.shuffle_buffer=1", *overrides).data
        batch = next(iter(StreamedBatches(config, encoded(config, tokenizer), seed=1)))
        said = [tokenizer.batch_decode(row, skip_special_tokens=True) for row in batch["input_ids"]]
    except UserError as error:
        said = str(error)
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "datasets" / "some" / "pairs"
    (folder / "data").mkdir(parents=True)
    for part in range(2):
        rows = [{"sent0": f"part {part}", "sent1": f"row {row}", "other": row} for row in range(2)]
        parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / f"train-0000{part}-of-00002.parquet")
    with gzip.open(folder / "numbers.csv.gz", "wt") as file:
        file.write('sent0,sent1\n2020,NA\n"a,b",null\n')
    (folder / "text.txt").write_text("first\n\nthird\n")
    (folder / "broken.jsonl").write_text('{"text": "fine"}\n{"text": oops}\n')
    (folder / "notes.docx").write_text("text\n")
    several = "---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  data_files: b.jsonl\n---\n"
    for name, inside, content in (
        ("lines", "train.jsonl", '{"sent0": "a line", "sent1": "of json"}\n{"sent0": "another", "sent1": "one"}\n'),
        ("lines", "test.jsonl", '{"sent0": "not", "sent1": "read"}\n'),
        ("unsplit", "test.jsonl", '{"sent0": "not", "sent1": "read"}\n'),
        ("several", "a.jsonl", '{"sent0": "not", "sent1": "read"}\n'),
        ("several", "b.jsonl", '{"sent0": "not", "sent1": "read"}\n'),
        ("several", "README.md", several),
        ("empty", "README.md", "nothing here"),
    ):
        (folder.parent / name).mkdir(exist_ok=True)
        (folder.parent / name / inside).write_text(content)
    return folder.parents[2]


def test_data_sets_and_files_of_the_hub_are_streamed_and_nothing_is_downloaded(hub_root: Path, tmp_path: Path) -> None:
    repository = "hf://datasets/some/pairs"
    pairs = ("loss=sup", "data.columns=[sent0,sent1]", "data.batch_size=4")
    asked: dict[str, tuple[str, ...]] = {
        "data set": (*pairs, f"data.train_file={repository}"),
        "numbers": (*pairs, "data.batch_size=2", f"data.train_file={repository}/numbers.csv.gz"),
        "pattern": (*pairs, f"data.train_file='{repository}/data/*.parquet'"),
        "revision": (*pairs, f"data.train_file={repository}/data/*.parquet", "data.revision=main"),
        "no revision": (*pairs, f"data.train_file={repository}", "data.revision=v9"),
        "another format": (*pairs, "data.train_file=hf://datasets/some/lines", "data.batch_size=2"),
        "no split": (*pairs, "data.train_file=hf://datasets/some/unsplit"),
        "configurations": (*pairs, "data.train_file=hf://datasets/some/several"),
        "nothing": (*pairs, "data.train_file=hf://datasets/some/empty"),
        "blank": (f"data.train_file={repository}/text.txt", "data.batch_size=2"),
        "skip": (f"data.train_file={repository}/text.txt", "data.batch_size=2", "data.on_bad_row=skip"),
        "column": ("loss=sup", f"data.train_file={repository}"),
        "broken": (f"data.train_file={repository}/broken.jsonl", "data.batch_size=2"),
        "no repository": ("data.train_file=hf://datasets/some/thing",),
        "no file": (f"data.train_file={repository}/none.txt",),
        "format": (f"data.train_file={repository}/notes.docx",),
        "location": ("data.train_file=hf://some/pairs",),
    }
    script = HUB_SCRIPT.format(root=ROOT, tiny=TINY)
    with HubServer(hub_root) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(list(asked.values()))],
            env={**server.environment(tmp_path), "PYTHONPATH": str(ROOT / "src"), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = dict(zip(asked, map(json.loads, done.stdout.splitlines()), strict=True))
    rows = sorted([f"part {part}", f"row {row}"] for part in range(2) for row in range(2))
    assert sorted(said["data set"]) == rows
    assert said["data set"] == said["pattern"] == said["revision"]  # the files in one order, whatever names them
    assert sorted(said["another format"]) == [["a line", "of json"], ["another", "one"]]
    assert said["numbers"] == [["2020", "na"], ["a, b", "null"]]  # texts, though another reader would take them for numbers
    assert said["skip"] == [["first", "first"], ["third", "third"]]
    assert "text.txt, line 2: text is blank" in said["blank"]
    assert "has no column hard_neg. Its columns: sent0, sent1, other" in said["column"]
    assert f"{repository}/broken.jsonl, line 2: not JSON" in said["broken"]
    assert "hf://datasets/some/unsplit: has no train split. Its splits: test." in said["no split"]
    assert said["configurations"].endswith(
        "has several data sets, in the configurations a, b.\nName the files of one:\n"
        "  hf://datasets/some/several/a.jsonl\n  hf://datasets/some/several/b.jsonl"
    )
    for name, key in (("unsplit", "no split"), ("empty", "nothing")):
        assert f"data.train_file: hf://datasets/some/{name}: " in said[key]
        assert f"Name its files: hf://datasets/some/{name}/FILE" in said[key]
    assert "data.revision=v9" in said["no revision"]
    assert "data.train_file: hf://datasets/some/thing: there is no data set some/thing" in said["no repository"]
    assert "data.train_file: hf://datasets/some/pairs/none.txt: the data set some/pairs has no such file" in said["no file"]
    assert "unknown format '.docx'" in said["format"]
    assert "expected hf://datasets/OWNER/NAME" in said["location"]
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob("*.arrow"))
