"""Triplets and pairs from labelled NLI, against a slow pairing written here and against SimCSE's own recipe on real SNLI."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from simcse_lit.errors import UserError
from simcse_lit.text.examples import examples, read_examples
from simcse_lit.text.nli import build_examples, labelled_columns
from simcse_lit.text.rows import BadRows, Row
from simcse_lit.text.sources import open_sources

TRIPLET = ("sent0", "sent1", "hard_neg")
PAIR = ("sent0", "sent1")
NAMES = ("entailment", "neutral", "contradiction")
LABELS = ("entailment", "contradiction", "neutral")

Labelled = tuple[str, str, int]


def slow_triplets(rows: Sequence[Labelled]) -> Counter[tuple[str, ...]]:
    """Premise by premise: the first entailment with the first contradiction, the second with the second, and so on."""
    triplets = []
    for premise in {row[0] for row in rows}:
        entailed = [row[1] for row in rows if row[0] == premise and row[2] == 0]
        contradicted = [row[1] for row in rows if row[0] == premise and row[2] == 2]
        for place in range(min(len(entailed), len(contradicted))):
            triplets.append((premise, entailed[place], contradicted[place]))
    return Counter(triplets)


def write_tsv(path: Path, rows: Sequence[tuple[str, str, object]]) -> Path:
    lines = ["premise\thypothesis\tlabel", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(
    *paths: Path, columns: Sequence[str] = TRIPLET, on_bad_row: str = "error", labels: Sequence[str] = LABELS
) -> list[tuple[Any, ...]]:
    rows = examples(open_sources([str(path) for path in paths], None, key="data.train_file"), columns, on_bad_row, labels)
    return [row.fields for row in rows]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("PQR"), st.integers(0, 2)), max_size=25))
def test_triplets_equal_a_slow_pairing_of_each_premise(labels: list[tuple[str, int]]) -> None:
    rows = [(premise, f"h{place}", label) for place, (premise, label) in enumerate(labels)]
    built = list(
        build_examples(((Row(line, row[:2], "a.tsv"), row[2]) for line, row in enumerate(rows, start=2)), LABELS[:2])
    )
    assert Counter(row.fields for row in built) == slow_triplets(rows)
    for row in built:
        assert rows[row.line - 2] == (row.fields[0], row.fields[1], 0), "a triplet's line is its entailment's"


def test_ith_entailment_is_paired_with_ith_contradiction(tmp_path: Path) -> None:
    rows = [("P", "c1", 2), ("P", "e1", 0), ("Q", "f", 0), ("P", "n", 1), ("P", "e2", 0), ("Q", "d", 2), ("P", "c2", 2)]
    expected = [("P", "e1", "c1"), ("P", "e2", "c2"), ("Q", "f", "d")]
    assert sorted(read(write_tsv(tmp_path / "a.tsv", rows))) == expected


def test_hypothesis_without_a_counterpart_is_left_out(tmp_path: Path) -> None:
    rows = [("P", "e1", 0), ("P", "e2", 0), ("P", "c1", 2), ("Q", "d1", 2), ("Q", "d2", 2), ("Q", "f1", 0)]
    assert read(write_tsv(tmp_path / "a.tsv", rows)) == [("P", "e1", "c1"), ("Q", "f1", "d1")]


def test_premise_with_only_one_kind_gives_no_triplet(tmp_path: Path) -> None:
    rows = [("A", "e", 0), ("B", "c", 2), ("C", "n", 1), ("D", "n", 1), ("D", "e", 0), ("P", "e", 0), ("P", "c", 2)]
    assert read(write_tsv(tmp_path / "a.tsv", rows)) == [("P", "e", "c")]


def test_premises_that_differ_in_case_are_two_premises(tmp_path: Path) -> None:
    assert read(write_tsv(tmp_path / "a.tsv", [("A dog", "e", 0), ("a dog", "c", 2)])) == []


def test_premise_is_gathered_across_two_files(tmp_path: Path) -> None:
    first = write_tsv(tmp_path / "a.tsv", [("P", "e1", "entailment"), ("Q", "f", "entailment"), ("P", "e2", "entailment")])
    second = write_tsv(tmp_path / "b.tsv", [("P", "c1", "contradiction"), ("P", "c2", "contradiction")])
    assert read(first, second) == [("P", "e1", "c1"), ("P", "e2", "c2")]
    assert read(second, first) == [("P", "e1", "c1"), ("P", "e2", "c2")]


def test_two_columns_give_every_entailment_and_no_other_row(tmp_path: Path) -> None:
    rows = [("P", "e1", 0), ("P", "n", 1), ("Q", "c", 2), ("P", "e2", 0), ("R", "e", 0)]
    assert read(write_tsv(tmp_path / "a.tsv", rows), columns=PAIR) == [("P", "e1"), ("P", "e2"), ("R", "e")]


def slow_examples(rows: Sequence[Labelled], labels: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Premise by premise and place by place: the i-th hypothesis of each label, as long as every label has an i-th."""
    made = []
    for premise in {row[0] for row in rows}:
        hypotheses = [[row[1] for row in rows if row[0] == premise and NAMES[row[2]] == label] for label in labels]
        for place in range(min(map(len, hypotheses))):
            made.append((premise, *(of_label[place] for of_label in hypotheses)))
    return Counter(made)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("PQ"), st.integers(0, 2)), max_size=25), st.permutations(NAMES), st.integers(1, 3))
def test_any_labels_in_any_places_equal_a_slow_pairing(
    labelled: list[tuple[str, int]], order: list[str], places: int
) -> None:
    rows = [(premise, f"h{place}", label) for place, (premise, label) in enumerate(labelled)]
    built = build_examples(((Row(0, row[:2], "a.tsv"), row[2]) for row in rows), order[:places])
    assert Counter(row.fields for row in built) == slow_examples(rows, order[:places])


def test_neutral_or_both_as_hard_negatives_and_every_label_as_the_positive(tmp_path: Path) -> None:
    rows = [("P", "e", 0), ("P", "n", 1), ("P", "c", 2), ("Q", "d", 2)]
    path = write_tsv(tmp_path / "a.tsv", rows)
    assert read(path, labels=["entailment", "neutral"]) == [("P", "e", "n")]
    assert read(path, columns=["a", "b", "c", "d"]) == [("P", "e", "c", "n")]
    assert read(path, columns=PAIR, labels=["contradiction"]) == [("P", "c"), ("Q", "d")]
    assert read(path, columns=PAIR, labels=["all"]) == [(row[0], row[1]) for row in rows]
    with pytest.raises(UserError, match=r"data\.nli_labels=\[neutral\]: data\.columns=\[.*\] needs 2 labels"):
        read(path, labels=["neutral"])


def test_one_column_of_a_labelled_file_is_plain_text(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [("P", "x", "-"), ("P", "y", 1)])
    assert read(path, columns=["hypothesis"]) == [("x",), ("y",)]


@pytest.mark.parametrize("as_name", [True, False])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_names_and_numbers_mean_the_same_in_every_format(tmp_path: Path, suffix: str, as_name: bool) -> None:
    rows = [("P, long", "c", 2), ("P, long", "n", 1), ("P, long", "e", 0), ("Q", "e", 0)]
    records = [
        {"split": "dev", "label": NAMES[label] if as_name else label, "hypothesis": hypothesis, "premise": premise}
        for premise, hypothesis, label in rows
    ]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    assert read(path) == [("P, long", "e", "c")]


@pytest.mark.parametrize("label", ["-", "-1", "", "3", "Entailment"])
def test_row_without_a_label_is_reported_with_its_line(tmp_path: Path, label: str) -> None:
    path = write_tsv(tmp_path / "a.tsv", [("P", "e", "entailment"), ("P", "x", label), ("P", "c", "contradiction")])
    for columns in (TRIPLET, PAIR):
        with pytest.raises(UserError) as caught:
            read(path, columns=columns)
        assert f"a.tsv, line 3: label {label!r}" in str(caught.value)
        assert "1 row" in str(caught.value) and "data.on_bad_row=skip" in str(caught.value)


@pytest.mark.parametrize("label", [-1, 3, None, 0.5, [0], True, False])
def test_json_label_that_is_none_of_the_three_is_reported(tmp_path: Path, label: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"premise": "P", "hypothesis": "x", "label": label}) + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: label"):
        read(path)


def test_skip_leaves_rows_without_a_label_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tsv(tmp_path / "a.tsv", [("P", "x", "-"), ("P", "e", "entailment"), ("P", "c", "contradiction")])
    assert read(path, on_bad_row="skip") == [("P", "e", "c")]
    assert "a.tsv, line 2: label '-'" in caplog.text


def test_blank_hypothesis_is_reported_with_its_column(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [("P", "e", 0), ("P", " ", 2)])
    with pytest.raises(UserError, match=r"a\.tsv, line 3: hypothesis is blank"):
        read(path)


def test_bad_rows_of_all_files_are_reported_together(tmp_path: Path) -> None:
    first, second = (write_tsv(tmp_path / name, [("P", "x", "-")]) for name in ("a.tsv", "b.tsv"))
    with pytest.raises(UserError, match=r"(?s)2 rows.*a\.tsv, line 2.*b\.tsv, line 2"):
        read(first, second)


def test_labelled_files_cannot_be_mixed_with_triplets(tmp_path: Path) -> None:
    labelled = write_tsv(tmp_path / "a.tsv", [("P", "e", 0), ("P", "c", 2)])
    triplets = tmp_path / "b.csv"
    triplets.write_text("sent0,sent1,hard_neg\na,b,c\n")
    for order in ([labelled, triplets], [triplets, labelled]):
        with pytest.raises(UserError, match=r"data\.train_file: .*mixed"):
            read(*order)


RAW = ("sentence1", "sentence2", "gold_label")


def write_raw(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """As SNLI and MNLI are published, with columns that nobody reads."""
    records = [
        {"annotator_labels": [label], "captionID": "1#1", **dict(zip(RAW, row, strict=True))}
        for row in rows
        for label in row[2:]
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    return path


ROWS = [
    ("P", "e", "entailment"),
    ("P", "x", "-"),
    ("P", "c", "contradiction"),
    ("Q", "n", "neutral"),
    ("Q", "f", "entailment"),
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_raw_snli_is_read_as_labelled_and_rows_without_a_gold_label_are_left_out(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raw(tmp_path / f"a{suffix}", ROWS)
    assert read(path) == [("P", "e", "c")]
    assert read(path, columns=PAIR) == [("P", "e"), ("Q", "f")]
    assert not caplog.records  # neither errors nor warnings
    bad = BadRows("error", "data.train_file")
    list(read_examples(open_sources(str(path), None, key="data.train_file"), TRIPLET, bad, LABELS))
    assert (bad.rows, bad.count, bad.unlabelled) == (5, 0, 1)


@pytest.mark.parametrize("columns", [("sentence1", "sentence2"), ("sentence2", "sentence1")])
def test_the_names_of_raw_snlis_sentences_make_no_positive_of_a_contradiction(
    tmp_path: Path, columns: Sequence[str]
) -> None:
    assert read(write_raw(tmp_path / "a.jsonl", ROWS), columns=columns) == [("P", "e"), ("Q", "f")]


def test_another_label_of_raw_snli_is_reported(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.tsv", [*ROWS, ("P", "y", "Entailment"), ("P", "", "neutral")])
    with pytest.raises(UserError, match=r"(?s)line 7: label 'Entailment'.*line 8: sentence2 is blank"):
        read(path)


def test_raw_and_renamed_labelled_files_are_one_corpus(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "a.jsonl", [("P", "e", "entailment")])
    renamed = write_tsv(tmp_path / "b.tsv", [("P", "c", "contradiction")])
    assert read(raw, renamed) == [("P", "e", "c")]


def test_text_that_is_read_for_its_sentences_alone_keeps_every_row_of_raw_snli(tmp_path: Path) -> None:
    sources = open_sources(str(write_raw(tmp_path / "a.jsonl", ROWS)), None, key="postprocess.fit_on")
    assert [row.fields for row in examples(sources, RAW[:2], "error")] == [row[:2] for row in ROWS]


def test_labelled_columns_are_known_in_any_order_and_only_together() -> None:
    assert labelled_columns(["label", "id", "hypothesis", "premise"]) == ("premise", "hypothesis", "label")
    assert labelled_columns(["gold_label", "sentence1", "genre", "sentence2"]) == RAW
    assert not labelled_columns(["sentence1", "sentence2", "score"])
    assert not labelled_columns(["premise", "hypothesis"])
    assert not labelled_columns(["sent0", "sent1", "hard_neg"])
    assert not labelled_columns(None)


def real_triplets(simcse_data: Path) -> list[tuple[str, ...]]:
    with (simcse_data / "nli" / "snli_triplets.csv").open(encoding="utf-8", newline="") as file:
        return [(row["sent0"], row["sent1"], row["hard_neg"]) for row in csv.DictReader(file)]


def test_labelled_snli_gives_the_same_triplets_as_the_ready_made_file(simcse_data: Path) -> None:
    built = read(simcse_data / "nli" / "snli_labelled.tsv")
    assert len(built) == len(set(built)) == 5883
    assert set(built) == set(real_triplets(simcse_data))


def test_ready_made_triplets_are_read_as_the_csv_module_reads_them(simcse_data: Path) -> None:
    assert read(simcse_data / "nli" / "snli_triplets.csv") == real_triplets(simcse_data)


def test_labelled_snli_gives_one_pair_for_each_entailment(simcse_data: Path) -> None:
    path = simcse_data / "nli" / "snli_labelled.tsv"
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:] if line]
    assert read(path, columns=PAIR) == [(fields[0], fields[1]) for fields in lines if fields[2] == "entailment"]
