"""The folder of an index: rows, what faiss searches, what is deleted, and `index.json`, which says which files count.

A file is never changed once written, and no name is used twice. `index.json` is replaced last, so that an index is always
whole, and then the files that no longer count are removed. One writes at a time; any number read.

Shapes: N rows.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from simcse_lit.config.schema import IndexConfig
from simcse_lit.disk import durable_replace, fsync, only_writer
from simcse_lit.errors import UserError
from simcse_lit.retrieval.approximate import Structure, find_faiss
from simcse_lit.retrieval.segments import Rows, Segment, SegmentWriter, explained, open_segment

SCHEMA = 1
MANIFEST, PARTIAL, LOCK = "index.json", "index.json.partial", "index.lock"
OURS = re.compile(r"(rows|hnsw|ivf|pq|deleted)-[0-9a-f]+\.(arrow|faiss|npy)")

_held = threading.local()


class Parts(NamedTuple):
    """What an index consists of."""

    rows: Rows
    config: IndexConfig
    model: str | None
    deleted_N: np.ndarray
    structure: Structure | None  # None for an exact one, and where there is no faiss


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder, which is made if need be; what fails leaves the index that was there, and only that.

    A thread may enter it again for the same folder.

    Raises:
        UserError: another is writing there, the folder cannot be made, or it holds something else than an index.
    """
    held: set[Path] = _held.__dict__.setdefault("folders", set())
    if (own := folder.resolve()) in held:
        yield
        return
    made = not folder.exists()
    _make(folder)
    try:
        with ExitStack() as stack:
            with explained(folder):
                stack.enter_context(only_writer(folder / LOCK, f"index: {folder}"))
            held.add(own)
            try:
                yield
            except BaseException:
                with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged index loses nothing
                    _remove_what_does_not_count(folder)
                raise
            finally:
                held.remove(own)
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_index(folder: Path, parts: Parts) -> str:
    """Write what is new, by the one who is `writing`.

    Returns:
        The manifest.

    Raises:
        UserError: the folder cannot be written.
    """
    rows, structure = parts.rows, parts.structure
    with explained(folder):
        stored = []
        for segment in rows.segments:
            path = segment.path
            if path is None or not _lies_in(path, folder):
                path = new_path(folder, "rows", "arrow")
                with SegmentWriter(path, rows.width) as writer:
                    writer.write(segment)
            stored.append(path)
        searched = structure.path if structure else None
        if structure and (searched is None or not _lies_in(searched, folder)):
            searched = new_path(folder, parts.config.kind, "faiss")
            structure.save(searched)
            fsync(searched)
        deleted = None
        if parts.deleted_N.any():
            deleted = new_path(folder, "deleted", "npy")
            np.save(deleted, parts.deleted_N.nonzero()[0], allow_pickle=False)
            fsync(deleted)
        about = {
            "schema": SCHEMA,
            "model": parts.model,
            "width": rows.width,
            "sentences": int((~parts.deleted_N).sum()),
            "settings": asdict(parts.config),
            "breadth": structure and structure.breadth,
            "recall": structure and structure.recall,
            "rows": [path.name for path in stored],
            "structure": searched and searched.name,
            "deleted": deleted and deleted.name,
        }
        manifest = json.dumps(about, indent=2) + "\n"
        (folder / PARTIAL).write_text(manifest, encoding="utf-8")
        fsync(folder)  # the names that the manifest tells of
        durable_replace(folder / PARTIAL, folder / MANIFEST)
        for number, (segment, path) in enumerate(zip(rows.segments, stored, strict=True)):
            if segment.path is None:
                rows.segments[number] = Segment(segment.blocks, path)  # not to be written again
        _remove_what_does_not_count(folder)
    return manifest


def read_index(folder: Path) -> tuple[Parts, str]:
    """Map the files of an index.

    Returns:
        What it consists of, and the manifest that says so.

    Raises:
        UserError: there is no such folder, it is no index, or it is damaged.
    """
    check_is_index(folder)
    manifest = None
    while True:
        earlier, manifest = manifest, None
        try:
            manifest = (folder / MANIFEST).read_text(encoding="utf-8")
            return _opened(folder, json.loads(manifest)), manifest
        except (UserError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if manifest not in (None, earlier):  # a writer may have replaced it, and removed files, while we read
                continue
            if isinstance(error, UserError):
                raise
            raise UserError(f"index: {folder}: is damaged: {error}. Build the index again.") from error


def check_is_index(folder: Path) -> None:
    """Raises:
    UserError: there is no such folder, or it is no index.
    """
    if not folder.is_dir():
        raise UserError(f"index: {folder}: there is no such folder (looked in {folder.absolute().parent}).")
    if not (folder / MANIFEST).is_file():
        raise UserError(f"index: {folder}: is no index (no index.json). Build one: python -m simcse_lit.index")


def check_unchanged(folder: Path, manifest: str) -> None:
    """Raises:
    UserError: the folder holds an index of another manifest.
    """
    path = folder / MANIFEST
    if path.is_file() and path.read_text(encoding="utf-8") != manifest:
        raise UserError(
            f"index: {folder}: was written to by another since it was read from there, and that would be lost.\n"
            "Load it again and make the change again, or save to another folder."
        )


def new_path(folder: Path, name: str, suffix: str) -> Path:
    """NAME-NUMBER.SUFFIX, which no other writer, and no reader, ever means."""
    return folder / f"{name}-{uuid4().hex}.{suffix}"


def _opened(folder: Path, about: dict[str, Any]) -> Parts:
    if about["schema"] != SCHEMA:
        raise UserError(f"index: {folder}: is of schema {about['schema']}, not {SCHEMA}. Build the index again.")
    config = IndexConfig(**about["settings"])
    rows = Rows(about["width"])
    for name in about["rows"]:
        rows.append(open_segment(folder / name, rows.width))
    deleted_N = np.zeros(len(rows), bool)
    if about["deleted"]:
        deleted_N[np.load(folder / about["deleted"], allow_pickle=False)] = True
    if (held := int((~deleted_N).sum())) != about["sentences"]:
        raise UserError(f"index: {folder}: says {about['sentences']:,} sentences and holds {held:,}. Build it again.")
    structure = None
    if about["structure"] and (faiss := find_faiss()):
        structure = Structure.load(faiss, rows, config, folder / about["structure"])
        structure.breadth, structure.recall = about["breadth"], about["recall"]
    return Parts(rows, config, about["model"], deleted_N, structure)


def _make(folder: Path) -> None:
    """Make it if need be; refuse one that holds something else than an index."""
    if folder.is_file():
        raise UserError(f"index: {folder}: is a file; name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()} - {MANIFEST, PARTIAL, LOCK}
    except OSError as error:
        raise UserError(f"index: {folder}: cannot be made: {error.strerror or error}.") from error
    if other := sorted(name for name in names if not OURS.fullmatch(name)):
        raise UserError(f"index: {folder}: holds other files, e.g. {other[0]}. Name a new folder, or that of an index.")


def _remove_what_does_not_count(folder: Path) -> None:
    """Files of an earlier manifest, and of writers that did not come to an end."""
    counting: set[str] = set()
    if (folder / MANIFEST).is_file():
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        counting = {*about["rows"], about["structure"], about["deleted"]}
    for path in folder.iterdir():
        if path.name == PARTIAL or (OURS.fullmatch(path.name) and path.name not in counting):
            path.unlink()


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a file of an index is there, and in this folder."""
    return path.resolve().parent == folder.resolve() and path.is_file()
