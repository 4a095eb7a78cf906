"""Hands the value or the error of a job's process to the process that started it.

The parent names a folder in an environment variable. The child removes the variable, so that its children do not answer in
its place, and writes `value.json` or `error.json` there.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SIMCSE_HANDOVER"
VALUE, ERROR = "value.json", "error.json"
ERROR_FILE = "error.txt"  # in the run folder of a failed job: why it failed


@dataclass(frozen=True)
class Outcome:
    """How a child ended: with a value, or, if `error` is not None, without one."""

    value: Any = None
    error: str | None = None


def take() -> Path | None:
    """Return the handover folder and remove its variable; None in a process that a user started."""
    folder = os.environ.pop(VARIABLE, None)
    return Path(folder) if folder else None


def hand_over_value(folder: Path, value: Any) -> None:
    """Write the value that the task returned; NumPy and torch numbers become plain ones."""
    (folder / VALUE).write_text(json.dumps(value, default=float), encoding="utf-8")


def hand_over_error(folder: Path, message: str) -> bool:
    """Write why the task failed, and return whether this process's reason counts.

    Only the first rank to fail counts, since the errors of the others follow from it.
    """
    own = {"message": message, "pid": os.getpid()}
    try:
        with (folder / ERROR).open("x", encoding="utf-8") as file:
            json.dump(own, file)
    except FileExistsError:
        return bool(json.loads((folder / ERROR).read_text(encoding="utf-8"))["pid"] == os.getpid())
    return True


def note_failure(run_dir: str | Path, message: str | None) -> None:
    """Write into a run folder why its job failed, unless the job did; None removes an earlier message."""
    path = Path(run_dir, ERROR_FILE)
    with suppress(OSError):
        if message is None:
            path.unlink(missing_ok=True)
        elif not path.exists() and path.parent.is_dir():
            path.write_text(f"{message}\n", encoding="utf-8")


def collect(folder: Path) -> Outcome:
    """Read the outcome from the folder. An error wins, since one rank may fail after another has succeeded."""
    if (folder / ERROR).exists():
        return Outcome(error=json.loads((folder / ERROR).read_text(encoding="utf-8"))["message"])
    if (folder / VALUE).exists():
        return Outcome(value=json.loads((folder / VALUE).read_text(encoding="utf-8")))
    return Outcome()
