"""Local files that a path stands for: the file itself, or those that a pattern matches."""

from collections import Counter
from glob import glob, has_magic
from pathlib import Path

from simcse_lit.config.resolvers import local_path, suffixes
from simcse_lit.errors import UserError


def local_files(name: str, known: tuple[str, ...], *, key: str) -> list[tuple[Path, str]]:
    """Return each file and its name for messages, sorted by name.

    Args:
        name: a path, `pkg://PACKAGE/PATH`, or a pattern: `*` matches any part of a name, `**` any folders.
        known: readable endings, for messages.
        key: configuration key of the files, for messages.

    Raises:
        UserError: there is no such file, or it is a folder.
    """
    path = local_path(name, key)
    if path.is_file():
        return [(path, name)]
    if path.is_dir():
        raise UserError(f"{key}: {name}: is a folder. Name its files: {_forms(name, path, known, key)}")
    if has_magic(name):
        matches = sorted(glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        found = [match for match in matches if Path(match).is_file()]
        if not found:
            raise UserError(f"{key}: {name}: matches no file in {Path.cwd()}.")
        return [(Path(match), match) for match in found]
    raise UserError(f"{key}: {name}: there is no such file in {path.absolute().parent}.")


def _forms(name: str, folder: Path, known: tuple[str, ...], key: str) -> str:
    """Return patterns for the readable files of a folder, most frequent ending first."""
    endings = Counter("".join(suffixes(path.name)) for path in folder.iterdir() if path.is_file())
    read = [ending for ending, _ in endings.most_common() if ending.startswith(known)] or list(known)
    return " or ".join(f"{key}={name.rstrip('/')}/*{ending}" for ending in read[:3])
