"""Training examples from files: pairs and triplets as they are, or built from labelled NLI."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from simcse_lit.errors import UserError
from simcse_lit.text.columns import judgements
from simcse_lit.text.extras import Extra, values
from simcse_lit.text.nli import NO_GOLD, RAW_COLUMNS, build_examples, label_of, labelled_columns
from simcse_lit.text.rows import BadRow, BadRows, Row, unusable
from simcse_lit.text.sources import Source

log = logging.getLogger(__name__)


def examples(
    sources: Sequence[Source], columns: Sequence[str], on_bad_row: str, nli_labels: Sequence[str] | None = None
) -> Iterator[Row]:
    """Read files with `read_examples`, and report rows that cannot be used.

    Raises:
        UserError: rows are bad and `on_bad_row` is `error` (after the last row); or a file cannot be read (immediately).
    """
    bad = counter(sources, on_bad_row)
    yield from read_examples(sources, columns, bad, nli_labels)
    bad.finish()


def counter(sources: Sequence[Source], on_bad_row: str) -> BadRows:
    """Return the counter of rows and bad rows of some files."""
    key = sources[0].key
    return BadRows(on_bad_row, key, "data.on_bad_row" if key == "data.train_file" else None)


def read_examples(
    sources: Sequence[Source],
    columns: Sequence[str],
    bad: BadRows,
    nli_labels: Sequence[str] | None = None,
    extras: Sequence[Extra] = (),
    optional: Sequence[str] = (),
) -> Iterator[Row]:
    """Yield checked rows of all files, each with `len(columns)` texts that are not blank.

    Labelled NLI gives a premise and a hypothesis for each of the first `len(columns) - 1` of the `nli_labels`. Other files
    are read one after the other; a row with lists of texts gives several examples (`unfolded`).

    Args:
        sources: the files.
        columns: anchor, positive, hard negatives.
        bad: counts rows and receives those that cannot be used.
        nli_labels: `data.nli_labels`; None to read labelled NLI like any other table.
        extras: columns besides the texts, whose values follow the texts; labelled NLI is then read like any other table.
        optional: columns whose texts may be blank, which gives "".

    Raises:
        UserError: a file cannot be read.
    """
    if nli_labels is None or len(columns) < 2 or extras:
        for source in sources:
            yield from _plain_rows(source, columns, bad, extras, optional)
        return
    for group in [[source] for source in sources] if len(columns) == 2 else [sources]:  # pairs need no other files
        labelled = [labelled_columns(source.header) for source in group]
        if any(labelled):
            yield from _from_nli(group, labelled, columns, bad, nli_labels)
        else:
            for source in group:
                _warn_of_labels(source, columns)
                yield from _plain_rows(source, columns, bad, optional=optional)


def unfolded(row: Row, columns: Sequence[str]) -> list[Row]:
    """Return one example for each positive of a row with lists, as in `{"query", "pos": [...], "neg": [...]}`.

    The i-th example takes the i-th text of each list; a shorter list starts again. A column that is listed m times takes m
    texts of its list for each example. Anchor and positive decide the number of examples.
    """
    if not any(isinstance(field, list) for field in row.fields):
        return [row]
    texts = [field or [None] if isinstance(field, list) else [field] for field in row.fields]
    times = [list(columns).count(name) for name in columns]
    turn = [list(columns[:place]).count(name) for place, name in enumerate(columns)]
    count = max(-(-len(texts[place]) // times[place]) for place in range(min(2, len(columns))))
    return [
        replace(
            row,
            fields=tuple(
                options[(example * times[place] + turn[place]) % len(options)] for place, options in enumerate(texts)
            ),
        )
        for example in range(count)
    ]


def _plain_rows(
    source: Source, columns: Sequence[str], bad: BadRows, extras: Sequence[Extra] = (), optional: Sequence[str] = ()
) -> Iterator[Row]:
    for extra in extras:
        extra.check(source)
    names, texts = [*columns, *(extra.column for extra in extras)], len(columns)
    for row in source.rows(names):
        bad.rows += 1
        if not isinstance(row, Row):
            line, why = row
            bad.add(source.name, line, str(why), _as_pairs(columns) if set(why.absent) & set(columns[2:]) else None)
            continue
        for example in unfolded(row, names):
            if optional:
                example = _emptied(example, columns, optional)
            reason = unusable(example.fields, columns, optional)  # checks the texts, which come first
            if reason is not None:
                is_pair = unusable(example.fields[:2], columns) is None
                bad.add(source.name, row.line, reason, _as_pairs(columns) if is_pair else None)
                continue
            if extras:
                try:
                    found = values(extras, example.fields[texts:])
                except BadRow as why:
                    bad.add(source.name, row.line, str(why))
                    continue
                example = replace(example, fields=(*example.fields[:texts], *found))
            yield example


def _emptied(row: Row, columns: Sequence[str], optional: Sequence[str]) -> Row:
    """Replace blank texts in the optional columns of a row by ""."""
    fields = list(row.fields)
    for place, column in enumerate(columns):
        if column in optional and not str(fields[place] or "").strip():
            fields[place] = ""
    return replace(row, fields=tuple(fields))


def _as_pairs(columns: Sequence[str]) -> str:
    return f"To read such rows too, train without hard negatives: data.columns=[{','.join(columns[:2])}]"


def _warn_of_labels(source: Source, columns: Sequence[str]) -> None:
    for name in judgements(source.header or ()):
        if name not in columns:
            _warn_of_label(source.name, name)


@cache  # a stream reads its files repeatedly
def _warn_of_label(file: str, column: str) -> None:
    log.warning(
        "%s has a column %s, which is not read: every pair becomes a positive pair.\n"
        "Remove the rows that are not positive pairs.",
        file,
        column,
    )


def _from_nli(
    sources: Sequence[Source],
    names: Sequence[Sequence[str] | None],
    columns: Sequence[str],
    bad: BadRows,
    nli_labels: Sequence[str],
) -> Iterator[Row]:
    if not all(names):
        raise UserError("data.train_file: labelled NLI cannot be mixed with files of triplets. Train on one kind.")
    labels = nli_labels[: len(columns) - 1]
    if len(labels) < len(columns) - 1:
        raise UserError(
            f"data.nli_labels=[{','.join(nli_labels)}]: data.columns=[{','.join(columns)}] needs {len(columns) - 1} "
            "labels,\none for each column after the premise."
        )
    rows = (
        row for source, of_source in zip(sources, names, strict=True) for row in _labelled_rows(source, of_source or (), bad)
    )
    yield from build_examples(rows, labels)


def _labelled_rows(source: Source, columns: Sequence[str], bad: BadRows) -> Iterator[tuple[Row, int]]:
    for row in source.rows(columns):
        bad.rows += 1
        if not isinstance(row, Row):
            bad.add(source.name, row[0], str(row[1]))
            continue
        if tuple(columns) == RAW_COLUMNS and row.fields[2] == NO_GOLD:
            bad.unlabelled += 1
            continue
        label = label_of(row.fields[2])
        reason = unusable(row.fields[:2], columns)
        if label is None:
            reason = f"label {row.fields[2]!r} is not entailment, neutral or contradiction (or 0, 1, 2)"
        if reason:
            bad.add(source.name, row.line, reason)
        elif label is not None:
            yield row, label
