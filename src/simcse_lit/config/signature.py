"""Signs the run folders of this user, so that `resume=` replays no command that someone else wrote.

The overrides of a run may name a class to build or a folder of configuration files. In a folder from elsewhere these must
not be replayed. A file's owner does not show its origin: whoever unpacks an archive owns its files. Each run is therefore
signed with a key in the user's state folder.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

SIGNED = ("overrides.yaml", "hydra.yaml")  # in .hydra: what was typed, and which configuration files were read
FILE = "signature"


def sign(folder: Path) -> None:
    """Sign the run in a folder. If the key or the folder cannot be written, the run stays unsigned."""
    with suppress(OSError):
        signature = _signature(folder)
        (folder / ".hydra" / FILE).write_text(f"{signature}\n", encoding="utf-8")


def is_ours(folder: Path) -> bool:
    """Return whether a run of this user wrote the overrides in a folder."""
    try:
        found = (folder / ".hydra" / FILE).read_text(encoding="utf-8").strip()
        return hmac.compare_digest(found.encode(), _signature(folder).encode())
    except (OSError, UnicodeError):
        return False


def _signature(folder: Path) -> str:
    signed = hmac.new(_key(), digestmod=hashlib.sha256)
    for name in SIGNED:
        content = (folder / ".hydra" / name).read_bytes()
        signed.update(len(content).to_bytes(8, "big") + content)
    return signed.hexdigest()


def _key() -> bytes:
    """Return this user's key, created on first use.

    Raises:
        OSError: it cannot be read or created.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    state = state if Path(state).is_absolute() else "~/.local/state"  # XDG ignores a relative path
    path = Path(state, "simcse_lit", "key").expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(partial, path)  # another process created it first
        partial.unlink()
    return path.read_bytes()
