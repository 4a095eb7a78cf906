"""A cache file that is either complete or absent: its content is followed by a record about it and a digest.

Layout: content, record (JSON), length of the record (8 bytes, little-endian), SHA-256 of everything before (32 bytes). A
reader of Arrow streams stops at the end of the stream and ignores the rest.
"""

import hashlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LENGTH, DIGEST = 8, hashlib.sha256().digest_size
DAY = 86_400.0  # seconds
PARTIAL = re.compile(r"-[0-9a-f]{16}\.(\d+)(?:@(.+))?\.partial\Z")


def partial_name(path: Path) -> Path:
    """Return the name under which this process writes a file until it is finished."""
    return path.with_suffix(f".{os.getpid()}@{platform.node()}.partial")


def seal(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record and the digest to a file with complete content.

    Raises:
        OSError: the disk is full or fails.
    """
    text = json.dumps(record).encode()
    with path.open("ab") as file:
        file.write(text + len(text).to_bytes(LENGTH, "little"))
    digest = _digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(digest)


def is_intact(path: Path) -> bool:
    """Read a whole file and return whether it is unchanged since it was sealed."""
    size = path.stat().st_size - DIGEST
    return size >= LENGTH and _digest(path, size) == _tail(path, size, DIGEST)


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of an intact file."""
    end = path.stat().st_size - DIGEST - LENGTH
    length = int.from_bytes(_tail(path, end, LENGTH), "little")
    record: dict[str, Any] = json.loads(_tail(path, end - length, length))
    return record


def sweep(folder: Path) -> None:
    """Remove unfinished files of killed processes: those of this machine, and those of others if older than a day."""
    for path in folder.glob("*.partial"):
        match = PARTIAL.search(path.name)
        if match is None:
            continue
        with suppress(OSError):  # another process swept it, or it is another user's
            if match[2] in (None, platform.node()):
                dead = not _runs(int(match[1]))
            else:
                dead = time.time() - path.stat().st_mtime > DAY
            if dead:
                path.unlink()
                log.info("Removed %s, which a killed process left.", path.name)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _tail(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.digest()
