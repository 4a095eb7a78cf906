"""Training examples from files: pairs and triplets as they stand, or built from labelled NLI."""

from collections.abc import Iterator, Sequence

from simcse_lit.errors import UserError
from simcse_lit.text.nli import COLUMNS, build_examples, is_labelled, label_of
from simcse_lit.text.rows import BadRows, Row, unusable
from simcse_lit.text.sources import Source, text_rows


def examples(
    sources: Sequence[Source], columns: Sequence[str], on_bad_row: str, nli_labels: Sequence[str] = ()
) -> Iterator[Row]:
    """Checked rows of all files, each with `len(columns)` texts that are not blank.

    Files of labelled NLI give a premise and a hypothesis of each of the first `len(columns) - 1` of the `nli_labels`.

    Raises:
        UserError: after the last row, if rows are bad and `on_bad_row` is `error`; at once for a file that cannot be read.
    """
    key = sources[0].key
    bad = BadRows(on_bad_row, key, "data.on_bad_row" if key == "data.train_file" else None)
    labelled = [is_labelled(source.header()) for source in sources]
    if any(labelled) and len(columns) > 1:
        if not all(labelled):
            raise UserError("data.train_file: files of labelled NLI cannot be mixed with files of pairs or triplets.")
        rows = ((row, label) for source in sources for row, label in _labelled_rows(source, bad))
        if len(nli_labels) < len(columns) - 1:
            raise UserError(
                f"data.nli_labels=[{','.join(nli_labels)}]: data.columns=[{','.join(columns)}] needs {len(columns) - 1} "
                "labels,\none for each column behind the premise."
            )
        yield from build_examples(rows, nli_labels[: len(columns) - 1])
    else:
        for source in sources:
            yield from text_rows(source, columns, bad)
    bad.finish()


def _labelled_rows(source: Source, bad: BadRows) -> Iterator[tuple[Row, int]]:
    for row in source.rows(COLUMNS):
        if not isinstance(row, Row):
            bad.add(source.name, row[0], str(row[1]))
            continue
        label = label_of(row.fields[2])
        reason = unusable(row.fields[:2], COLUMNS)
        if label is None:
            reason = f"label {row.fields[2]!r} is none of entailment, neutral, contradiction (or 0, 1, 2)"
        if reason:
            bad.add(source.name, row.line, reason)
        elif label is not None:
            yield row, label
