"""Protects files against power cuts and damaged disks.

A new file replaces an old one only after it is safe on the disk, and an archive is tested before it is used.
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
    """Rename a finished file in its folder over the old file, so that a power cut leaves one of the two intact.

    When the call returns, the new file survives a power cut.

    Raises:
        OSError: as for `fsync`, or the file cannot be renamed.
    """
    fsync(partial)
    partial.replace(path)
    fsync(path.parent)


def discard(path: Path) -> None:
    """Remove an unfinished file if possible; errors are ignored, so that the error before is reported."""
    with suppress(OSError):
        path.unlink()


def unfinished(path: Path) -> Path:
    """Return the hidden name beside a file or folder under which it is written until it is complete."""
    return path.with_name(f".{path.name}.simcse_lit")


def damage(path: Path) -> str | None:
    """Describe the damage of a zip archive written by torch.save; None if the checksum of every part is right.

    torch.load does not check them: with one bit flipped it returns wrong weights without an error.
    """
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
    except Exception as error:  # zipfile raises many classes for a file that was cut or changed
        return f"was cut or changed after it was written ({error})"
    return part and f"was changed after it was written ({part} fails its checksum)"
