"""Waits for the disk, so that a file is removed in favour of a new one only once the new one would survive a power cut.

Called by what writes checkpoints, files of vectors and indexes.
"""

import errno
import os
from pathlib import Path

# What a folder is refused with: Windows opens none (EACCES), and some file systems have no call for it.
UNSUPPORTED = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def fsync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk.

    Where the system cannot do so for a folder, the names are left to it.

    Raises:
        OSError: there is no such file, or the disk cannot hold it.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows syncs only what may be written
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder or error.errno not in UNSUPPORTED:
            raise


def durable_replace(partial: Path, path: Path) -> None:
    """Give a finished file its name, in the same folder. At any moment the old file or the new one is there, whole; after
    the call the new one is, whatever happens.

    Raises:
        OSError: as above, or the file cannot be renamed.
    """
    fsync(partial)
    partial.replace(path)
    fsync(path.parent)
