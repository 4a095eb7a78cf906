"""Readers of other packages, as their entry points name them."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from simcse_lit.data.streaming import open_stream
from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text import readers
from simcse_lit.text.examples import examples
from simcse_lit.text.rows import BadRow
from simcse_lit.text.sources import open_sources
from tests.conftest import Brings

ROWS: list[tuple[int, Mapping[str, Any] | BadRow]] = [
    (1, {"first": "a", "second": "b"}),
    (4, BadRow("is torn")),
    (5, {"first": "c"}),
    (9, {"first": "d", "second": "e"}),
]


def read(location: str) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    assert location in (str(Path("pairs.abc")), "abc://pairs")
    yield from ROWS


def broken(location: str) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    yield 1, {"first": "a", "second": "b"}
    raise RuntimeError("the server is gone\nand more")


@pytest.fixture(autouse=True)
def brought(brings: Brings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pairs.abc").write_bytes(b"\0\1")
    names = {".abc": "read", "abc": "read", "brk": "broken", "nix": "missing"}
    brings(readers.READERS, {name: f"{__name__}:{value}" for name, value in names.items()})


@pytest.mark.parametrize("location", ["pairs.abc", "abc://pairs"])
def test_rows_are_read_and_bad_ones_reported_with_their_line(location: str) -> None:
    for sources in (open_sources(location, None, key="data.train_file"), open_stream(location, None)):
        with pytest.raises(UserError) as raised:
            list(examples(sources, ["first", "second"], "error"))
        assert f"{location}, line 4: is torn" in str(raised.value)
        assert f"{location}, line 5: no field second" in str(raised.value)
        good = list(examples(sources, ["first", "second"], "skip"))
        assert [(row.line, row.fields) for row in good] == [(1, ("a", "b")), (9, ("d", "e"))]


@pytest.mark.parametrize("location", ["pairs.abc", "abc://pairs"])
def test_texts_of_one_column_are_read_and_a_change_is_noticed(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TextFile(location, "first", key="input", on_bad_row="skip")
    assert list(file.texts()) == ["a", "c", "d"]
    before = file.digest()
    assert before == TextFile(location, "first", key="input", on_bad_row="skip").digest()
    Path("pairs.abc").write_bytes(b"\0\2")
    monkeypatch.setattr(sys.modules[__name__], "ROWS", [(1, {"first": "z"}), *ROWS[1:]])
    assert before != TextFile(location, "first", key="input", on_bad_row="skip").digest()


def test_a_missing_column_is_answered_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match=r"has no column third\. Its columns: first, second"):
        list(examples(open_sources("abc://pairs", None, key="data.train_file"), ["first", "third"], "error"))


def test_what_a_reader_raises_is_said_with_its_place() -> None:
    sources = open_sources("brk://x", None, key="data.train_file")
    with pytest.raises(UserError) as raised:
        list(examples(sources, ["first", "second"], "error"))
    assert str(raised.value) == "data.train_file: brk://x, after line 1: the stream broke: the server is gone"


def test_a_reader_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(UserError, match=r"test_readers:missing: its entry point .*readers\.nix cannot be imported"):
        open_sources("nix://x", None, key="data.train_file")
    assert "missing" not in vars(sys.modules[__name__])


def test_an_unknown_ending_is_answered_with_those_of_packages_too() -> None:
    Path("pairs.xyz").write_text("a")
    with pytest.raises(UserError, match=r"Known formats: \.abc, \.txt, \.csv"):
        open_sources("pairs.xyz", None, key="data.train_file")
