"""What a process that was started for a job hands back to the process that started it: its value, or why it failed.

The parent names a folder of its own in an environment variable. The child takes the variable away, so that its own
children do not answer for it, and leaves `value.json` or `error.json` there.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SIMCSE_HANDOVER"
VALUE, ERROR = "value.json", "error.json"
ERROR_FILE = "error.txt"  # in the run folder of a job that failed: why, for whoever looks at the folder later


@dataclass(frozen=True)
class Outcome:
    """How a child ended: with a value, or, if `error` is not None, without one."""

    value: Any = None
    error: str | None = None


def take() -> Path | None:
    """The folder to hand over in, once; None in a process that a user started."""
    folder = os.environ.pop(VARIABLE, None)
    return Path(folder) if folder else None


def hand_over_value(folder: Path, value: Any) -> None:
    """Leave what the task returned; NumPy's and torch's numbers become plain ones."""
    (folder / VALUE).write_text(json.dumps(value, default=float), encoding="utf-8")


def hand_over_error(folder: Path, message: str) -> bool:
    """Leave why the task failed, and say whether it is this process's reason that will be told: the first rank's to fail,
    since what the others report follows from it.
    """
    own = {"message": message, "pid": os.getpid()}
    try:
        with (folder / ERROR).open("x", encoding="utf-8") as file:
            json.dump(own, file)
    except FileExistsError:
        return bool(json.loads((folder / ERROR).read_text(encoding="utf-8"))["pid"] == os.getpid())
    return True


def note_failure(run_dir: str | Path, message: str | None) -> None:
    """Leave in a run folder why its job failed, unless the job has itself; no message takes an earlier one away."""
    path = Path(run_dir, ERROR_FILE)
    with suppress(OSError):
        if message is None:
            path.unlink(missing_ok=True)
        elif not path.exists() and path.parent.is_dir():
            path.write_text(f"{message}\n", encoding="utf-8")


def collect(folder: Path) -> Outcome:
    """What was left in the folder; an error wins over a value, since one rank may fail after another has succeeded."""
    if (folder / ERROR).exists():
        return Outcome(error=json.loads((folder / ERROR).read_text(encoding="utf-8"))["message"])
    if (folder / VALUE).exists():
        return Outcome(value=json.loads((folder / VALUE).read_text(encoding="utf-8")))
    return Outcome()
