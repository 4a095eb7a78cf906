"""Reads and writes the folder of an index: rows, faiss structure, deleted rows, and `index.json`, which names these
files.

A written file never changes, and no name is used twice. `index.json` is replaced last, so the index is complete at any time.
Then unused files are removed. One process writes at a time; any number may read.

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
from simcse_lit.disk import durable_replace, fsync
from simcse_lit.errors import UserError
from simcse_lit.one_writer import only_writer
from simcse_lit.retrieval.approximate import Structure, find_faiss
from simcse_lit.retrieval.segments import Rows, Segment, SegmentWriter, explained, open_segment

SCHEMA = 1
MANIFEST, PARTIAL, LOCK = "index.json", "index.json.partial", "index.lock"
OURS = re.compile(r"(rows|hnsw|ivf|pq|deleted)-[0-9a-f]+\.(arrow|faiss|npy)")

_held = threading.local()


class Parts(NamedTuple):
    """The parts of an index."""

    rows: Rows
    config: IndexConfig
    model: str | None
    deleted_N: np.ndarray
    structure: Structure | None  # None for an exact index, or without faiss
    truncate_dim: int | None = None  # of the encoder that made the vectors


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the folder's write lock, creating the folder if needed.

    If the block raises, the previous index stays and partial files are removed. A thread that holds the lock may enter
    again.

    Raises:
        UserError: another writer holds the lock, the folder cannot be created, or it holds files and no index.
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
                stack.enter_context(only_writer(folder / LOCK, f"folder: {folder}"))
            held.add(own)
            try:
                yield
            except BaseException:
                with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged index keeps its files
                    _remove_unused(folder)
                raise
            finally:
                held.remove(own)
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_index(folder: Path, parts: Parts) -> str:
    """Write the files that are not yet in the folder, and the manifest. Use it inside `writing`.

    Returns:
        The manifest, as text.

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
            "truncate_dim": parts.truncate_dim,
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
        fsync(folder)  # the names in the manifest
        durable_replace(folder / PARTIAL, folder / MANIFEST)
        for number, (segment, path) in enumerate(zip(rows.segments, stored, strict=True)):
            if segment.path is None:
                rows.segments[number] = Segment(segment.blocks, path)  # so that it is not written again
        _remove_unused(folder)
    return manifest


def read_index(folder: Path) -> tuple[Parts, str]:
    """Map an index's files into memory.

    Returns:
        The parts and their manifest, as text.

    Raises:
        UserError: the folder does not exist, is not an index, or is damaged.
    """
    check_is_index(folder)
    manifest = None
    while True:
        earlier, manifest = manifest, None
        try:
            manifest = (folder / MANIFEST).read_text(encoding="utf-8")
            return _opened(folder, json.loads(manifest)), manifest
        except (UserError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if manifest not in (None, earlier):  # a writer replaced it and removed files meanwhile
                continue
            if isinstance(error, UserError):
                raise
            raise UserError(f"folder: {folder}: is damaged: {error}. Build the index again.") from error


def check_is_index(folder: Path) -> None:
    """Check that a folder holds an index.

    Raises:
        UserError: the folder does not exist, or holds no index.
    """
    if not folder.is_dir():
        raise UserError(f"folder: {folder}: there is no such folder (looked in {folder.absolute().parent}).")
    if not (folder / MANIFEST).is_file():
        raise UserError(f"folder: {folder}: is not an index (no index.json). Name the folder of an index: folder=INDEX")


def check_unchanged(folder: Path, manifest: str) -> None:
    """Check that a folder does not hold another index than that of a manifest.

    Raises:
        UserError: the folder's manifest is another one.
    """
    path = folder / MANIFEST
    if path.is_file() and path.read_text(encoding="utf-8") != manifest:
        raise UserError(
            f"folder: {folder}: another process has written to it since this index was read, and that would be lost.\n"
            "Load the index again and repeat the change, or save to another folder."
        )


def new_path(folder: Path, name: str, suffix: str) -> Path:
    """Make a path NAME-NUMBER.SUFFIX that no index has ever used."""
    return folder / f"{name}-{uuid4().hex}.{suffix}"


def _opened(folder: Path, about: dict[str, Any]) -> Parts:
    if about["schema"] != SCHEMA:
        raise UserError(f"folder: {folder}: has schema {about['schema']}, not {SCHEMA}. Build the index again.")
    config = IndexConfig(**about["settings"])
    rows = Rows(about["width"])
    for name in about["rows"]:
        rows.append(open_segment(folder / name, rows.width))
    deleted_N = np.zeros(len(rows), bool)
    if about["deleted"]:
        deleted_N[np.load(folder / about["deleted"], allow_pickle=False)] = True
    if (held := int((~deleted_N).sum())) != about["sentences"]:
        raise UserError(
            f"folder: {folder}: records {about['sentences']:,} sentences and holds {held:,}. Build the index again."
        )
    structure = None
    if about["structure"] and (faiss := find_faiss()):
        structure = Structure.load(faiss, rows, config, folder / about["structure"])
        structure.breadth, structure.recall = about["breadth"], about["recall"]
    return Parts(rows, config, about["model"], deleted_N, structure, about.get("truncate_dim"))


def _make(folder: Path) -> None:
    """Create the folder if needed; refuse one that holds files and no index."""
    if folder.is_file():
        raise UserError(f"folder: {folder}: is a file. Name a folder: folder=DIR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()} - {MANIFEST, PARTIAL, LOCK}
    except OSError as error:
        raise UserError(f"folder: {folder}: cannot be created: {error.strerror or error}.") from error
    other = sorted(name for name in names if not OURS.fullmatch(name))
    if other and not (folder / MANIFEST).is_file():
        raise UserError(
            f"folder: {folder}: holds other files, e.g. {other[0]}.\n"
            "Name a new folder, or the folder of an index: folder=DIR"
        )


def _remove_unused(folder: Path) -> None:
    """Remove the files of earlier manifests and of writers that did not finish."""
    counting: set[str] = set()
    if (folder / MANIFEST).is_file():
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        counting = {*about["rows"], about["structure"], about["deleted"]}
    for path in folder.iterdir():
        if path.name == PARTIAL or (OURS.fullmatch(path.name) and path.name not in counting):
            path.unlink()


def _lies_in(path: Path, folder: Path) -> bool:
    """Tell whether a file exists and is in this folder."""
    return path.resolve().parent == folder.resolve() and path.is_file()
