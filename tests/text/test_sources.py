"""Every file format into rows, against what Python's own writers put there; and what a user reads when a file is wrong."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from simcse_lit.errors import UserError
from simcse_lit.text import hub
from simcse_lit.text.examples import examples
from simcse_lit.text.sources import Source, open_sources

TRIPLET = ("sent0", "sent1", "hard_neg")
AWKWARD = st.sampled_from(",;\"'\n\r\t \\|\x0b\x0c\x1c\x85\u2028\u00e9\U0001f600")
CHARACTERS = st.one_of(AWKWARD, st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


def texts(forbidden: str = "") -> st.SearchStrategy[str]:
    return st.text(CHARACTERS.filter(lambda character: character not in forbidden), max_size=12)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, columns: Sequence[str] = ("text",), on_bad_row: str = "error") -> list[tuple[Any, ...]]:
    """The usable rows."""
    return [row.fields for row in examples(open_sources(str(path), None, key="data.train_file"), columns, on_bad_row)]


def raw(path: Path, columns: Sequence[str]) -> list[Any]:
    """All rows, blank fields and all."""
    return [getattr(row, "fields", row) for row in Source(path, path.name, "data.train_file").rows(columns)]


def message(path: Path, columns: Sequence[str] = ("text",)) -> str:
    """What the user reads; it must name the file."""
    with pytest.raises(UserError) as caught:
        read(path, columns)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For properties, which overwrite one file again and again."""
    return tmp_path_factory.mktemp("sources")


@settings(deadline=None, max_examples=60)
@given(st.lists(texts(forbidden="\r\n"), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_txt_gives_one_row_a_line(folder: Path, lines: list[str], end: str, bom: bool, final: bool) -> None:
    content = "".join(line + end for line in lines)
    if not final and lines and lines[-1]:
        content = content[: -len(end)]
    write(folder / "a.txt", content.encode("utf-8-sig" if bom and lines else "utf-8"))
    assert raw(folder / "a.txt", ["text"]) == [(line,) for line in lines]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(texts(), texts(), texts()), max_size=5),
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.permutations(TRIPLET),
)
def test_csv_gives_what_the_csv_module_writes(
    folder: Path, rows: list[tuple[str, ...]], style: tuple[str, int], encoding: str, header: list[str]
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, header, lineterminator=style[0], quoting=style[1])  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(dict(zip(TRIPLET, row, strict=True)) for row in rows)
    write(folder / "a.csv", buffer.getvalue().encode(encoding))
    # a line end inside quotes is read as \n, however it was written
    assert raw(folder / "a.csv", TRIPLET) == [tuple(re.sub(r"\r+\n", "\n", field) for field in row) for row in rows]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(texts("\t\r\n"), texts("\t\r\n")), max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_tsv_fields_are_what_stands_between_tabs(folder: Path, rows: list[tuple[str, str]], end: str, swapped: bool) -> None:
    content = "".join("\t".join(row) + end for row in [("a", "b"), *rows])
    write(folder / "a.tsv", content)
    if swapped:
        assert raw(folder / "a.tsv", ["b", "a"]) == [(second, first) for first, second in rows]
    else:
        assert raw(folder / "a.tsv", ["a", "b"]) == rows


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(texts(), texts()), min_size=1, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_jsonl_gives_what_the_json_module_writes(
    folder: Path, rows: list[tuple[str, str]], ascii_only: bool, end: str
) -> None:
    records = [{"second": second, "id": 7, "first": first} for first, second in rows]
    write(folder / "a.jsonl", "".join(json.dumps(record, ensure_ascii=ascii_only) + end for record in records))
    assert raw(folder / "a.jsonl", ["first", "second"]) == rows


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.none() | texts(), texts()), max_size=6), st.integers(1, 3), st.booleans())
def test_parquet_gives_what_pyarrow_writes(
    folder: Path, rows: list[tuple[str | None, str]], group: int, large: bool
) -> None:
    kind = pa.large_string() if large else pa.string()
    columns = {"id": range(len(rows)), "second": [row[1] for row in rows], "first": [row[0] for row in rows]}
    arrays = {name: pa.array(column, None if name == "id" else kind) for name, column in columns.items()}
    parquet.write_table(pa.table(arrays), folder / "a.parquet", row_group_size=group)
    assert raw(folder / "a.parquet", ["first", "second"]) == rows


def test_quoted_csv_keeps_commas_quotes_and_newlines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'sent0,sent1\n"a, b","say ""hi"""\n"two\n\nparts",plain "word"\n')
    assert read(path, ["sent0", "sent1"]) == [("a, b", 'say "hi"'), ("two\n\nparts", 'plain "word"')]


def test_tsv_quote_is_an_ordinary_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'sent0\tsent1\n"open\tclosed"\n"both"\ta "" b\n')
    assert read(path, ["sent0", "sent1"]) == [('"open', 'closed"'), ('"both"', 'a "" b')]


def test_fields_stand_in_the_order_of_the_columns_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "hard_neg,sent1,id,sent0\nn,p,7,a\n")
    assert read(path, TRIPLET) == [("a", "p", "n")]
    assert read(path, ["sent1"]) == [("p",)]


def test_files_of_several_formats_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / "b.csv", "text\none\n"), write(tmp_path / "a.txt", "two\n")]
    rows = examples(open_sources([str(path) for path in paths], None, key="data.train_file"), ["text"], "error")
    assert [row.fields for row in rows] == [("one",), ("two",)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\r\ntwo\r\n"),
        ("a.csv", "text\r\none\r\ntwo\r\n"),
        ("a.tsv", "text\r\none\r\ntwo"),
        ("a.jsonl", '{"text": "one"}\r\n{"text": "two"}\r\n'),
    ],
)
def test_byte_order_mark_and_crlf_are_no_part_of_the_text(tmp_path: Path, name: str, content: str) -> None:
    assert read(write(tmp_path / name, content.encode("utf-8-sig"))) == [("one",), ("two",)]


def test_newline_at_the_end_of_txt_is_no_blank_line(tmp_path: Path) -> None:
    assert (
        read(write(tmp_path / "a.txt", "one\ntwo\n")) == read(write(tmp_path / "b.txt", "one\ntwo")) == [("one",), ("two",)]
    )


def test_blank_lines_of_txt_are_errors_with_their_lines(tmp_path: Path) -> None:
    text = message(write(tmp_path / "a.txt", "one\n\ntwo\n \t\nthree\n\n"))
    assert re.findall(r"line (\d+)", text) == ["2", "4", "6"]
    assert "3 rows" in text and "data.on_bad_row=skip" in text


def test_skip_reports_blank_lines_and_reads_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.txt", "one\n\ntwo\n")
    assert read(path, on_bad_row="skip") == [("one",), ("two",)]
    assert "a.txt, line 2" in caplog.text and "1 unusable" in caplog.text


def test_only_five_bad_rows_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    text = message(write(tmp_path / "a.txt", "one\n" + "\n" * 8))
    assert re.findall(r"line (\d+)", text) == ["2", "3", "4", "5", "6"]
    assert "8 rows" in text and "3 more" in text


def test_five_bad_rows_are_all_shown(tmp_path: Path) -> None:
    text = message(write(tmp_path / "a.txt", "\n" * 5))
    assert re.findall(r"line (\d+)", text) == ["1", "2", "3", "4", "5"] and "more" not in text


@pytest.mark.parametrize(
    "location", ["no/such/file.csv", "pkg://simcse_lit/data/samples/absent.csv", "pkg://no_package/a.csv"]
)
def test_missing_file_is_named_with_its_key(location: str) -> None:
    with pytest.raises(UserError, match=f"data.train_file: {re.escape(location)}"):
        open_sources(location, None, key="data.train_file")


def test_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "corpus.csv").mkdir()
    assert "folder" in message(tmp_path / "corpus.csv")


@pytest.mark.parametrize("name", ["a.docx", "a.csv.zip", "a.parquet.gz", "plain", "a.gz", ".gz"])
def test_unknown_suffix_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    text = message(write(tmp_path / name, "text\none\n"))
    assert all(suffix in text for suffix in (".txt", ".csv", ".tsv", ".jsonl", ".parquet"))


def test_unknown_suffix_from_the_hub_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "train.docx", "text\none\n")
    monkeypatch.setattr(hub, "download", lambda location, revision, key: [path])
    with pytest.raises(UserError, match=r"train\.docx.*unknown format '\.docx'"):
        open_sources("hf://datasets/owner/name/train.docx", None, key="data.train_file")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    assert "data.train_file" in message(write(tmp_path / name, b""))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "sent0,other\na,b\n"), ("a.tsv", "sent0\tother\na\tb\n"), ("a.jsonl", '{"sent0": "a", "other": "b"}\n')],
)
def test_missing_column_lists_the_columns_that_there_are(tmp_path: Path, name: str, content: str) -> None:
    text = message(write(tmp_path / name, content), ["sent0", "sent1"])
    assert "data.columns" in text and "no column sent1" in text and "sent0, other" in text


def test_missing_parquet_column_lists_the_columns_that_there_are(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"sent0": ["a"], "other": ["b"]}), tmp_path / "a.parquet")
    text = message(tmp_path / "a.parquet", ["sent0", "sent1"])
    assert "data.columns" in text and "no column sent1" in text and "sent0, other" in text


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, suffix: str, bad: int) -> None:
    row = b'{"caf\xc3\xa9": "a"}\n' if suffix == ".jsonl" else b"caf\xc3\xa9\n"
    lines = [row] * (bad - 1) + [row[:3] + b"\xe9" + row[3:]]
    text = message(write(tmp_path / f"a{suffix}", b"".join(lines)), ["caf\u00e9"])
    assert f"line {bad}:" in text and "UTF-8" in text and "0xe9" in text


@pytest.mark.parametrize("fields", ["a,b", "a,b,c,d", "a"])
def test_wrong_number_of_fields_is_named_with_line_and_header(tmp_path: Path, fields: str) -> None:
    text = message(write(tmp_path / "a.csv", f'sent0,sent1,hard_neg\n"two\nlines",b,c\n{fields}\nd,e,f\n'), TRIPLET)
    assert f"line 4: {fields.count(',') + 1} fields, expected 3 (sent0,sent1,hard_neg)" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"sent0": "a", "sent1": null}', "sent1 is missing"),
        ('{"sent0": "a", "sent1": " "}', "sent1 is blank"),
        ('{"sent0": "a", "sent1": 3}', "sent1 is not text"),
        ('{"sent0": "a"}', "no field sent1"),
        ("", "blank"),
        ('{"sent0": "a" "sent1": "b"}', "not JSON"),
        ('["a", "b"]', "not a JSON object"),
        ('{"sent0": "a", "sent1": "half a pair \\ud83d"}', "sent1"),
    ],
)
def test_unusable_jsonl_row_is_named_with_its_line(tmp_path: Path, content: str, reason: str) -> None:
    good = '{"sent0": "a", "sent1": "b"}\n'
    text = message(write(tmp_path / "a.jsonl", good + good + content + "\n" + good), ["sent0", "sent1"])
    assert "line 3: " in text and reason in text


def test_blank_first_line_of_jsonl_can_be_skipped(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", '\n{"text": "one"}\n'), on_bad_row="skip") == [("one",)]


@pytest.mark.parametrize("content", ["sent0,sent1\na,b\na,\n", "sent0,sent1\na,b\n  ,b\n", 'sent0,sent1\na,b\n"",b\n'])
def test_blank_csv_field_is_named_with_its_line(tmp_path: Path, content: str) -> None:
    assert re.search(r"line 3: sent[01] is blank", message(write(tmp_path / "a.csv", content), ["sent0", "sent1"]))


def test_null_in_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a", "b", None, "c"]}), tmp_path / "a.parquet", row_group_size=2)
    assert "line 3: text is missing" in message(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", on_bad_row="skip") == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("content", ['text,b\n"x" y,z\n', 'text,b\nx,"never closed\n'])
def test_malformed_quoting_is_named_with_its_line(tmp_path: Path, content: str) -> None:
    assert "line 2" in message(write(tmp_path / "a.csv", content))


@pytest.mark.parametrize("content", ['text,"b" \nx,y\n', 'text,"never closed\nx,y\n'])
def test_malformed_header_is_named_with_its_file(tmp_path: Path, content: str) -> None:
    assert "data.train_file" in message(write(tmp_path / "a.csv", content))


def test_truncated_parquet_is_named(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["one"] * 100}), tmp_path / "a.parquet")
    assert "not a Parquet file" in message(write(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-20]))


def test_parquet_with_a_damaged_page_is_named(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": [f"sentence {n}" for n in range(1000)]}), tmp_path / "a.parquet")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    message(write(tmp_path / "b.parquet", bytes(content)))
