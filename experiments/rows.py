"""The results of the miniatures: a row for each score of each run, in experiments/rows.csv.

A run is identified by its base preset (`experiment=`), by what it changes there, and by its seed. So one run serves every
table that has its setting. `run.py` adds rows; `evidence.py` reads them.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

ROWS = Path(__file__).parent / "rows.csv"


@dataclass(frozen=True)
class Row:
    """A score of a run.

    Args:
        experiment: the base preset, a file of conf/experiment/.
        changed: what the run changes there, `key=value` separated by spaces; empty for the preset itself.
        seed: of the run.
        step: optimizer steps before the score; 0 for the untrained encoder.
        steps: optimizer steps of the whole run.
        scores: numbers by name: the development set, the test sets, `alignment`, `uniformity`, `effective_rank`, ...
        precision: `trainer.precision`.
        seconds: wall time of the whole run.
        commit: of the code.
    """

    experiment: str
    changed: str
    seed: int
    step: int
    steps: int
    scores: Mapping[str, float]
    precision: str
    seconds: float
    commit: str

    @property
    def setting(self) -> tuple[str, str]:
        """What several seeds share."""
        return self.experiment, self.changed

    @property
    def is_last(self) -> bool:
        """Whether this is the score at the end of training."""
        return self.step == self.steps


def read(path: Path = ROWS) -> list[Row]:
    """Read all rows; none if there is no file yet.

    Raises:
        SystemExit: a line is no row.
    """
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in (reader := csv.DictReader(file)):
            try:
                found.append(_row(line))
            except (KeyError, TypeError, ValueError) as error:
                raise SystemExit(
                    f"{path}, line {reader.line_num}: is no row of a run ({error}). Restore the file."
                ) from error
    return found


def write(rows: Iterable[Row], path: Path = ROWS) -> None:
    """Write all rows, in the order of presets, settings, seeds and steps, so that added rows are a small diff."""
    ordered = sorted(rows, key=lambda row: (row.setting, row.seed, row.step))
    names = list(dict.fromkeys(name for row in ordered for name in row.scores))
    own = [field.name for field in fields(Row) if field.name != "scores"]
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*own, *names])
        for row in ordered:
            values = asdict(row)
            numbers = (f"{row.scores[name]:.5g}" if name in row.scores else "" for name in names)
            writer.writerow([*(values[name] for name in own), *numbers])
    partial.replace(path)


def _row(line: dict[str, str]) -> Row:
    own = {field.name: line.pop(field.name) for field in fields(Row) if field.name != "scores"}
    return Row(
        experiment=own["experiment"],
        changed=own["changed"],
        seed=int(own["seed"]),
        step=int(own["step"]),
        steps=int(own["steps"]),
        scores={name: float(value) for name, value in line.items() if value},
        precision=own["precision"],
        seconds=float(own["seconds"]),
        commit=own["commit"],
    )
