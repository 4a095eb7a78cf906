"""Protects files against power cuts: a new file takes an old one's place only once it is safe on the disk."""

import errno
import os
from pathlib import Path

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
