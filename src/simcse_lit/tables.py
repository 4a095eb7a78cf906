"""Tables as text within 80 columns, Markdown and LaTeX; tables of scores have the tasks in the paper's column order."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from simcse_lit.families import PAPER, Family

Rows = Collection[tuple[str, Mapping[str, float]]]  # label, and task to score
Table = Sequence[Sequence[str]]  # the first row is the head

OTHER = Family("other", "score")  # tasks of old runs, which recorded no families
LISTED_A_LINE = 8  # names of the paper's tasks are short
OTHERS_A_LINE = 5  # those of your own may be long
LABEL = 15  # characters of a row's label, so that eight columns stay within 80


def columns(names: Iterable[str], families: Mapping[str, Family]) -> dict[Family, list[str]]:
    """Group the names of scores by family, each group in the order of its family's table.

    Args:
        names: of tasks and averages.
        families: of the tasks, by name. A task of the paper may be left out; any other is then of `OTHER`.

    Returns:
        STS first, then transfer, then the families in their order.
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
    """Split each row by family, since the scores of a family share a metric.

    Args:
        rows: label, and task to score.
        families: as of `columns`.

    Returns:
        Family to its part of each row; rows without such a part are left out.
    """
    parts = {}
    for family, own in columns((name for _, row in rows for name in row), families).items():
        part = [(label, {name: row[name] for name in own if name in row}) for label, row in rows]
        parts[family] = [(label, row) for label, row in part if row]
    return parts


def score_table(rows: Rows, families: Mapping[str, Family]) -> str:
    """Format scores as text: one line a row, one column a task, two decimals; families below each other.

    Args:
        rows: label, and task to score; the cell of a task that a row lacks is blank.
        families: as of `columns`.
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
    """Yield the columns that stand beside each other in 80 characters: some that a family lists, or some others."""
    for family, names in grouped.items():
        for listed, size in ((True, LISTED_A_LINE), (False, OTHERS_A_LINE)):
            some = [name for name in names if (name in family.columns) == listed]
            yield from (some[start : start + size] for start in range(0, len(some), size))


def shortened(text: str, width: int) -> str:
    """Cut text to `width` characters; dots in the middle stand for what is left out."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def score_cells(rows: Rows, families: Mapping[str, Family], head: str = "") -> Table:
    """Return the cells of a table of scores: a row a label, a column a task, two decimals.

    Args:
        rows: label, and task to score; the cell of a task that a row lacks is blank.
        families: as of `columns`.
        head: head of the column of labels.
    """
    names = ordered((name for _, row in rows for name in row), families)
    cells = [[label, *(f"{row[name]:.2f}" if name in row else "" for name in names)] for label, row in rows]
    return [[head, *names], *cells]


def markdown_table(table: Table) -> str:
    """Format cells as a Markdown table."""
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def latex_table(table: Table) -> str:
    """Format cells as a LaTeX tabular that needs no packages; each row is one line, to be copied into a paper's table."""
    lines = [f"{' & '.join(map(latex_text, row))} \\\\" for row in table]
    columns = f"l{'c' * (len(table[0]) - 1)}"
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", lines[0], "\\hline", *lines[1:], "\\end{tabular}"])


def markdown_text(text: str) -> str:
    """Escape text for Markdown: one line that is neither markup nor the end of a table's cell."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|" else character for character in text)


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$"}
    special |= {"Δ": r"$\Delta$", "–": "--", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, f"\\{character}" if character in "&%$#_{}" else character) for character in text)


def sparkline(values: list[float]) -> str:
    """Draw values as one line of block characters, scaled from the lowest to the highest; NaN is left out."""
    bars = "▁▂▃▄▅▆▇█"
    values = [value for value in values if value == value]  # a constant embedding has no correlation: NaN
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(bars[round((value - low) / span * (len(bars) - 1))] for value in values)
