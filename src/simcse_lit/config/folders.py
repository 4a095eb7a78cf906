"""Checks what a folder already holds, and whether a verb may write there.

Every verb calls `check_free` before it writes. Resuming a run is decided in `resume.py`.
"""

import itertools
import shlex
from pathlib import Path

import yaml

from simcse_lit.errors import UserError
from simcse_lit.scores import dev_score, read_scores

LAST = Path("checkpoints", "last.ckpt")  # where callbacks.last of conf/ writes it, below the run folder
OVERRIDES = Path(".hydra", "overrides.yaml")
INDEX, RESULTS, WEIGHTS = "index.json", "results.json", "model.safetensors"
# Files that a verb overwrites. In a folder without a record of the verb they belong to the user.
WRITES = {
    "train": ("config.yaml", "environment.json", "metrics.csv", "export", "checkpoints"),
    "evaluate": ("config.yaml", "environment.json", "results.csv", "table.md", "table.tex"),
    "report": ("report.html", "report.md", "report.tex", "results.csv", "figures"),
}
# Left by a training that saved nothing; the next training in the folder must not use them.
LEFTOVERS = ("scores.json", "metrics.csv", "error.txt", "nonfinite_batch.json", "checkpoints/.*.partial")


def holding(folder: Path) -> tuple[str, str] | None:
    """Return what a folder holds that writing to it would destroy, and how to continue; None if it is free.

    A training that has saved neither a checkpoint nor a score leaves its folder free.
    """
    if (folder / INDEX).is_file():
        return "an index", f"Add to it: simcse-lit index {shlex.quote(f'folder={folder}')} add=FILE."
    if (folder / RESULTS).is_file():
        return "the results of an evaluation", ""
    if finished := _finished(folder):
        return f"a finished training ({finished})", f"Look at it: simcse-lit report {shlex.quote(str(folder))}."
    if kept := sorted(folder.glob("checkpoints/*.ckpt")):  # "best-..." sorts before "last"
        from_here = folder if (folder / LAST).is_file() else kept[-1]
        return "a training that was stopped", f"Resume it: simcse-lit train {shlex.quote(f'resume={from_here}')}."
    if (folder / WEIGHTS).is_file():
        return "a model", ""
    return None


def check_free(folder: Path, key: str, verb: str) -> None:
    """Refuse to write to a folder if that would destroy something.

    Args:
        folder: folder to write to.
        key: configuration key that names the folder, for messages.
        verb: verb that writes.

    Raises:
        UserError: the folder holds the output of a verb, is the run folder of another verb, or holds files of the user whose
            names the verb would overwrite.
    """
    held, other = holding(folder), verb_of(folder)
    theirs = [name for name in WRITES.get(verb, ()) if (folder / name).exists()]
    if held is None and other not in (None, verb):
        held = f"a run of {other}", ""
    if held is None and theirs and other is None and not (verb == "report" and _is_report(folder)):
        held = theirs[0], f"{verb} did not write it and would overwrite it."
    if held:
        what, way_on = held
        raise UserError(f"{key}={folder}: already holds {what}.\n{way_on and f'{way_on} '}Use another folder: {key}=DIR")


def claim(folder: Path) -> Path:
    """Create a new folder, with -2, -3, ... after its name if it exists. Safe against concurrent callers.

    Raises:
        OSError: the folder cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError  # unreachable: count is infinite


def clear_leftovers(folder: Path) -> None:
    """Remove what a training left that had saved nothing, so that the next one does not use it."""
    if (folder / OVERRIDES).is_file():
        for pattern in LEFTOVERS:
            for path in folder.glob(pattern):
                path.unlink()


def verb_of(folder: Path) -> str | None:
    """Return the verb whose run folder this is, or None."""
    try:
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]
        return str(hydra["job"]["config_name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def _is_report(folder: Path) -> bool:
    """Whether `report` wrote to a folder."""
    page = folder / "report.html"
    return page.is_file() and "simcse_lit" in page.read_text(encoding="utf-8", errors="replace")


def _finished(folder: Path) -> str | None:
    """Return the score of a finished training, or None."""
    try:
        after = read_scores(folder).get("after")
    except UserError:
        return "its scores.json is damaged"
    return "{} {:.2f}".format(*dev_score(after)) if after else None
