"""Tables that are not quite RFC 4180: unclosed quotes, other separators, a blank in the header; and what a message names."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_lit.errors import UserError
from simcse_lit.text.examples import examples
from simcse_lit.text.sources import open_sources

TRIPLET = ("sent0", "sent1", "hard_neg")
HEADER = "sent0,sent1,hard_neg"


def read(path: Path, columns: Sequence[str] = TRIPLET, on_bad_row: str = "error") -> list[tuple[int, tuple[str, ...]]]:
    rows = examples(open_sources(str(path), None, key="data.train_file"), columns, on_bad_row)
    return [(row.line, row.fields) for row in rows]


def refused(path: Path, columns: Sequence[str] = TRIPLET) -> str:
    with pytest.raises(UserError) as caught:
        read(path, columns)
    return str(caught.value)


def table(tmp_path: Path, count: int, changed: dict[int, str], name: str = "a.csv") -> Path:
    """A header in line 1 and rows of three fields in the lines behind it, some of which are replaced."""
    lines = [HEADER, *(f"a{line},b{line},c{line}" for line in range(2, count + 1))]
    for line, text in changed.items():
        lines[line - 1] = text
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def row(line: int) -> tuple[int, tuple[str, ...]]:
    return line, (f"a{line}", f"b{line}", f"c{line}")


@pytest.mark.parametrize("opened", ['a12,"b12,c12', '"a12,b12,c12', 'a12,b12,"c12'])
def test_an_unclosed_quote_costs_its_line_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, opened: str
) -> None:
    path = table(tmp_path, 512, {12: opened})
    reason = "a.csv, line 12: malformed CSV: the quote that opens here is never closed; it includes 501 lines, to line 512"
    assert reason in refused(path) and "1 row cannot" in refused(path)
    assert read(path, on_bad_row="skip") == [row(line) for line in range(2, 513) if line != 12]
    assert reason in caplog.text


@pytest.mark.parametrize("next_quoted", ['"a, 40",b40,c40', 'a40,"b, 40",c40', 'a40,b40,"c ""40"""', '"a40","b40","c40"'])
def test_an_unclosed_quote_that_the_next_quoted_field_seems_to_close_costs_one_line_too(
    tmp_path: Path, next_quoted: str
) -> None:
    path = table(tmp_path, 60, {12: 'a12,"b12,c12', 40: next_quoted})
    assert "line 12: malformed CSV: the quote that opens here is never closed; it includes 29 lines, to line 40" in refused(
        path
    )
    fields = tuple(next(csv.reader([next_quoted])))
    expected = [row(line) if line != 40 else (40, fields) for line in range(2, 61) if line != 12]
    assert read(path, on_bad_row="skip") == expected


def test_two_unclosed_quotes_are_named_one_by_one(tmp_path: Path) -> None:
    path = table(tmp_path, 30, {5: '"a5,b5,c5', 20: 'a20,"b20,c20'})
    said = refused(path)
    assert (
        "2 rows cannot" in said
        and "line 5: malformed CSV: the quote" in said
        and "line 20: malformed CSV: the quote" in said
    )
    assert read(path, on_bad_row="skip") == [row(line) for line in range(2, 31) if line not in (5, 20)]


def test_a_quote_in_a_later_line_of_a_record_is_named_where_it_opens(tmp_path: Path) -> None:
    path = table(tmp_path, 9, {3: '"two', 4: 'lines","unclosed,c'})
    assert "line 4: malformed CSV: the quote that opens here is never closed; it includes 6 lines, to line 9" in refused(
        path
    )
    assert read(path, on_bad_row="skip") == [row(2), *(row(line) for line in range(5, 10))]


def test_a_bad_record_of_several_lines_is_named_by_its_first_line(tmp_path: Path) -> None:
    path = table(tmp_path, 6, {3: '"one', 4: 'record",b'})
    assert "line 3: 2 fields, expected 3 (sent0,sent1,hard_neg); it includes 2 lines, to line 4" in refused(path)
    path = table(tmp_path, 6, {3: '"one', 4: 'record" of two,b,c'})
    assert "line 3: malformed CSV" in refused(path) and "(a record of 2 lines)" in refused(path)
    path = table(tmp_path, 6, {3: '"one', 4: '", ,c'})
    assert "line 3: sent1 is blank" in refused(path)


def test_a_header_with_an_unclosed_quote_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, 6, {1: 'sent0,"sent1,hard_neg'})
    assert (
        "a.csv, line 1: malformed CSV: the quote that opens here is never closed; it includes 6 lines, to line 6"
        in refused(path)
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(*[st.text('ab ,"\n', min_size=1, max_size=6).filter(str.strip)] * 3), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t"]),
)
def test_tables_by_other_separators_hold_what_the_csv_module_writes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], delimiter: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([TRIPLET, *rows])
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    path.write_text(buffer.getvalue())
    assert [fields for _, fields in read(path)] == rows


def test_a_blank_in_the_header_is_no_part_of_a_name_or_a_field(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sent0, sent1 ,  hard_neg\na, "b, c", d\n')
    assert read(tmp_path / "a.csv") == [(2, ("a", "b, c", "d"))]
    (tmp_path / "a.tsv").write_text("sent0\t sent1\t hard_neg\na\tb\tc\n")
    assert read(tmp_path / "a.tsv") == [(2, ("a", "b", "c"))]


def test_a_blank_behind_a_comma_is_kept_where_the_header_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sent0,sent1,"hard_neg"\na, b,c\n')
    assert read(tmp_path / "a.csv") == [(2, ("a", " b", "c"))]


def test_a_tsv_that_is_separated_by_commas_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("sent0,sent1,hard_neg\na,b,c\n")
    assert "rename it to end in .csv" in refused(tmp_path / "a.tsv")


@pytest.mark.parametrize(
    ("header", "columns", "advice"),
    [
        ("sent0,sent1", TRIPLET, "To train without hard_neg: data.columns=[sent0,sent1]"),
        ("anchor,positive", TRIPLET, "For example data.columns=[anchor,positive]."),
        ("query,pos,neg", TRIPLET, "For example data.columns=[query,pos,neg]."),
        ("id,sentence", ("text",), "the columns to read, in the order of [text]: data.columns=[NAME]"),
        ("id,qid1,question1,is_duplicate", ("sent0", "sent1"), "in the order of [sent0, sent1]: data.columns=[NAME,NAME]"),
        ("Premise,Hypothesis,Label", TRIPLET, "Labelled NLI needs the columns premise, hypothesis and label. Rename yours"),
        ("A man plays.,Music.", ("sent0", "sent1"), "add a header to the file: (printf 'sent0,sent1\\n'; cat FILE) > NEW"),
    ],
)
def test_a_table_of_other_columns_is_answered_with_what_to_type(
    tmp_path: Path, header: str, columns: Sequence[str], advice: str
) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\na,b,c\n")
    said = refused(tmp_path / "a.csv", columns)
    assert f"Its columns: {header.replace(',', ', ')}." in said and advice in said


@pytest.mark.parametrize("header", ["Premise,Hypothesis,Label", "id,question1", "A man plays.,Music."])
def test_an_example_names_no_column_that_may_hold_no_sentence(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\na,b,c\n")
    assert "For example" not in refused(tmp_path / "a.csv", TRIPLET if "Label" in header else ("text",))


def test_of_many_columns_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"c{number}" for number in range(5000)) + "\n")
    assert "c19 and 4,980 more" in (said := refused(tmp_path / "a.csv")) and len(said) < 500


def test_a_header_that_stands_again_where_files_were_joined_is_no_row(tmp_path: Path) -> None:
    path = table(tmp_path, 6, {4: f"\ufeff{HEADER}"})
    assert "a.csv, line 4: repeats the header" in refused(path)
    assert read(path, on_bad_row="skip") == [row(line) for line in (2, 3, 5, 6)]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sent0,sent1,sent1,other,other\na,b,c,d,e\n")
    assert "has several columns sent1" in refused(tmp_path / "a.csv", ("sent0", "sent1"))
    assert read(tmp_path / "a.csv", ("sent0",)) == [(2, ("a",))]


def test_what_is_wrong_with_the_quotes_of_a_field_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"say \\"hi\\" to"\nwell, then\n')
    said = refused(tmp_path / "a.csv", ("text",))
    assert 'write a quote within a field as ""' in said
    assert '2 fields, expected 1 (text); put a text with a separator in "quotes"' in said


@pytest.mark.parametrize("name", ["score", "Quality", "relatedness_score"])
def test_a_pair_with_a_score_that_is_not_read_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "a.csv").write_text(f"sentence1,sentence2,{name}\na,b,0.0\n")
    sources = open_sources(str(tmp_path / "a.csv"), None, key="data.train_file")
    assert len(list(examples(sources, ["sentence1", "sentence2"], "error", ["entailment"]))) == 1
    assert f"has a column {name}, which is not read" in caplog.text


def test_a_pair_with_a_label_that_is_not_read_is_announced_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "a.csv").write_text("sentence1,sentence2,label\na,b,0\n")
    sources = open_sources(str(tmp_path / "a.csv"), None, key="data.train_file")
    for _ in range(2):
        assert len(list(examples(sources, ["sentence1", "sentence2"], "error", ["entailment"]))) == 1
    assert caplog.text.count("has a column label, which is not read") == 1
    assert len(list(examples(sources, ["sentence1"], "error", ["entailment"]))) == 1
