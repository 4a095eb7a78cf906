"""Tables of scores as text, in the paper's column order and within 80 columns."""

from collections.abc import Mapping

ORDER = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg.")


def ordered(names: set[str]) -> list[str]:
    """The paper's columns first and in its order, then any others by name."""
    return [name for name in ORDER if name in names] + sorted(names - set(ORDER))


def score_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line a row, one column a task, two decimals.

    Args:
        rows: label to task to score; a task that a row lacks is left blank.
    """
    columns = ordered({name for row in rows.values() for name in row})
    label = max(len(name) for name in rows)
    widths = [max(7, len(name)) for name in columns]
    lines = [" " * label + "".join(f" {name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for name, row in rows.items():
        cells = (
            f" {row[column]:{width}.2f}" if column in row else " " * (width + 1)
            for column, width in zip(columns, widths, strict=True)
        )
        lines.append(f"{name:<{label}}" + "".join(cells))
    return "\n".join(lines)


def markdown_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The same as a Markdown table, for model cards."""
    columns = ordered({name for row in rows.values() for name in row})
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (f"{row[column]:.2f}" if column in row else "" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sparkline(values: list[float]) -> str:
    """A curve in one line of text, lowest to highest value; flat values give a flat line, NaN gives nothing."""
    bars = "▁▂▃▄▅▆▇█"
    values = [value for value in values if value == value]  # a constant embedding has no correlation: NaN
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(bars[round((value - low) / span * (len(bars) - 1))] for value in values)
