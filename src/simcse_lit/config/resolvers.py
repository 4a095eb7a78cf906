"""Resolvers for `${...}` in `conf/`, and the meaning of a location: a path, `pkg://`, `hf://` or another URL.

No file is opened and no server is asked here: see `text/remote.py` and `text/hub.py`.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from omegaconf import OmegaConf

from simcse_lit.errors import UserError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def register() -> None:
    """Register `${samples:COLUMNS}`: the bundled training file with these columns."""
    OmegaConf.register_new_resolver("samples", _sample, replace=True)


def _sample(columns: Sequence[str]) -> str:
    if list(columns) == ["sentence1", "sentence2"]:
        name = "scored.csv"
    else:
        name = "wikipedia.txt" if len(columns) == 1 else "triplets.csv"
    return f"pkg://simcse_lit/data/samples/{name}"


def is_local(name: str) -> bool:
    """Return whether a model's name means this machine: an existing folder, a path by its form, or `pkg://`."""
    by_form = name.startswith((".", "/", "~", "pkg://")) or name.count("/") > 1
    return by_form or Path(name).is_dir()


def is_remote(location: str) -> bool:
    """Return whether a file is behind a URL with a scheme of fsspec (`hf://`, `s3://`, `https://`)."""
    return re.match(r"[a-z][a-z0-9+.-]*://", location) is not None and not location.startswith("pkg://")


def is_hub(location: str) -> bool:
    """Return whether a file is on the Hugging Face Hub."""
    return location.startswith("hf://")


def file_name(location: str) -> str:
    """Return the last part of a path or URL, without a URL's query and chained parts (`zip://a.csv::https://...`)."""
    path = re.split(r"\?|::", location)[0] if is_remote(location) else location
    return path.rpartition("/")[2]


def suffixes(location: str) -> tuple[str, str]:
    """Return the format and compression of a file by its name, in lower case: (".csv", "") or (".csv", ".gz")."""
    path = PurePosixPath(file_name(location).lower())
    return (PurePosixPath(path.stem).suffix, path.suffix) if path.suffix in COMPRESSED else (path.suffix, "")


def means_file(name: str) -> bool:
    """Return whether a value that may also be a sentence is a file: an existing one, `pkg://`, or a URL without blanks."""
    if name.startswith("pkg://") or (is_remote(name) and not re.search(r"\s", name)):
        return True
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # name too long, null byte, ~NAME of no user
        return False


def local_path(location: str, key: str) -> Path:
    """Resolve a plain path or `pkg://PACKAGE/PATH` (a file or folder inside an installed package).

    Args:
        location: value of a configuration key.
        key: that key, for the message.

    Raises:
        UserError: the package is not installed, or holds no such path.
    """
    if not location.startswith("pkg://"):
        return Path(location).expanduser()
    package, _, inside = location.removeprefix("pkg://").partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        hint = "pip install 'simcse-lit[offline]'" if package.startswith("gt_") else f"pip install {package}"
        raise UserError(
            f"{key}: {location}: the Python package {package} is not installed.\n"
            f"Install it with: {hint}; or name a folder or a Hub id instead."
        )
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.exists():
        raise UserError(f"{key}: {location}: the installed package {package} holds no {inside}.")
    return path
