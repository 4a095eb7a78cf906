"""Tables as text within 80 columns, Markdown and LaTeX; tables of scores have the tasks in the paper's column order."""

from collections.abc import Collection, Iterable, Mapping, Sequence

Rows = Collection[tuple[str, Mapping[str, float]]]  # label, and task to score
Table = Sequence[Sequence[str]]  # the first row is the head

STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg.")  # Table 5
TRANSFER = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC", "Avg. transfer")  # Table E.1
FAMILIES = {"sts": STS, "transfer": TRANSFER}
METRICS = {"sts": "STS: Spearman x 100", "transfer": "Transfer: accuracy in %"}
OTHERS_A_LINE = 5  # names of your own tasks may be long
LABEL = 15  # characters of a row's label, so that eight columns stay within 80


def blocks(names: Iterable[str]) -> list[list[str]]:
    """Group columns: those of Table 5 in its order, those of Table E.1, then any others by name, five a block."""
    present = set(names)
    families = [[name for name in family if name in present] for family in FAMILIES.values()]
    others = sorted(present.difference(*families))
    families += [others[start : start + OTHERS_A_LINE] for start in range(0, len(others), OTHERS_A_LINE)]
    return [family for family in families if family]


def ordered(names: Iterable[str]) -> list[str]:
    """Return all columns of `blocks`, one after the other."""
    return [name for block in blocks(names) for name in block]


def by_family(rows: Rows, families: Mapping[str, str]) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """Split each row by family, since the scores of a family share a metric (`METRICS`).

    Args:
        rows: label, and task to score.
        families: family of each task, as `Task.family`. A task of the paper may be left out; any other is then "other".

    Returns:
        Family to its part of each row; rows without such a part are left out. STS comes first, then transfer.
    """
    known = {name: family for family, columns in FAMILIES.items() for name in columns} | dict(families)
    parts = {}
    for family in dict.fromkeys([*FAMILIES, *families.values(), "other"]):
        part = [(label, {task: row[task] for task in row if known.get(task, "other") == family}) for label, row in rows]
        parts[family] = [(label, row) for label, row in part if row]
    return {family: part for family, part in parts.items() if part}


def score_table(rows: Rows) -> str:
    """Format scores as text: one line a row, one column a task, two decimals; STS and transfer below each other.

    Args:
        rows: label, and task to score; the cell of a task that a row lacks is blank.
    """
    label = max(len(shortened(name, LABEL)) for name, _ in rows)
    tables = []
    for columns in blocks(name for _, row in rows for name in row):
        heads = ["Avg." if name.startswith("Avg.") else name for name in columns]
        widths = [max(7, len(head)) for head in heads]
        lines = [" " * label + "".join(f" {head:>{width}}" for head, width in zip(heads, widths, strict=True))]
        for name, row in rows:
            if not any(column in row for column in columns):
                continue
            cells = (
                f" {row[column]:{width}.2f}" if column in row else " " * (width + 1)
                for column, width in zip(columns, widths, strict=True)
            )
            lines.append(f"{shortened(name, LABEL):<{label}}" + "".join(cells))
        tables.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(tables)


def shortened(text: str, width: int) -> str:
    """Cut text to `width` characters; dots in the middle stand for what is left out."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def score_cells(rows: Rows, head: str = "") -> Table:
    """Return the cells of a table of scores: a row a label, a column a task, two decimals.

    Args:
        rows: label, and task to score; the cell of a task that a row lacks is blank.
        head: head of the column of labels.
    """
    columns = ordered(name for _, row in rows for name in row)
    cells = [[label, *(f"{row[name]:.2f}" if name in row else "" for name in columns)] for label, row in rows]
    return [[head, *columns], *cells]


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
