"""Keeps a second process from writing to the same place, with a lock file beside it."""

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

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # some file systems of clusters


@contextmanager
def only_writer(lock_file: Path, what: str) -> Iterator[None]:
    """Hold a lock file within the block, and remove it at the end.

    Other threads and processes are refused. When a process is killed, the kernel releases its lock, and the remaining file
    blocks nobody. On a file system without locks a warning is logged, and nobody is refused.

    Args:
        lock_file: path in an existing folder.
        what: what is written, for messages: "KEY: VALUE".

    Raises:
        UserError: another thread or process holds the lock.
        OSError: the file cannot be created.
    """
    lock = FileLock(lock_file, timeout=0, fallback_to_soft=False)  # a soft lock of a killed process would block other hosts
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(FileNotFoundError):  # released in between
            holder = lock_file.read_text(encoding="utf-8", errors="replace")
        raise UserError(
            f"{what}: is being written by {holder or 'another process'}.\n"
            "Wait until that process ends, stop it, or use another path."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks. Make sure that no other process writes there.", what)
    try:
        with suppress(OSError):  # on a full disk, refused processes are not told who holds the lock
            lock_file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # before the release, so that the next process creates a new file
        lock.release()
