"""Whose folder this is: what a folder holds already, and whether a verb may write there.

Every verb asks `check_free` before it writes anything. Continuing a run is asked of `resume.py`.
"""

import itertools
import shlex
from pathlib import Path

import yaml

from simcse_lit.errors import UserError
from simcse_lit.scores import dev_score, read_scores

LAST = Path("checkpoints", "last.ckpt")  # where callbacks.last of conf/ keeps it, in the run folder
OVERRIDES = Path(".hydra", "overrides.yaml")
INDEX, RESULTS, WEIGHTS = "index.json", "results.json", "model.safetensors"
# What a verb writes over in its folder. Where the verb has left no record of itself, such files are the user's own.
WRITES = {
    "train": ("config.yaml", "environment.json", "metrics.csv", "export", "checkpoints"),
    "evaluate": ("config.yaml", "environment.json", "results.csv", "table.md", "table.tex"),
    "report": ("report.html", "report.md", "report.tex", "results.csv", "figures"),
}
# What a training leaves that has kept nothing yet. The next one in this folder must not take it for its own.
LEFTOVERS = ("scores.json", "metrics.csv", "error.txt", "nonfinite_batch.json", "checkpoints/.*.partial")


def holding(folder: Path) -> tuple[str, str] | None:
    """What a folder holds that would be lost if it were written to, and how to go on with it; None if it is free.

    A training that has kept nothing yet, neither a checkpoint nor a score, leaves its folder free.
    """
    if (folder / INDEX).is_file():
        return "an index", f"Add to it: simcse-lit index {shlex.quote(f'folder={folder}')} add=FILE."
    if (folder / RESULTS).is_file():
        return "the results of an evaluation", ""
    if finished := _finished(folder):
        return f"a finished training ({finished})", f"Look at it: simcse-lit report {shlex.quote(str(folder))}."
    if kept := sorted(folder.glob("checkpoints/*.ckpt")):  # the best sorts before the last
        from_here = folder if (folder / LAST).is_file() else kept[-1]
        return "a training that was stopped", f"Continue it: simcse-lit train {shlex.quote(f'resume={from_here}')}."
    if (folder / WEIGHTS).is_file():
        return "a model", ""
    return None


def check_free(folder: Path, key: str, verb: str) -> None:
    """See that nothing is lost when a verb writes to a folder.

    Args:
        folder: where it would write.
        key: the configuration key that names the folder, for messages.
        verb: that would write.

    Raises:
        UserError: the folder holds what a verb wrote, is the run folder of another verb, or holds files of the user's by
            names that would be written over.
    """
    held, other = holding(folder), verb_of(folder)
    theirs = [name for name in WRITES.get(verb, ()) if (folder / name).exists()]
    if held is None and other not in (None, verb):
        held = f"a run of {other}", ""
    if held is None and theirs and other is None and not (verb == "report" and _is_report(folder)):
        held = theirs[0], f"It is no file of {verb}'s, and would be written over."
    if held:
        what, way_on = held
        raise UserError(f"{key}={folder}: holds {what} already.\n{way_on and f'{way_on} '}Use another folder: {key}=DIR")


def claim(folder: Path) -> Path:
    """Make a new folder, with -2, -3 ... behind its name if it is there, even if others do the same at this moment.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError  # count does not end


def clear_leftovers(folder: Path) -> None:
    """Remove what a training left that had kept nothing yet, so that nothing of it is taken for the next one's."""
    if (folder / OVERRIDES).is_file():
        for pattern in LEFTOVERS:
            for path in folder.glob(pattern):
                path.unlink()


def verb_of(folder: Path) -> str | None:
    """The verb whose run folder this is, by Hydra's record; None if it is none."""
    try:
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]
        return str(hydra["job"]["config_name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def _is_report(folder: Path) -> bool:
    """Whether `report` has written to a folder: its page names its maker."""
    page = folder / "report.html"
    return page.is_file() and "simcse_lit" in page.read_text(encoding="utf-8", errors="replace")


def _finished(folder: Path) -> str | None:
    """The score of a training that ended well; None if it did not."""
    try:
        after = read_scores(folder).get("after")
    except UserError:
        return "its scores.json is damaged"
    return "{} {:.2f}".format(*dev_score(after)) if after else None
