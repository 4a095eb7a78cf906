"""Files of this machine that a path stands for: the file itself, or those that a pattern matches."""

from collections import Counter
from glob import glob, has_magic
from pathlib import Path

from simcse_lit.config.resolvers import local_path, suffixes
from simcse_lit.errors import UserError


def local_files(name: str, known: tuple[str, ...], *, key: str) -> list[tuple[Path, str]]:
    """Return each file with the name by which messages call it, in the order of their names.

    Args:
        name: a path, `pkg://PACKAGE/PATH`, or a pattern in which `*` matches any part of a name and `**` any folders.
        known: endings of files that can be read, for messages.
        key: the configuration key that names them, for messages.

    Raises:
        UserError: there is no such file, or it is a folder.
    """
    path = local_path(name, key)
    if path.is_file():
        return [(path, name)]
    if path.is_dir():
        raise UserError(f"{key}: {name}: is a folder; name its files: {_forms(name, path, known, key)}")
    if has_magic(name):
        matches = sorted(glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        found = [match for match in matches if Path(match).is_file()]
        if not found:
            raise UserError(f"{key}: {name}: no file matches (looked from {Path.cwd()}).")
        return [(Path(match), match) for match in found]
    raise UserError(f"{key}: {name}: there is no such file (looked in {path.absolute().parent}).")


def _forms(name: str, folder: Path, known: tuple[str, ...], key: str) -> str:
    """Return what to type for the files of a folder that can be read, most frequent ending first."""
    endings = Counter("".join(suffixes(path.name)) for path in folder.iterdir() if path.is_file())
    read = [ending for ending, _ in endings.most_common() if ending.startswith(known)] or list(known)
    return " or ".join(f"{key}={name.rstrip('/')}/*{ending}" for ending in read[:3])
