"""What is on a disk after a power cut at any moment: vectors, indexes and checkpoints are there, old or new, and whole."""

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from simcse_lit import disk
from simcse_lit.encode import main as encode
from simcse_lit.encoding.embedding_cache import EmbeddingCache
from simcse_lit.errors import UserError
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.formats.loading import load_encoder
from simcse_lit.retrieval.index import Index
from simcse_lit.training.checkpoints import RunCheckpointIO
from tests.cli.test_encode import TEXTS, config, raw, write
from tests.retrieval.test_index_writers import N, names, rows

__all__ = ["raw"]

Cut = dict[str, bytes]  # the files of the folder, by name


class Disk:
    """A folder, and what a power cut would leave of it.

    Of a file the bytes of its last fsync, and none without one. Its names are those of the folder's last fsync, those of
    now, or those of its last fsync without what was removed since: a system writes names down when it likes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: list[int] = []  # open, so that no number of an inode is given twice
        self._bytes: dict[int, bytes] = {}
        for path in folder.iterdir():
            self._kept.append(os.open(path, os.O_RDONLY))
            self._bytes[path.stat().st_ino] = path.read_bytes()
        self._synced = self._names()
        self._removed: set[str] = set()
        self.moments: list[tuple[Cut, ...]] = []

    def _names(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self._folder.iterdir()}

    def _look(self) -> None:
        removed = {name: inode for name, inode in self._synced.items() if name not in self._removed}
        ways = (self._synced, self._names(), removed)
        self.moments.append(tuple({name: self._bytes.get(inode, b"") for name, inode in way.items()} for way in ways))

    @contextmanager
    def watch(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Look before and after every call that the disk, or the folder, sees."""
        fsync, unlink, replace = os.fsync, Path.unlink, Path.replace

        def synced(descriptor: int) -> None:
            self._look()
            fsync(descriptor)
            inode = os.fstat(descriptor).st_ino
            if inode == self._folder.stat().st_ino:
                self._synced, self._removed = self._names(), set()
            for path in self._folder.iterdir():
                if path.stat().st_ino == inode:
                    self._kept.append(os.dup(descriptor))
                    self._bytes[inode] = path.read_bytes()
            self._look()

        def unlinked(path: Path, missing_ok: bool = False) -> None:
            self._look()
            unlink(path, missing_ok)
            self._removed.add(path.name)
            self._look()

        def replaced(path: Path, target: Path) -> Path:
            self._look()
            done = replace(path, target)
            self._look()
            return done

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", synced)
            patch.setattr(Path, "unlink", unlinked)
            patch.setattr(Path, "replace", replaced)
            try:
                yield
                self._look()
            finally:
                for descriptor in self._kept:
                    os.close(descriptor)


def restored(folder: Path, cut: Cut) -> Path:
    folder.mkdir()
    for name, content in cut.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_rows_that_were_safe_once_are_safe_until_the_end(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    name = f"out{suffix}"
    file = write(tmp_path / "in.txt", TEXTS)
    encode(config(raw, f"input={file}", f"output={tmp_path / name}"))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / "cut").mkdir()
    seen = Disk(tmp_path / "cut")
    with seen.watch(monkeypatch):
        encode(config(raw, f"input={file}", f"output={tmp_path / 'cut' / name}"))

    def safe(cut: Cut) -> int:
        """Rows that need not be encoded again."""
        if name in cut:
            assert cut[name] == whole
            return len(TEXTS)
        if not {f".{name}.simcse_lit.json", f".{name}.simcse_lit"} <= cut.keys():
            return 0
        record = json.loads(cut[f".{name}.simcse_lit.json"])
        assert len(cut[f".{name}.simcse_lit"]) >= 4 * record["rows"] * record["width"]
        return int(record["rows"])

    for way in zip(*seen.moments, strict=True):
        counts = [safe(cut) for cut in way]
        assert counts == sorted(counts) and set(counts) == {0, 4, 8, 12, 13}
    different = {tuple(sorted(cut.items())) for moment in seen.moments for cut in moment}
    for number, cut in enumerate(sorted(different)):
        folder = restored(tmp_path / f"cut{number}", dict(cut))
        if name not in dict(cut):
            encode(config(raw, f"input={file}", f"output={folder / name}"))
        assert (folder / name).read_bytes() == whole


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_an_index_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = tmp_path / "ix"
    Index.build(rows(), names(), kind=kind).save(folder)
    changed = Index.load(folder)
    changed.add(rows(1), names(1))
    changed.delete([0])
    seen = Disk(folder)
    with seen.watch(monkeypatch):
        changed.save(folder)
        changed.delete([1])
        changed.save(folder)
        Index.build_in(folder, changed.blocks(), changed.config)
    sizes = [N, 2 * N - 1, 2 * N - 2]
    for way in zip(*seen.moments, strict=True):
        found: list[int] = []
        for number, cut in enumerate(way):
            if number and cut == way[number - 1]:
                continue
            index = Index.load(restored(tmp_path / f"{len(list(tmp_path.iterdir()))}", cut))
            assert len(index.search(rows()[5:6], 3)[0]) == 3
            found.append(sizes.index(len(index)))
        assert found == sorted(found) and set(found) == {0, 1, 2}


def test_a_checkpoint_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 1}, path)
    seen = Disk(tmp_path)
    with seen.watch(monkeypatch):
        RunCheckpointIO().save_checkpoint({"step": 2}, path)
    for way in zip(*seen.moments, strict=True):
        steps = [torch.load(io.BytesIO(cut["last.ckpt"]))["step"] for cut in way]
        assert steps == sorted(steps) and set(steps) == {1, 2}


def test_an_embedding_cache_is_the_old_one_or_the_new_one(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_encoder(str(raw), revision=None, pooler="cls", projection=None)

    def cache(folder: Path) -> EmbeddingCache:
        return EmbeddingCache(folder, loaded, max_length=16, precision="32-true")

    (tmp_path / "cache").mkdir()
    cache(tmp_path / "cache").put(["one"], torch.ones(1, 4))
    seen = Disk(tmp_path / "cache")
    with seen.watch(monkeypatch):
        cache(tmp_path / "cache").put(["two"], torch.ones(1, 4))
    for number, way in enumerate(zip(*seen.moments, strict=True)):
        found = []
        for moment, cut in enumerate(way):
            known = cache(restored(tmp_path / f"cut{number}-{moment}", cut))
            found.append(2 - len(known.fill(Embeddings(["one", "two"]), ["one", "two"])))
        assert found == sorted(found) and set(found) == {1, 2}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL])
def test_a_folder_that_cannot_be_synced_stops_nothing_and_a_disk_that_fails_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A folder may be writable but not readable; some file systems cannot sync folders."""
    opened = os.open

    def refuse(path: Path, *arguments: int) -> int:
        if Path(path).is_dir():
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    Index.build(rows(), names()).save(tmp_path / "ix")
    assert len(Index.load(tmp_path / "ix")) == N

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    before = {path.name for path in (tmp_path / "ix").iterdir()}
    with pytest.raises(UserError, match=r"ix: cannot be written: .*Input/output error"):
        Index.build(rows(1), names(1)).save(tmp_path / "ix")
    assert {path.name for path in (tmp_path / "ix").iterdir()} == before
    assert np.allclose(Index.load(tmp_path / "ix").search(rows()[:1], 1)[0][0].score, 1)


def test_a_folder_on_a_disk_that_fails_is_not_taken_for_one_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        disk.fsync(tmp_path)
