"""A cached corpus is used only as it was written; what killed processes left is swept."""

import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import DataConfig
from simcse_lit.data import tokenisation
from simcse_lit.data.cached_file import is_intact, partial_name, read_record, seal, sweep
from simcse_lit.data.tokenisation import summary_of
from simcse_lit.errors import UserError
from tests.conftest import ROOT, train_config
from tests.views.encoded import encoded

LINES = [f"line {number} of the corpus" for number in range(60)]


def tokenised_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    return tokenisation.tokenised_corpus(config, encoded(config, tokenizer))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    (tmp_path / "a.txt").write_text("\n".join(LINES) + "\n")
    return train_config(
        "model=tiny", "data=file", f"data.train_file={tmp_path}/a.txt", f"data.cache_dir={tmp_path}/cache"
    ).data


def only_file(config: DataConfig) -> Path:
    (file,) = Path(config.cache_dir).iterdir()
    return file


def flipped(place: int) -> Callable[[bytes], bytes]:
    """One bit of the byte at a place is another."""
    return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place:][1:]


def behind_a_batch(content: bytes) -> bytes:
    """The first record batch alone, ended as a stream ends: by itself a valid file with fewer rows."""
    with pa.ipc.open_stream(content) as reader:
        batch = reader.read_next_batch()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "tail of zeros": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "only zeros": lambda content: bytes(len(content)),
    "behind a batch": behind_a_batch,
    "a batch, then its own end": lambda content: behind_a_batch(content) + content[-200:],
    "bit of the schema": flipped(20),
    "bit of the ids": flipped(-700),
    "bit of the record": flipped(-60),
    "bit of the digest": flipped(-1),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_file_is_made_again_with_one_line(
    config: DataConfig,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    monkeypatch.setattr(tokenisation, "BLOCK", 20)  # several batches
    caplog.set_level(logging.INFO)
    ids = tokenised_corpus(config, tokenizer)["view0"][:]
    path = only_file(config)
    content = path.read_bytes()
    path.write_bytes(DAMAGE[damage](content))
    caplog.clear()
    assert tokenised_corpus(config, tokenizer)["view0"][:] == ids and len(ids) == len(LINES)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == [f"The tokenised corpus {path.name} in the cache is damaged, so it is made again."]
    assert only_file(config).read_bytes() == content
    caplog.clear()
    tokenised_corpus(config, tokenizer)
    assert [record.getMessage() for record in caplog.records] == [f"Tokenised corpus from the cache, {path.name}"]


def test_a_corpus_from_the_cache_still_tells_what_was_read(config: DataConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    made, found = (summary_of(tokenised_corpus(config, tokenizer)) for _ in range(2))
    assert made == found and made.rows == made.examples == len(LINES)


def test_a_sealed_file_is_intact_with_its_record_and_its_arrow_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"x": list(range(10))})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    assert not is_intact(path)
    seal(path, {"name": "é", "count": 3})
    assert is_intact(path) and read_record(path) == {"name": "é", "count": 3}
    assert Dataset.from_file(str(path))["x"][:] == list(range(10))


def test_the_file_is_on_the_disk_before_it_has_its_name(
    config: DataConfig, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(tokenisation, "durable_replace", lambda partial, path: synced.append(is_intact(partial)))
    with pytest.raises(Exception):  # noqa: B017  nothing took the name
        tokenised_corpus(config, tokenizer)
    assert synced == [True] and list(Path(config.cache_dir).iterdir()) == []


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_what_killed_processes_left_is_swept_at_the_next_start(
    config: DataConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = Path(config.cache_dir)
    folder.mkdir()
    dead, here = dead_process(), platform.node()
    ours = "a-0123456789abcdef"
    gone = [f"{ours}.{dead}{more}.partial" for more in ("", f"@{here}", "@other.host")] + [f"{ours}.99999999999.partial"]
    kept = [
        f"{ours}.{os.getpid()}@{here}.partial",
        f"{ours}.{os.getppid()}.partial",
        f"{ours}.{dead}@other.partial",
        "mine.partial",
        f"thesis.{dead}.partial",
        f"{ours}.{dead}.partial.txt",
    ]
    for name in (*gone, *kept):
        (folder / name).touch()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(folder / f"{ours}.{dead}@other.host.partial", (two_days_ago, two_days_ago))
    tokenised_corpus(config, tokenizer)
    assert {path.name for path in folder.iterdir() if path.suffix != ".arrow"} == set(kept)
    tokenised_corpus(config, tokenizer)  # from the cache
    assert {path.name for path in folder.iterdir() if path.suffix != ".arrow"} == set(kept)


def test_a_partial_file_of_a_running_process_is_known_by_its_name(tmp_path: Path) -> None:
    partial = partial_name(tmp_path / "corpus-0123456789abcdef.arrow")
    partial.touch()
    sweep(tmp_path)
    assert partial.exists()


KILLED = """
import os, signal, sys
from transformers import AutoTokenizer
from simcse_lit.config import resolvers, schema
from simcse_lit.data import tokenisation
from simcse_lit.views.encoded import EncodedViews
from tests.conftest import ROOT, train_config
from tests.views.encoded import encoded
schema.register(); resolvers.register()
tokenisation.BLOCK = 20
real, calls = EncodedViews.stored_ids, []

def table(*arguments):
    calls.append(arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

EncodedViews.stored_ids = table
config = train_config("model=tiny", "data=file", f"data.train_file={sys.argv[1]}", f"data.cache_dir={sys.argv[2]}").data
tokenisation.tokenised_corpus(config, encoded(config, AutoTokenizer.from_pretrained(sys.argv[3])))
"""


def test_a_process_that_is_killed_while_it_tokenises_leaves_nothing_behind_the_next_start(
    config: DataConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    arguments = [str(config.train_file), config.cache_dir, tokenizer.name_or_path]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert only_file(config).suffix == ".partial"
    assert len(tokenised_corpus(config, tokenizer)) == len(LINES)
    assert only_file(config).suffix == ".arrow"


def test_a_full_disk_at_the_seal_is_one_message_and_leaves_nothing(
    config: DataConfig, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, record: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenisation, "seal", full)
    with pytest.raises(UserError, match=r"data\.cache_dir=.*No space left"):
        tokenised_corpus(config, tokenizer)
    assert list(Path(config.cache_dir).iterdir()) == []
