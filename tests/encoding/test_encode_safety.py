"""`python -m simcse_lit.encode` when its input changes, when it is run twice at once, and when what it wrote is damaged."""

import ctypes
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simcse_lit.config.schema import EncodeConfig
from simcse_lit.encode import main as encode
from simcse_lit.encoding.output import VectorFile
from simcse_lit.errors import UserError
from tests.cli.test_encode import TEXTS, config, raw, write

__all__ = ["raw"]

FEWER, MORE, OTHER = TEXTS[:6], [*TEXTS, *TEXTS], [*TEXTS[:-1], "fewer"]  # the last has as many bytes


def after_calls(monkeypatch: pytest.MonkeyPatch, name: str, number: int, do: Callable[[], object]) -> None:
    """Run `do` before the call of that number, from 1, of a method of `VectorFile`."""
    method, calls = getattr(VectorFile, name), 0

    def patched(self: VectorFile, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number:
            do()
        return method(self, *arguments)

    monkeypatch.setattr(VectorFile, name, patched)


def rewrite(file: Path, texts: list[str]) -> None:
    write(file, texts)


def replace(file: Path, texts: list[str]) -> None:
    """As editors and rsync do: another file under the same name."""
    write(file.with_name("new.txt"), texts).replace(file)


def rewrite_with_the_old_time(file: Path, texts: list[str]) -> None:
    before = file.stat()
    write(file, texts)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("suffix", "when"),
    [(".npy", ("append", 1)), (".parquet", ("append", 3)), (".npy", ("finish", 1)), (".parquet", ("finish", 1))],
)
@pytest.mark.parametrize(
    ("change", "texts"),
    [(rewrite, FEWER), (rewrite, MORE), (replace, FEWER), (replace, OTHER), (rewrite_with_the_old_time, OTHER)],
)
def test_an_input_that_changes_while_it_is_encoded_stops_the_run(
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    when: tuple[str, int],
    change: Callable[[Path, list[str]], None],
    texts: list[str],
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    asked = config(raw, f"input={file}", f"output={tmp_path / f'out{suffix}'}")
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"input: .*in\.txt: changed while it was"):
        after_calls(patch, *when, lambda: change(file, texts))
        encode(asked)
    assert not (tmp_path / f"out{suffix}").exists()
    with pytest.raises(UserError, match=r"was left by a run with another input"):
        encode(asked)
    write(file, TEXTS)  # what is kept was made of these
    encode(asked)
    encode(config(raw, f"input={file}", f"output={tmp_path / f'whole{suffix}'}"))
    assert (tmp_path / f"out{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_an_input_that_is_written_anew_with_the_same_content_has_not_changed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    after_calls(monkeypatch, "append", 2, lambda: replace(file, TEXTS))
    encode(config(raw, f"input={file}", f"output={tmp_path / 'out.npy'}"))
    assert len(np.load(tmp_path / "out.npy")) == len(TEXTS)


def test_an_input_that_changes_before_it_is_encoded_stops_the_run(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simcse_lit.encoding.input import TextFile

    file = write(tmp_path / "in.txt", TEXTS)
    digest = TextFile.digest

    def late(self: TextFile) -> str:
        write(file, FEWER)  # after its lines were counted
        return digest(self)

    monkeypatch.setattr(TextFile, "digest", late)
    with pytest.raises(UserError, match=r"in\.txt: changed while it was"):
        encode(config(raw, f"input={file}", f"output={tmp_path / 'out.npy'}"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_a_second_run_for_the_same_output_is_refused_and_harms_nothing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"{text}\n" for text in TEXTS).encode()
    asked = config(raw, "input=-", f"output={tmp_path / 'out.npy'}")
    refusals: list[str] = []

    def again() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"another\ntext\n")))
        with pytest.raises(UserError) as raised:
            encode(asked)
        refusals.append(str(raised.value))

    after_calls(monkeypatch, "append", 2, again)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    encode(asked)
    assert len(refusals) == 1 and f"out.npy: is being written by process {os.getpid()} on " in refusals[0]
    file = write(tmp_path / "in.txt", TEXTS)
    encode(config(raw, f"input={file}", f"output={tmp_path / 'whole.npy'}"))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy", "whole.npy"]


@pytest.mark.parametrize(
    "theirs", ["out.npy.partial", "out.npy.partial.json", "out.npy.partial.lock", "out.npy.partial.txt"]
)
def test_files_of_the_users_beside_the_output_stay(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    (tmp_path / theirs).write_text("three years")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\nanother\n")))
    encode(config(raw, "input=-", f"output={tmp_path / 'out.npy'}"))
    assert (tmp_path / theirs).read_text() == "three years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", theirs]


def test_rows_that_were_lost_are_not_replaced_by_zeros(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    partial = tmp_path / ".out.npy.simcse_lit"
    asked = config(raw, f"input={file}", f"output={tmp_path / 'out.npy'}")
    for name, number in (("append", 3), ("finish", 1)):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=r"\.out\.npy\.simcse_lit: is shorter than"):
            after_calls(patch, name, number, lambda: os.truncate(partial, partial.stat().st_size - 1))
            encode(asked)
        assert not (tmp_path / "out.npy").exists()
    encode(asked)  # begins anew
    encode(config(raw, f"input={file}", f"output={tmp_path / 'whole.npy'}"))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_freed_memory_is_given_back_after_each_block_where_the_c_library_can(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    trimmed: list[int] = []

    class Glibc:
        @staticmethod
        def malloc_trim(kept: int) -> int:
            trimmed.append(kept)
            return 1

    for library, blocks in ((Glibc, 4), (object, 0)):  # the other is musl, for one
        trimmed.clear()
        monkeypatch.setattr(ctypes, "CDLL", lambda _, library=library: library())
        encode(config(raw, f"input={file}", f"output={tmp_path / f'{library.__name__}.npy'}"))
        assert trimmed == [0] * blocks


def stopped(monkeypatch: pytest.MonkeyPatch, asked: EncodeConfig, after: int) -> None:
    """Encode until that many blocks are safe."""

    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        after_calls(patch, "append", after + 1, stop)
        encode(asked)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("damage", ["first row", "last row", "header", "zeros at the end", "another file of its size"])
def test_rows_that_were_changed_after_a_stop_are_encoded_again(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, suffix: str, damage: str
) -> None:
    if (suffix, damage) == (".parquet", "header"):
        return  # its rows have none
    file = write(tmp_path / "in.txt", TEXTS)
    asked = config(raw, f"input={file}", f"output={tmp_path / f'out{suffix}'}")
    stopped(monkeypatch, asked, 2)
    partial = tmp_path / f".out{suffix}.simcse_lit"
    data = bytearray(partial.read_bytes())
    if damage == "another file of its size":
        data = bytearray(os.urandom(len(data)))
    elif damage == "zeros at the end":
        data[-64:] = bytes(64)
    else:
        data[{"first row": 256 if suffix != ".parquet" else 3, "last row": -1, "header": 20}[damage]] ^= 1
    partial.write_bytes(data)
    encode(asked)
    assert f"{partial}: was changed after it was written, so encoding starts again." in caplog.text
    encode(config(raw, f"input={file}", f"output={tmp_path / f'whole{suffix}'}"))
    assert (tmp_path / f"out{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_rows_that_are_changed_during_the_run_do_not_reach_the_output(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    asked = config(raw, f"input={file}", f"output={tmp_path / f'out{suffix}'}")
    partial = tmp_path / f".out{suffix}.simcse_lit"

    def flip() -> None:
        data = bytearray(partial.read_bytes())
        data[200] ^= 1
        partial.write_bytes(data)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"\.simcse_lit: has been changed since it was written"),
    ):
        after_calls(patch, "append", 3, flip)
        encode(asked)
    assert not (tmp_path / f"out{suffix}").exists()
    encode(asked)
    encode(config(raw, f"input={file}", f"output={tmp_path / f'whole{suffix}'}"))
    assert (tmp_path / f"out{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_rows_of_a_version_that_kept_no_digest_are_encoded_again(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    asked = config(raw, f"input={file}", f"output={tmp_path / 'out.npy'}")
    stopped(monkeypatch, asked, 2)
    record = tmp_path / ".out.npy.simcse_lit.json"
    kept = json.loads(record.read_text())
    del kept["sha256"]
    record.write_text(json.dumps(kept))
    encode(asked)
    assert len(np.load(tmp_path / "out.npy")) == len(TEXTS)
