"""Builds training examples from labelled NLI rows: premise, hypothesis, label, or the column names of raw SNLI and MNLI.

The i-th entailment of a premise is paired with its i-th contradiction. A premise that lacks either gives no example, and no
hypothesis is used twice. Other labels can be chosen instead.

Source: SimCSE section 4, "premise, entailment hypothesis, contradiction hypothesis".
"""

from collections.abc import Iterable, Iterator, Sequence

from simcse_lit.text.rows import Row

COLUMNS = ("premise", "hypothesis", "label")
RAW_COLUMNS = ("sentence1", "sentence2", "gold_label")  # in the published files of SNLI and MNLI
NO_GOLD = "-"  # their label if the annotators did not agree
LABELS = {"entailment": 0, "neutral": 1, "contradiction": 2, "0": 0, "1": 1, "2": 2, 0: 0, 1: 1, 2: 2}


def labelled_columns(header: Sequence[str] | None) -> tuple[str, str, str] | None:
    """Return the columns of premise, hypothesis and label; None for a file that is not labelled NLI."""
    return next((columns for columns in (COLUMNS, RAW_COLUMNS) if set(columns) <= set(header or ())), None)


def label_of(value: object) -> int | None:
    """Return 0 for entailment, 1 for neutral, 2 for contradiction; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):  # in Python, True == 1
        return None
    return LABELS.get(value)


def build_examples(rows: Iterable[tuple[Row, int]], labels: Sequence[str]) -> Iterator[Row]:
    """Build examples of a premise and one hypothesis for each label, paired in their order.

    Args:
        rows: (row, label) with the fields (premise, hypothesis, ...), of all files in order.
        labels: label of the positive, then those of the hard negatives; a single `all` takes every hypothesis.

    Yields:
        Rows (premise, hypothesis, ...) in the order of the premises' first positives, with line and file of the positive.

    Source: SimCSE section 4.1 (entailment and contradiction), Table 4 (label of the positive), Table 7 (neutral as a hard
    negative).
    """
    wanted = [None if label == "all" else LABELS[label] for label in labels]
    if len(wanted) == 1:  # no pairing needed
        yield from (Row(row.line, row.fields[:2], row.file) for row, label in rows if wanted[0] in (None, label))
        return
    by_place: list[dict[str, list[Row]]] = [{} for _ in wanted]
    for row, label in rows:
        if label in wanted:
            by_place[wanted.index(label)].setdefault(row.fields[0], []).append(row)
    for premise, positives in by_place[0].items():
        others = [hypotheses.get(premise, []) for hypotheses in by_place[1:]]
        for hypotheses in zip(positives, *others, strict=False):
            yield Row(hypotheses[0].line, (premise, *(row.fields[1] for row in hypotheses)), hypotheses[0].file)
