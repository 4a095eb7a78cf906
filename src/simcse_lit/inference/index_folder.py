"""The folder of an index: rows, what faiss searches, what is deleted, and `index.json`, which says which files count.

A file is never changed once written. `index.json` is replaced last, so that an index is always whole, and then the files
that no longer count are removed.

Shapes: N rows.
"""

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simcse_lit.config.schema import IndexConfig
from simcse_lit.errors import UserError
from simcse_lit.inference.approximate import Structure, find_faiss
from simcse_lit.inference.segments import Rows, Segment, SegmentWriter, open_segment

SCHEMA = 1
SUFFIXES = (".arrow", ".faiss", ".npy")


class Parts(NamedTuple):
    """What an index consists of."""

    rows: Rows
    config: IndexConfig
    model: str | None
    deleted_N: np.ndarray
    structure: Structure | None  # None for an exact one, and where there is no faiss


def write_index(folder: Path, parts: Parts) -> None:
    """Write what is new.

    Raises:
        UserError: the folder cannot be written, or holds something else.
    """
    make_index_folder(folder)
    rows, structure = parts.rows, parts.structure
    try:
        names = []
        for number, segment in enumerate(rows.segments):
            path = segment.path
            if path is None or path.parent != folder:
                path = new_path(folder, "rows", "arrow")
                with SegmentWriter(path, rows.width) as writer:
                    writer.write(segment)
                if segment.path is None:
                    rows.segments[number] = Segment(segment.blocks, path)  # not to be written again
            names.append(path.name)
        searched = structure.path if structure else None
        if structure and (searched is None or searched.parent != folder):
            searched = new_path(folder, parts.config.kind, "faiss")
            structure.save(searched)
        deleted = None
        if parts.deleted_N.any():
            deleted = new_path(folder, "deleted", "npy")
            np.save(deleted, parts.deleted_N.nonzero()[0], allow_pickle=False)
        about = {
            "schema": SCHEMA,
            "model": parts.model,
            "width": rows.width,
            "sentences": int((~parts.deleted_N).sum()),
            "settings": asdict(parts.config),
            "breadth": structure and structure.breadth,
            "recall": structure and structure.recall,
            "rows": names,
            "structure": searched and searched.name,
            "deleted": deleted and deleted.name,
        }
        partial = folder / "index.json.partial"
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / "index.json")
        for path in folder.iterdir():
            if path.suffix in SUFFIXES and path.name not in (*names, about["structure"], about["deleted"]):
                path.unlink()
    except (OSError, RuntimeError) as error:  # faiss raises the latter
        raise UserError(f"index: {folder}: cannot be written: {str(error).splitlines()[0]}") from error


def read_index(folder: Path) -> Parts:
    """Map the files of an index.

    Raises:
        UserError: there is no such folder, it is no index, or it is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"index: {folder}: there is no such folder (looked in {folder.absolute().parent}).")
    if not (folder / "index.json").is_file():
        raise UserError(f"index: {folder}: is no index (no index.json). Build one: python -m simcse_lit.index")
    try:
        about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
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
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"index: {folder}: is damaged: {error}. Build the index again.") from error
    return Parts(rows, config, about["model"], deleted_N, structure)


def make_index_folder(folder: Path) -> None:
    """Make it if need be; refuse one that holds something else than an index."""
    if folder.is_file():
        raise UserError(f"index: {folder}: is a file; name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = ("index.json", "index.json.partial")
        other = [path.name for path in folder.iterdir() if path.suffix not in SUFFIXES and path.name not in known]
    except OSError as error:
        raise UserError(f"index: {folder}: cannot be made: {error.strerror or error}.") from error
    if other:
        raise UserError(f"index: {folder}: holds other files, e.g. {other[0]}. Name a new folder, or that of an index.")


def new_path(folder: Path, name: str, suffix: str) -> Path:
    """NAME-0.SUFFIX, or the first number that is not taken."""
    return next(path for number in count() if not (path := folder / f"{name}-{number}.{suffix}").exists())
