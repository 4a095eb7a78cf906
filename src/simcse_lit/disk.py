"""Protects files against power cuts and bad disks: a new file takes an old one's place only once it is safe on the disk, and
an archive is tested before it is used.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

# A folder that may be written but not read (EACCES), and file systems that cannot sync folders.
NO_FOLDER_SYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def fsync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk. A folder that cannot be synced is skipped.

    Raises:
        OSError: the path does not exist, or the disk cannot hold it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in NO_FOLDER_SYNC:
            raise


def durable_replace(partial: Path, path: Path) -> None:
    """Rename a finished file within its folder, replacing the old file, so that a power cut leaves one of the two complete.

    When the call returns, the new file survives a power cut.

    Raises:
        OSError: see `fsync`, or the file cannot be renamed.
    """
    fsync(partial)
    partial.replace(path)
    fsync(path.parent)


def discard(path: Path) -> None:
    """Remove an unfinished file if it is there and can be removed: what kept it from being finished is to be said."""
    with suppress(OSError):
        path.unlink()


def unfinished(path: Path) -> Path:
    """Where a file or folder is written before it is complete: a hidden name beside it, which no user's file has."""
    return path.with_name(f".{path.name}.simcse_lit")


def damage(path: Path) -> str | None:
    """Say what is wrong with a zip archive, as torch.save writes it; None if every part has its checksum.

    torch.load does not look at checksums: with one bit flipped it returns other weights without a word.
    """
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
    except Exception as error:  # zipfile raises many classes for a file that was cut or changed
        return f"was cut or changed after it was written ({error})"
    return part and f"was changed after it was written ({part} fails its checksum)"
