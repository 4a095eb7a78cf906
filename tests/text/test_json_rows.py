"""JSON that is no object a line: arrays, printed objects, tables below a key; and fields that are lists of texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text.examples import examples, unfolded
from simcse_lit.text.rows import Row
from simcse_lit.text.sources import open_sources

TRIPLET = ("query", "pos", "neg")


def read(path: Path, columns: Sequence[str] = ("text",), on_bad_row: str = "error") -> list[tuple[int, tuple[str, ...]]]:
    rows = examples(open_sources(str(path), None, key="data.train_file"), columns, on_bad_row)
    return [(row.line, row.fields) for row in rows]


def refused(path: Path, columns: Sequence[str] = ("text",), on_bad_row: str = "error") -> str:
    with pytest.raises(UserError) as caught:
        read(path, columns, on_bad_row)
    return str(caught.value)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=5),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
    st.sampled_from([".json", ".jsonl"]),
)
def test_an_array_holds_what_the_json_module_writes(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], indent: int | None, ascii_only: bool, suffix: str
) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    path = tmp_path_factory.mktemp("arrays") / f"a{suffix}"
    records = [{"id": 1, "text": text} for text in texts]
    path.write_bytes(json.dumps(records, indent=indent, ensure_ascii=ascii_only).encode())
    assert [fields for _, fields in read(path)] == [(text,) for text in texts]


def test_the_rows_of_a_printed_array_have_the_lines_on_which_they_start(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "one"}, {"text": " "}, 3, {"text": "two"}], indent=1))
    assert read(tmp_path / "a.json", on_bad_row="skip") == [(2, ("one",)), (9, ("two",))]
    said = refused(tmp_path / "a.json")
    assert "line 5: text is blank" in said and "line 8: not a JSON object" in said


def test_objects_that_are_printed_over_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\n{\n "text": "one"\n}\n\n{\n "text": "two"}\n')
    assert read(tmp_path / "a.json") == [(2, ("one",)), (6, ("two",))]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('[{"text": "a"},\n{"text" "b"}]', "line 2: not JSON"),
        ('[{"text": "a"}\n{"text": "b"}]', "line 2: not JSON: expected a comma"),
        ('[{"text": "a"}', "line 1: not JSON"),
        ('[{"text": "a"}]\nmore', "line 2: not JSON: text after"),
        ('{\n"text": "a"\n}\n{\n"text"', "line 5: not JSON"),
    ],
)
def test_a_broken_array_is_refused_even_where_bad_rows_are_skipped(tmp_path: Path, content: str, place: str) -> None:
    (tmp_path / "a.json").write_text(content)
    for on_bad_row in ("error", "skip"):
        assert f"a.json, {place}" in refused(tmp_path / "a.json", on_bad_row=on_bad_row)


def test_a_table_below_a_key_is_answered_with_the_command_that_takes_it_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": [{"text": "one"}]}))
    assert "jq -c '.data[]' FILE > NEW.jsonl" in refused(tmp_path / "a.json")


def test_an_array_is_read_by_what_encodes_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"text": "one"}, {"text": "two"}]')
    assert list(TextFile(str(tmp_path / "a.json"), None, key="input").texts()) == ["one", "two"]
    (tmp_path / "b.json").write_text('[{"text": ["one", "two"]}]')
    with pytest.raises(UserError, match="line 1: text is a list, not a text"):
        TextFile(str(tmp_path / "b.json"), None, key="input")


@pytest.mark.parametrize(
    ("row", "columns", "made"),
    [
        ({"query": "q", "pos": ["p"], "neg": ["n", "unused"]}, TRIPLET, ["q p n"]),
        ({"query": "q", "pos": ["p0", "p1", "p2"], "neg": ["n0", "n1"]}, TRIPLET, ["q p0 n0", "q p1 n1", "q p2 n0"]),
        ({"query": "q", "pos": "p", "neg": ["n"]}, TRIPLET, ["q p n"]),
        ({"query": "q", "pos": ["p0", "p1"]}, ("query", "pos"), ["q p0", "q p1"]),
        (
            {"query": "q", "pos": ["p0", "p1"], "neg": ["a", "b", "c"]},
            ("query", "pos", "neg", "neg"),
            ["q p0 a b", "q p1 c a"],
        ),
        ({"set": ["a", "b", "c", "d"]}, ("set", "set"), ["a b", "c d"]),
        ({"text": ["a", "b"]}, ("text",), ["a", "b"]),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_of_texts_give_an_example_for_each_positive(
    tmp_path: Path, row: dict[str, Any], columns: Sequence[str], made: list[str], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    assert read(path, columns) == [(1, tuple(example.split())) for example in made]


def test_a_row_without_lists_is_itself() -> None:
    row = Row(1, ("a", "b"), "a.csv")
    assert unfolded(row, ["x", "y"]) == [row]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"query": "q", "pos": ["p"], "neg": []}', "neg is missing"),
        ('{"query": "q", "pos": ["p"], "neg": [""]}', "neg is blank"),
        ('{"query": "q", "pos": ["p"], "neg": null}', "neg is missing"),
        ('{"query": "q", "pos": ["p"], "neg": ""}', "neg is blank"),
        ('{"query": "q", "pos": ["p"]}', "no field neg"),
    ],
)
def test_a_row_without_a_hard_negative_is_counted_with_the_way_to_read_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: str, reason: str
) -> None:
    good = '{"query": "q", "pos": ["p"], "neg": ["n"]}\n'
    (tmp_path / "a.jsonl").write_text(good + row + "\n" + good)
    way_out = "To read such rows too, train without hard negatives: data.columns=[query,pos]"
    said = refused(tmp_path / "a.jsonl", TRIPLET)
    assert f"line 2: {reason}" in said and said.count(way_out) == 1
    assert len(read(tmp_path / "a.jsonl", TRIPLET, "skip")) == 2
    assert "1 unusable" in caplog.text and way_out in caplog.text
    assert len(read(tmp_path / "a.jsonl", TRIPLET[:2])) == 3


def test_a_blank_hard_negative_of_a_csv_is_counted_likewise(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sent0,sent1,hard_neg\na,b,c\na,b,\na,b, \n")
    said = refused(tmp_path / "a.csv", ["sent0", "sent1", "hard_neg"])
    assert "2 rows" in said and said.count("data.columns=[sent0,sent1]") == 1


@pytest.mark.parametrize("row", ['{"query": "q", "pos": [], "neg": ["n"]}', '{"query": " ", "pos": ["p"], "neg": []}'])
def test_a_row_without_anchor_or_positive_has_no_such_way(tmp_path: Path, row: str) -> None:
    (tmp_path / "a.jsonl").write_text(row + "\n")
    assert "without hard negatives" not in refused(tmp_path / "a.jsonl", TRIPLET)
