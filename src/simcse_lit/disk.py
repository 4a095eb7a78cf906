"""Protects files against power cuts and second writers.

`durable_replace` lets a new file take an old one's place only after the new one is safe on the disk. `only_writer` holds a
lock file while something is written.
"""

import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

# A folder that may be written but not read (EACCES), and file systems that cannot sync folders.
NO_FOLDER_SYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # some file systems of clusters


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


@contextmanager
def only_writer(lock_file: Path, what: str) -> Iterator[None]:
    """Hold a lock file, and remove it at the end.

    Other threads and processes are refused. When a process is killed, the kernel releases its lock; the file it leaves
    blocks nobody. On a file system without locks a warning is logged, and nobody is refused.

    Args:
        lock_file: in an existing folder.
        what: what is written, for messages: "KEY: VALUE".

    Raises:
        UserError: another thread or process holds the lock.
        OSError: the file cannot be made.
    """
    lock = FileLock(lock_file, timeout=0, fallback_to_soft=False)  # a soft lock of a killed process blocks other hosts
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(FileNotFoundError):  # released in between
            holder = lock_file.read_text(encoding="utf-8", errors="replace")
        raise UserError(
            f"{what}: is being written by {holder or 'another process'}.\n"
            "Wait until that process ends, stop it, or choose another path."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: its file system has no locks; make sure that no other process writes there.", what)
    try:
        with suppress(OSError):  # a full disk: refused processes are then not told who holds the lock
            lock_file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while the lock is held: the next process makes a new file
        lock.release()
