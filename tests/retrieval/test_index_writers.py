"""Folders of indexes under several writers and readers, and on a disk that is full."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.index import index_config, validate_index
from simcse_lit.errors import UserError
from simcse_lit.index import main as run_index
from simcse_lit.retrieval import index_folder
from simcse_lit.retrieval.index import Block, Index
from simcse_lit.retrieval.index_folder import writing

N, H = 600, 16


def rows(seed: int = 0) -> Tensor:
    return torch.randn(N, H, generator=torch.Generator().manual_seed(seed))


def names(seed: int = 0) -> list[str]:
    return [f"{seed}: {number}" for number in range(N)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def written_by_another_process(folder: Path) -> Iterator[int]:
    """The process id of one that holds the lock of `folder`."""
    code = f"""
import sys
from pathlib import Path
from simcse_lit.retrieval.index_folder import writing
with writing(Path({str(folder)!r})):
    print("holding", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "holding\n"
    try:
        yield process.pid
    finally:
        process.stdin.close()
        assert process.wait() == 0


def command(*arguments: str) -> None:
    """`python -m simcse_lit.index ARGUMENTS` in this process."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        run_index(validate_index(compose("index", list(arguments))))


def test_a_second_writer_is_refused_with_the_first_ones_name_and_a_reader_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    Index.build(rows(), names()).save(folder)
    index = Index.load(folder)
    with written_by_another_process(folder) as pid:
        for write in (
            lambda: command(f"folder={folder}", "delete=1"),
            lambda: command(f"folder={folder}", "input=unread.txt", "checkpoint=unread"),
            lambda: index.save(folder),
            lambda: Index.build_in(folder, [(rows(1), names(1), None)], index_config("exact")),
        ):
            with pytest.raises(UserError, match=rf"ix: is being written by process {pid} on .*\nWait until"):
                write()
        assert [hit.text for hit in Index.load(folder).search(rows()[:1], 1)[0]] == names()[:1]
    command(f"folder={folder}", "delete=[1,2]")
    assert len(Index.load(folder)) == N - 2
    assert len(files(folder)) == 3  # manifest, rows and what is deleted; no lock


def test_a_change_of_an_index_that_is_not_there_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        command(f"folder={tmp_path / 'nowhere'}", "delete=1")
    with pytest.raises(UserError, match="there is no such file"):
        command(f"folder={tmp_path / 'nowhere'}", "vectors=none.parquet")
    assert files(tmp_path) == []


def test_the_lock_of_a_killed_writer_holds_nobody_up(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from simcse_lit.retrieval.index_folder import writing
with writing(Path({str(tmp_path)!r})):
    Path({str(tmp_path)!r}, "rows-0123.arrow").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    Index.build(rows(), names()).save(tmp_path)
    assert len(Index.load(tmp_path)) == N
    assert len(files(tmp_path)) == 2


def test_two_threads_are_two_writers_and_calls_within_one_are_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            Index.build(rows(), names()).save(tmp_path)
        except UserError as error:
            refused.append(str(error))

    with writing(tmp_path), writing(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        Index.build(rows(), names()).save(tmp_path)
    assert len(refused) == 1 and f"by process {os.getpid()}" in refused[0]
    other()
    assert len(refused) == 1


def test_a_change_that_another_writer_made_in_between_is_not_lost(tmp_path: Path) -> None:
    Index.build(rows(), names()).save(tmp_path / "ix")
    one, two = Index.load(tmp_path / "ix"), Index.load(tmp_path / "ix")
    one.add(rows(1), names(1))
    one.save(tmp_path / "ix")
    two.delete([0])
    with pytest.raises(UserError, match=r"ix: another process has written to it since this index was read.*\n.*again"):
        two.save(tmp_path / "ix")
    two.save(tmp_path / "elsewhere")
    assert (len(Index.load(tmp_path / "ix")), len(Index.load(tmp_path / "elsewhere"))) == (2 * N, N - 1)
    one.delete([5])
    one.save(tmp_path / "ix")  # its own last save is no other's
    assert len(Index.load(tmp_path / "ix")) == 2 * N - 1


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_a_reader_that_opened_before_a_rewrite_goes_on(tmp_path: Path, kind: str) -> None:
    Index.build(rows(), names(), kind=kind).save(tmp_path / "ix")
    reader = Index.load(tmp_path / "ix")
    before = set(files(tmp_path / "ix"))
    Index.build_in(tmp_path / "ix", [(rows(1), names(1), None)], index_config(kind))
    assert not (before - {"index.json"}) & set(files(tmp_path / "ix"))
    assert [hits[0].text for hits in reader.search(rows()[:5], 1)] == names()[:5]
    assert [hits[0].text for hits in Index.load(tmp_path / "ix").search(rows(1)[:5], 1)] == names(1)[:5]
    if kind == "exact":
        reader.add(rows(2), names(2))
        assert len(reader) == 2 * N
        return
    for change in (lambda: reader.add(rows(2), names(2)), lambda: reader.save(tmp_path / "elsewhere")):
        with pytest.raises(UserError, match=r"\.faiss: no longer exists: the index was written again since it was opened"):
            change()
    assert len(reader) == N and len(reader.search(rows()[:1], 3)[0]) == 3
    assert not (tmp_path / "elsewhere").exists()


def test_a_reader_never_meets_half_an_index(tmp_path: Path) -> None:
    Index.build(rows(), names()).save(tmp_path / "ix")
    stop, failures, seen = threading.Event(), [], 0

    def rewrite() -> None:
        for seed in range(100):
            Index.build(rows(seed), names(seed)).save(tmp_path / "ix")
        stop.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    while not stop.is_set():
        try:
            index = Index.load(tmp_path / "ix")
            (hit,) = index.search(rows(0)[:1], 1)[0]
            assert hit.text.partition(": ")[0] == next(index.blocks())[1][0].partition(": ")[0]
            seen += 1
        except UserError as error:
            failures.append(str(error))
    writer.join()
    assert seen > 10 and not failures


def test_a_manifest_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.build(rows(), names()).save(tmp_path / "ix")
    open_segment, calls = index_folder.open_segment, 0

    def interrupted(path: Path, width: int) -> index_folder.Segment:
        nonlocal calls
        calls += 1
        if calls == 1:
            Index.build(rows(1), names(1)).save(tmp_path / "ix")
        return open_segment(path, width)

    monkeypatch.setattr(index_folder, "open_segment", interrupted)
    index = Index.load(tmp_path / "ix")
    assert (calls, index.search(rows(1)[:1], 1)[0][0].text) == (2, "1: 0")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What the kernel says then differs from a full disk in the number only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def endless() -> Iterator[Block]:
    for seed in range(40):
        yield rows(seed), names(seed), None


def test_a_disk_that_is_full_leaves_nothing_behind_and_says_so(tmp_path: Path) -> None:
    with files_of_at_most(300_000), pytest.raises(UserError, match=r"new: cannot be written: .*File too large"):
        Index.build_in(tmp_path / "new", endless(), index_config("exact"))
    assert files(tmp_path) == []
    Index.build(rows(), names()).save(tmp_path / "ix")
    before = {name: (tmp_path / "ix" / name).read_bytes() for name in files(tmp_path / "ix")}
    index = Index.load(tmp_path / "ix")
    for seed in range(1, 9):
        index.add(rows(seed), names(seed))
    big = Index.build(rows(), names(), kind="hnsw", links=200)  # its graph is what does not fit
    for size, write in (
        (300_000, lambda: Index.build_in(tmp_path / "ix", endless(), index_config("exact"))),
        (40_000, lambda: index.save(tmp_path / "ix")),
        (80_000, lambda: big.save(tmp_path / "ix")),
    ):
        with files_of_at_most(size), pytest.raises(UserError, match=r"ix: cannot be written: .*File too large"):
            write()
        assert {name: (tmp_path / "ix" / name).read_bytes() for name in files(tmp_path / "ix")} == before
    index.save(tmp_path / "ix")
    assert len(Index.load(tmp_path / "ix")) == 9 * N == len(np.unique(Index.load(tmp_path / "ix")._ids_N))


def test_a_folder_with_a_file_of_somebody_elses_is_refused_whatever_its_ending(tmp_path: Path) -> None:
    (tmp_path / "vectors.npy").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files, e\.g\. vectors\.npy"):
        Index.build(rows(), names()).save(tmp_path)
    assert files(tmp_path) == ["vectors.npy"]


def test_a_file_system_without_locks_is_written_to_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    Index.build(rows(), names()).save(tmp_path)
    assert "has no locks" in caplog.text
    assert len(Index.load(tmp_path)) == N and len(files(tmp_path)) == 2
