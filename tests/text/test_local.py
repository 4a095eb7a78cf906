"""What a path stands for: a file, a pattern, a folder, a name that does not tell the format."""

import gzip
from pathlib import Path

import pytest

from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text.sources import open_sources
from tests.conftest import train_config

KEY = "data.train_file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("b.txt", "two\n"), ("a.txt", "one\n"), ("c.csv", "text\nthree\n"), ("deep/d.txt", "four\n")):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(content)
    return tmp_path / "data"


def names(*locations: str) -> list[str]:
    return [Path(source.name).name for source in open_sources(list(locations), None, key=KEY)]


def refused(location: str) -> str:
    with pytest.raises(UserError) as caught:
        open_sources(location, None, key=KEY)
    return str(caught.value)


def test_a_pattern_is_its_files_in_the_order_of_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(f"{folder}/*.txt") == ["a.txt", "b.txt"]
    assert names(f"{folder}/**/*.txt") == ["a.txt", "b.txt", "d.txt"]
    assert names(f"{folder}/[bc].*", f"{folder}/?.txt") == ["b.txt", "c.csv", "a.txt", "b.txt"]
    monkeypatch.chdir(folder.parent)
    assert names("data/*.txt") == ["a.txt", "b.txt"]
    monkeypatch.setenv("HOME", str(folder.parent))
    assert names("~/data/a*.txt") == ["a.txt"]


def test_a_file_that_is_named_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].txt").write_text("it\n")
    assert names(f"{folder}/a[1].txt") == ["a[1].txt"]


def test_a_pattern_that_matches_nothing_is_named(folder: Path) -> None:
    assert "/none*.txt: matches no file" in refused(f"{folder}/none*.txt")


def test_a_folder_is_answered_with_patterns_for_what_is_in_it(folder: Path) -> None:
    (folder / "notes.docx").touch()
    for name in (str(folder), f"{folder}/"):
        assert refused(name).endswith(f"is a folder. Name its files: {KEY}={folder}/*.txt or {KEY}={folder}/*.csv")
    (folder / "empty").mkdir()
    assert f"{KEY}={folder}/empty/*.txt" in refused(f"{folder}/empty")


def test_a_pattern_for_one_text_is_read_if_it_is_one_file(folder: Path) -> None:
    assert list(TextFile(f"{folder}/c.*", None, key="input").texts()) == ["three"]
    with pytest.raises(UserError, match=r"input: .*\*\.txt: is 2 files\. Give one of them"):
        TextFile(f"{folder}/*.txt", None, key="input")


def test_an_ending_in_capitals_is_the_same_format(tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_text("one\n")
    (tmp_path / "B.Csv.GZ").write_bytes(gzip.compress(b"text\ntwo\n"))
    rows = [
        row for name in ("A.TXT", "B.Csv.GZ") for row in open_sources(str(tmp_path / name), None, key=KEY)[0].rows(["text"])
    ]
    assert [getattr(row, "fields", row) for row in rows] == [("one",), ("two",)]
    with pytest.raises(UserError, match=r"a \.txt file holds one sentence a line"):
        train_config("model=tiny", "loss=sup", "data=file", f"data.train_file={tmp_path}/A.TXT")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("corpus.gz", "Rename it, e.g. to corpus.txt.gz"),
        ("corpus.ZST", "Rename it, e.g. to corpus.txt.ZST"),
        ("corpus", "Rename it, e.g. to corpus.txt"),
        ("corpus.parquet.gz", "Parquet is compressed inside, so decompress the file to corpus.parquet."),
    ],
)
def test_a_name_that_does_not_tell_the_format_is_answered_with_one_that_does(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"one\n"))
    assert refused(str(tmp_path / name)).endswith(advice if advice.endswith(".") else f"{advice}.")


def test_a_published_table_that_is_named_as_text_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "snli_1.0_dev.txt").write_text("gold_label\tsentence1\tsentence2\nneutral\ta\tb\n")
    (source,) = open_sources(str(tmp_path / "snli_1.0_dev.txt"), None, key=KEY)
    with pytest.raises(UserError, match=r"snli_1\.0_dev\.txt: is a table separated by tabs\. .*\.tsv"):
        list(source.rows(["text"]))


def test_objects_that_are_named_as_text_are_told_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('{"sent0": "a", "sent1": "b"}\n')
    (source,) = open_sources(str(tmp_path / "a.txt"), None, key=KEY)
    with pytest.raises(UserError, match=r"a\.txt: has a JSON object a line\. .*\.jsonl"):
        list(source.rows(["text"]))
