"""One writer at a time: a lock file beside what is written. The kernel lets the lock go when its process ends, however it
ends; a file that a killed process leaves holds nobody up.

Called by `index_folder.py` and by the command `encode`.
"""

import errno
import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # some file systems of clusters


@contextmanager
def only_writer(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file; it is removed at the end.

    Args:
        lock: the file, in a folder that is there.
        what: is written, for messages: "KEY: VALUE".

    Raises:
        UserError: another process, or another thread, is writing.
        OSError: the file cannot be made.
    """
    descriptor = _locked(lock, what)
    try:
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # a full disk: who holds the lock is then not told
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        lock.unlink(missing_ok=True)  # before it is let go: the next one makes a file of its own
        os.close(descriptor)


def _locked(lock: Path, what: str) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UserError(
                f"{what}: is being written by {holder}.\nWait until that has ended, or stop it; or name another."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            log.warning("%s: its file system knows no locks; see that nobody else writes there.", what)
            return descriptor
        # The one before may have removed the file between our opening and our locking it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)
