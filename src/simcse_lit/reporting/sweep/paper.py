"""Reads published scores from a CSV file, and finds our setting for each of them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simcse_lit.errors import UserError
from simcse_lit.reporting.sweep.comparison import Comparison, Setting

COLUMNS = ("metric", "paper", "source")


@dataclass(frozen=True)
class Published:
    """A published score.

    Args:
        where: values of the published setting, as typed, by key.
        metric: name of the score.
        score: the published value.
        source: table or figure of the paper.
        ours: our setting with these values, or None.
    """

    where: Mapping[str, str]
    metric: str
    score: float
    source: str
    ours: Setting | None

    @property
    def label(self) -> str:
        """Short name of the setting: its values."""
        return ", ".join(self.where.values())


def read_published(path: Path, comparison: Comparison) -> list[Published]:
    """Read a CSV file with the columns `metric`, `paper` and `source`, and one for each key that distinguishes its rows.

    A key may be any key of the configuration. An empty cell matches any value of its key.

    Args:
        path: the file.
        comparison: our settings.

    Raises:
        UserError: the file cannot be read, a column is missing or is not a key, a score is not a number, or a row matches
            several of our settings.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"paper={path}: cannot be read: {error}.") from error
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    columns = list(reader.fieldnames or ())
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(
            f"paper={path}: no column {missing[0]}. It needs: metric, paper, source, and a column for each key that varied."
        )
    known = {key for setting in comparison.settings for run in setting.runs for key in run.facts}
    unknown = [name for name in columns if name not in COLUMNS and name not in known]
    if unknown and comparison.settings:
        varied = ", ".join(axis.key for axis in comparison.axes) or "nothing"
        raise UserError(f"paper={path}: column {unknown[0]} is not a key of these runs. Keys that varied: {varied}.")
    rows = []
    for number, row in enumerate(reader, start=2):
        where = {key: row[key].strip() for key in columns if key not in COLUMNS and (row[key] or "").strip()}
        try:
            score = float(row["paper"])
        except (TypeError, ValueError) as error:
            raise UserError(f"paper={path}, row {number}: paper is {row['paper']!r}, not a number.") from error
        ours = [setting for setting in comparison.settings if setting.is_where(where)]
        if len(ours) > 1:
            raise UserError(f"paper={path}, row {number}: matches {len(ours)} of our settings. Add columns for more keys.")
        rows.append(Published(where, row["metric"] or "", score, row["source"] or "", ours[0] if ours else None))
    return rows


def of_metric(rows: Sequence[Published], metric: str) -> list[Published]:
    """Select the rows with this score."""
    return [row for row in rows if row.metric == metric]
