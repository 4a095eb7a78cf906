"""Builds triplets from labelled NLI rows (premise, hypothesis, label).

The i-th entailment of a premise is paired with its i-th contradiction, so a premise that lacks either gives nothing, and no
hypothesis is used twice. SimCSE section 4: "premise, entailment hypothesis, contradiction hypothesis".
"""

from collections.abc import Iterable, Iterator

from simcse_lit.data.sources import Row

COLUMNS = ("premise", "hypothesis", "label")
LABELS = {"entailment": 0, "neutral": 1, "contradiction": 2, "0": 0, "1": 1, "2": 2, 0: 0, 1: 1, 2: 2}


def is_labelled(header: list[str] | None) -> bool:
    """Whether a file's columns are those of labelled NLI."""
    return header is not None and set(COLUMNS) <= set(header)


def label_of(value: object) -> int | None:
    """0 entailment, 1 neutral, 2 contradiction; None when the value is no NLI label."""
    return LABELS.get(value) if isinstance(value, (str, int)) else None


def build_triplets(rows: Iterable[tuple[Row, int]]) -> Iterator[Row]:
    """Group hypotheses by premise and pair entailments with contradictions in the order in which they stand.

    Args:
        rows: (row, label) with the fields (premise, hypothesis, ...), from all files in order.

    Yields:
        Rows (premise, entailment, contradiction) in the order of the premises' first entailments; their line is that of the
        entailment.
    """
    entailments: dict[str, list[tuple[int, str]]] = {}
    contradictions: dict[str, list[str]] = {}
    for row, label in rows:
        premise, hypothesis = row.fields[0], row.fields[1]
        if label == 0:
            entailments.setdefault(premise, []).append((row.line, hypothesis))
        elif label == 2:
            contradictions.setdefault(premise, []).append(hypothesis)
    for premise, positives in entailments.items():
        for (line, positive), negative in zip(positives, contradictions.get(premise, []), strict=False):
            yield Row(line, (premise, positive, negative))
