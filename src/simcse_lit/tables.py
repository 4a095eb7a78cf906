"""Formats tables as text (within 80 columns), Markdown and LaTeX. Tables of scores have the paper's column order.

This module knows scores by task and their families, but no runs, encoders or files.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from simcse_lit.families import PAPER, Family

Rows = Collection[tuple[str, Mapping[str, float]]]  # label, and task to score
Table = Sequence[Sequence[str]]  # the first row is the head

OTHER = Family("other", "score")  # tasks of runs of old versions, which recorded no families
LISTED_A_LINE = 8  # columns; the names of the paper's tasks are short
OTHERS_A_LINE = 5  # columns; the names of your own tasks may be long
LABEL = 15  # characters of a row's label, so that eight columns fit into 80 characters


def columns(names: Iterable[str], families: Mapping[str, Family]) -> dict[Family, list[str]]:
    """Group the names of scores by family, each group in the order of its family's table.

    Args:
        names: of tasks and averages.
        families: the family of each task, by name. Tasks of the paper are known without it; any other unknown task counts
            as `OTHER`.

    Returns:
        Names by family: STS, then transfer, then the other families in their order.
    """
    known = {name: family for family in PAPER for name in family.columns}
    known |= {family.average: family for family in families.values() if family.average} | dict(families)
    present = set(names)
    found = {
        family: family.in_order([name for name in present if known.get(name, OTHER) == family])
        for family in dict.fromkeys([*PAPER, *families.values(), OTHER])
    }
    return {family: own for family, own in found.items() if own}


def ordered(names: Iterable[str], families: Mapping[str, Family]) -> list[str]:
    """Return the names of scores in the order of `columns`."""
    return [name for own in columns(names, families).values() for name in own]


def by_family(rows: Rows, families: Mapping[str, Family]) -> dict[Family, list[tuple[str, dict[str, float]]]]:
    """Split rows by family, since only the scores of a family share a metric.

    Args:
        rows: (label, scores by task) of each row.
        families: see `columns`.

    Returns:
        The rows of each family, with the scores of its tasks only. Rows without such scores are left out.
    """
    parts = {}
    for family, own in columns((name for _, row in rows for name in row), families).items():
        part = [(label, {name: row[name] for name in own if name in row}) for label, row in rows]
        parts[family] = [(label, row) for label, row in part if row]
    return parts


def score_table(rows: Rows, families: Mapping[str, Family]) -> str:
    """Format scores as text: a line for each row, a column for each task, two decimals, one table for each family.

    Args:
        rows: (label, scores by task) of each row. The cell of a missing score is blank.
        families: see `columns`.
    """
    label = max(len(shortened(name, LABEL)) for name, _ in rows)
    tables = []
    for names in _lines(columns((name for _, row in rows for name in row), families)):
        heads = ["Avg." if name.startswith("Avg.") else name for name in names]
        widths = [max(7, len(head)) for head in heads]
        lines = [" " * label + "".join(f" {head:>{width}}" for head, width in zip(heads, widths, strict=True))]
        for name, row in rows:
            if not any(column in row for column in names):
                continue
            cells = (
                f" {row[column]:{width}.2f}" if column in row else " " * (width + 1)
                for column, width in zip(names, widths, strict=True)
            )
            lines.append(f"{shortened(name, LABEL):<{label}}" + "".join(cells))
        tables.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(tables)


def _lines(grouped: Mapping[Family, Sequence[str]]) -> Iterator[list[str]]:
    """Yield the groups of columns that fit into 80 characters. Columns that a family lists are not mixed with others."""
    for family, names in grouped.items():
        for listed, size in ((True, LISTED_A_LINE), (False, OTHERS_A_LINE)):
            some = [name for name in names if (name in family.columns) == listed]
            yield from (some[start : start + size] for start in range(0, len(some), size))


def shortened(text: str, width: int) -> str:
    """Shorten text to `width` characters by an ellipsis in the middle."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def score_cells(rows: Rows, families: Mapping[str, Family], head: str = "") -> Table:
    """Return the cells of a table of scores: a row for each label, a column for each task, two decimals.

    Args:
        rows: (label, scores by task) of each row. The cell of a missing score is empty.
        families: see `columns`.
        head: heading of the column of labels.
    """
    names = ordered((name for _, row in rows for name in row), families)
    cells = [[label, *(f"{row[name]:.2f}" if name in row else "" for name in names)] for label, row in rows]
    return [[head, *names], *cells]


def markdown_table(table: Table) -> str:
    """Format cells as a Markdown table."""
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def latex_table(table: Table) -> str:
    """Format cells as a LaTeX tabular without packages, one line for each row, so that rows can be copied into a paper."""
    lines = [f"{' & '.join(map(latex_text, row))} \\\\" for row in table]
    columns = f"l{'c' * (len(table[0]) - 1)}"
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", lines[0], "\\hline", *lines[1:], "\\end{tabular}"])


def markdown_text(text: str) -> str:
    """Escape text for a Markdown table: it becomes one line, without markup and without the end of a cell."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|" else character for character in text)


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$"}
    special |= {"Δ": r"$\Delta$", "–": "--", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, f"\\{character}" if character in "&%$#_{}" else character) for character in text)


def sparkline(values: list[float]) -> str:
    """Draw values as a line of block characters, scaled from the lowest to the highest value. NaN is left out."""
    bars = "▁▂▃▄▅▆▇█"
    values = [value for value in values if value == value]  # a collapsed encoder has no correlation: NaN
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(bars[round((value - low) / span * (len(bars) - 1))] for value in values)
