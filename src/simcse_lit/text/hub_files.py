"""The files of a Hub data set that a location stands for: those that a pattern matches, or those of its train split.

A repository with several data sets, by configurations or folders, is refused with a message that lists what to type for
each.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from glob import has_magic
from os.path import commonprefix
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from fsspec.utils import glob_translate

from simcse_lit.errors import UserError
from simcse_lit.progress import redraws

SHOWN = 5  # parts of a data set that a message names
TRAIN = re.compile(r"(^|[/._ -])train([/._ 0-9-]|$)")


def find_files(location: str, repository: str, file: str, revision: str | None, *, key: str) -> tuple[str, list[str]]:
    """Return the commit, so that every pass reads the same text, and the sorted files of a location.

    Args:
        location: as the user typed it, for messages.
        repository: OWNER/NAME.
        file: rest of the location: a file, a pattern, or "" for the train split.
        revision: branch, tag or commit.
        key: configuration key of the location, for messages.

    Raises:
        UserError: there is no such file or train split, or there are several data sets.
        Exception: an error of the Hub's client.
    """
    about = huggingface_hub.dataset_info(repository, revision=revision)
    names = sorted(sibling.rfilename for sibling in about.siblings or [])
    commit = str(about.sha)
    if file:
        return commit, matching(location, repository, names, file, key=key)
    found = _train_split(location, repository, commit, names, key)
    if len({PurePosixPath(name).parent for name in found}) > 1:
        card = "README.md" in names and huggingface_hub.hf_hub_download(
            repository, "README.md", repo_type="dataset", revision=revision
        )
        if not card or not declares(Path(card)):
            refuse_several_folders(location, found, names, key=key)
    return commit, found


def matching(location: str, repository: str, names: Sequence[str], file: str, *, key: str) -> list[str]:
    """Return a file of a data set, or those that a pattern matches: `*` any part of a name, `**` any folders.

    Raises:
        UserError: there is none.
    """
    wanted = re.compile(glob_translate(file)) if has_magic(file) else re.compile(re.escape(file) + r"\Z")
    found = [name for name in names if wanted.match(name)]
    if not found and (inside := [name for name in names if name.startswith(f"{file.rstrip('/')}/")]):
        inside = [name for name in inside if TRAIN.search(name)] or inside
        form = pattern([name for name in inside if PurePosixPath(name).parent == PurePosixPath(inside[0]).parent], names)
        base = location[: -len(file)].rstrip("/")
        raise UserError(f"{key}: {location}: is a folder. Name its files: {base}/{form}")
    if not found:
        raise UserError(f"{key}: {location}: the data set {repository} has no such file.")
    return found


def train_split(location: str, names: Sequence[str], card: Path, *, key: str) -> list[str]:
    """Return the files of the train split by their names, without asking the Hub.

    Raises:
        UserError: there are none, or they are in several folders.
    """
    found = [name for name in names if TRAIN.search(name) and PurePosixPath(name).suffix != ".md"]
    if not found:
        raise _nothing(location, "has no train split.", key)
    if not card.is_file() or not declares(card):
        refuse_several_folders(location, found, names, key=key)
    return found


def refuse_several_folders(location: str, found: Sequence[str], names: Sequence[str], *, key: str) -> None:
    """Refuse files of a train split in several folders, each of which may be a data set.

    Raises:
        UserError: there are several folders.
    """
    folders: dict[str, list[str]] = {}
    for name in found:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    if len(folders) > 1:
        ending = "".join(PurePosixPath(found[0]).suffixes)
        raise _several(
            location, "folders", folders, names, key, f"\nOr all of them: {location.rstrip('/')}/**/train*{ending}"
        )


def pattern(files: Sequence[str], names: Sequence[str]) -> str:
    """Return a pattern for some files of one folder: `FOLDER/*.parquet`, or with more of the name if others would match."""
    folder = PurePosixPath(files[0]).parent
    ending = "".join(PurePosixPath(files[0]).suffixes)
    alike = [name for name in names if PurePosixPath(name).parent == folder and name.endswith(ending)]
    shared = commonprefix([PurePosixPath(name).name for name in files])  # noqa: RUF071  by characters
    if len(files) == 1 and str(folder) == ".":
        return files[0]
    for prefix in ("", re.split(r"\d", shared)[0], shared):
        form = str(folder / f"{prefix}*{ending}")
        if {name for name in alike if name.startswith(form.partition("*")[0])} == set(files) and not prefix.endswith(ending):
            return form
    return files[0]


def _train_split(location: str, repository: str, commit: str, names: Sequence[str], key: str) -> list[str]:
    import datasets  # slow to import, and few commands need it

    if not redraws(sys.stderr):
        datasets.disable_progress_bars()

    def splits(*configuration: str) -> dict[str, list[str]]:
        builder = datasets.load_dataset_builder(repository, *configuration, revision=commit)
        files: Mapping[Any, Sequence[Any]] = builder.config.data_files or {}
        prefix = f"hf://datasets/{repository}@{commit}/"
        return {str(split): sorted(str(url).removeprefix(prefix) for url in urls) for split, urls in files.items()}

    try:
        found = splits()
    except (ValueError, FileNotFoundError, RuntimeError) as error:  # RuntimeError: a loading script
        try:
            configurations = datasets.get_dataset_config_names(repository, revision=commit)
        except (ValueError, FileNotFoundError, RuntimeError):
            configurations = []
        if len(configurations) < 2:
            raise _nothing(location, (str(error).splitlines() or ["no file can be read."])[0], key) from error
        parts = {name: splits(name).get("train", []) for name in configurations[:SHOWN]}
        parts |= {name: [] for name in configurations[SHOWN:]}
        raise _several(location, "configurations", parts, names, key) from error
    if "train" not in found:
        raise _nothing(location, f"has no train split. Its splits: {', '.join(found)}.", key)
    return found["train"]


def declares(card: Path) -> bool:
    """Return whether a data set's card declares which files belong together."""
    return "configs" in (huggingface_hub.metadata_load(card) or {})


def _several(
    location: str, what: str, parts: Mapping[str, Sequence[str]], names: Sequence[str], key: str, otherwise: str = ""
) -> UserError:
    shown = [name for name in parts if parts[name]][:SHOWN]
    forms = "".join(f"\n  {location.rstrip('/')}/{pattern(parts[name], names)}" for name in shown)
    more = f", and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    listed = ", ".join(list(parts)[:SHOWN])
    return UserError(
        f"{key}: {location}: has several data sets, in the {what} {listed}{more}.\nName the files of one:{forms}{otherwise}"
    )


def _nothing(location: str, problem: str, key: str) -> UserError:
    return UserError(f"{key}: {location}: {problem}\nName its files: {location}/FILE, or {location}/*.parquet.")
