"""Tables of scores as text, Markdown and LaTeX, in the paper's column order; the text within 80 columns."""

from collections.abc import Iterable, Mapping, Sequence

Rows = Mapping[str, Mapping[str, float]]

STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg.")  # Table 5
TRANSFER = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC", "Avg. transfer")  # Table E.1
OTHERS_A_LINE = 5  # names of your own tasks may be long
LABEL = 15  # characters of a row's label, so that eight columns stay within 80


def blocks(names: Iterable[str]) -> list[list[str]]:
    """The columns of Table 5 in its order, those of Table E.1, then any others by name, five a block."""
    present = set(names)
    families = [[name for name in family if name in present] for family in (STS, TRANSFER)]
    others = sorted(present.difference(*families))
    families += [others[start : start + OTHERS_A_LINE] for start in range(0, len(others), OTHERS_A_LINE)]
    return [family for family in families if family]


def ordered(names: Iterable[str]) -> list[str]:
    """All columns of `blocks`, one after the other."""
    return [name for block in blocks(names) for name in block]


def score_table(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """One line a row, one column a task, two decimals; STS and transfer below each other.

    Args:
        rows: label, and task to score; a task that a row lacks is left blank.
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
    """At most `width` characters, with dots in the middle for what is left out."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def markdown_table(rows: Rows) -> str:
    """One line a row of label to task to score, as Markdown."""
    columns = ordered(name for row in rows.values() for name in row)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (f"{row[column]:.2f}" if column in row else "" for column in columns)
        escaped = name.replace("|", "\\|")
        lines.append(f"| {escaped} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latex_table(rows: Rows) -> str:
    """The same as a LaTeX tabular without packages, one row a line to be copied into a paper's table."""
    columns = ordered(name for row in rows.values() for name in row)
    lines = [f"\\begin{{tabular}}{{l{'c' * len(columns)}}}", " & ".join(["Model", *columns]) + " \\\\", "\\hline"]
    for name, row in rows.items():
        cells = (f"{row[column]:.2f}" if column in row else "" for column in columns)
        lines.append(" & ".join([latex_text(name), *cells]) + " \\\\")
    return "\n".join([*lines, "\\end{tabular}"])


def latex_text(text: str) -> str:
    """Text as LaTeX shows it, whatever it holds."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$"}
    special |= {"Δ": r"$\Delta$", "–": "--", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, f"\\{character}" if character in "&%$#_{}" else character) for character in text)


def sparkline(values: list[float]) -> str:
    """A curve in one line of text, lowest to highest value; flat values give a flat line, NaN gives nothing."""
    bars = "▁▂▃▄▅▆▇█"
    values = [value for value in values if value == value]  # a constant embedding has no correlation: NaN
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(bars[round((value - low) / span * (len(bars) - 1))] for value in values)
