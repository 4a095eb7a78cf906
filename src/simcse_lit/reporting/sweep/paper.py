"""Published scores from a CSV file, each with our setting that it belongs to."""

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
        where: key to value, as typed, of the published setting.
        metric: name of the score.
        score: as published.
        source: table or figure.
        ours: our setting with the same values of these keys, or None.
    """

    where: Mapping[str, str]
    metric: str
    score: float
    source: str
    ours: Setting | None

    @property
    def label(self) -> str:
        """The setting, short."""
        return ", ".join(self.where.values())


def read_published(path: Path, comparison: Comparison) -> list[Published]:
    """Read a file with a column for each key that tells its rows apart, and metric, paper, source.

    An empty cell matches any value of its key. Keys may be any of the configuration.

    Raises:
        UserError: the file cannot be read, a column is missing or is no key, a score is no number, or a row matches several
            of our settings.
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
            f"paper={path}: no column {missing[0]}. It needs: a column for each key that varied, metric, paper, source."
        )
    known = {key for setting in comparison.settings for run in setting.runs for key in run.facts}
    unknown = [name for name in columns if name not in COLUMNS and name not in known]
    if unknown and comparison.settings:
        varied = ", ".join(axis.key for axis in comparison.axes) or "nothing"
        raise UserError(f"paper={path}: column {unknown[0]} is no key of these runs. What varied: {varied}.")
    rows = []
    for number, row in enumerate(reader, start=2):
        where = {key: row[key].strip() for key in columns if key not in COLUMNS and (row[key] or "").strip()}
        try:
            score = float(row["paper"])
        except (TypeError, ValueError) as error:
            raise UserError(f"paper={path}, row {number}: paper is {row['paper']!r}, not a number.") from error
        ours = [setting for setting in comparison.settings if setting.is_where(where)]
        if len(ours) > 1:
            raise UserError(
                f"paper={path}, row {number}: {len(ours)} of our settings are this one. Name more keys in its columns."
            )
        rows.append(Published(where, row["metric"] or "", score, row["source"] or "", ours[0] if ours else None))
    return rows


def of_metric(rows: Sequence[Published], metric: str) -> list[Published]:
    """Return the rows with one score."""
    return [row for row in rows if row.metric == metric]
