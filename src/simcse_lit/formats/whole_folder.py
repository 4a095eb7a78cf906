"""Writes a folder that gets its name only when it is complete, and replaces an older one so that a crash loses neither.

The work happens in a hidden folder beside it, `.NAME.simcse_lit`. `new` is being written there, and `old` is the older
folder during the exchange. A process that is killed between the two renames leaves both. `recover` or the next writer then
finishes the exchange.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from simcse_lit.disk import fsync, unfinished
from simcse_lit.errors import UserError
from simcse_lit.one_writer import only_writer


@contextmanager
def whole_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder, which gets the name `folder` if the block ends without an error.

    The folder's lock is held meanwhile. An older folder is removed last.

    Args:
        folder: to write; its parents need not exist.
        replace: whether it may exist.

    Raises:
        UserError: another process is writing it, it exists and `replace` is false, or it cannot be written.
    """
    try:
        with _replaced(folder.resolve(), replace=replace) as new:  # a symbolic link stays a link
            yield new
    except (OSError, SafetensorError) as error:  # safetensors wraps errors of the disk
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"output: {folder}: cannot be written: {reason}. Nothing was changed.") from error


@contextmanager
def _replaced(folder: Path, *, replace: bool) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _working(folder) as (new, old):
        if not replace:
            refuse_to_replace(folder)
        new.mkdir(parents=True)
        yield new
        for path in (*new.rglob("*"), new):
            fsync(path)
        if not replace:  # it may have appeared meanwhile
            refuse_to_replace(folder)
        elif folder.is_dir():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.is_dir():
                old.rename(folder)
            raise
        fsync(folder.parent)


def refuse_to_replace(folder: Path) -> None:
    """Check that an output does not exist yet.

    Raises:
        UserError: it exists.
    """
    if folder.exists():
        raise UserError(f"output: {folder}: already exists. Remove it, or name another folder: output=FOLDER")


def recover(folder: Path) -> None:
    """Finish the exchange of a folder whose writer was killed between its two renames. Otherwise do nothing.

    Raises:
        UserError: another process is writing it.
        OSError: it cannot be renamed.
    """
    folder = folder.resolve()
    if not folder.exists() and (unfinished(folder) / "old").is_dir():
        with _working(folder):
            pass


@contextmanager
def _working(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Hold the lock of the folder. Before and after the block, finish or remove what a writer has left."""
    work = unfinished(folder)
    new, old = work / "new", work / "old"
    with only_writer(work.with_name(f"{work.name}.lock"), f"output: {folder}"):
        _tidy(folder, new, old)
        try:
            yield new, old
        finally:
            _tidy(folder, new, old)
            with suppress(OSError):  # it does not exist, or holds files that cannot be removed
                work.rmdir()


def _tidy(folder: Path, new: Path, old: Path) -> None:
    """Reduce the three folders to `folder`. If `old` exists, `new` is complete and takes its place."""
    if old.is_dir() and not folder.exists():
        (new if new.is_dir() else old).rename(folder)
        fsync(folder.parent)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
