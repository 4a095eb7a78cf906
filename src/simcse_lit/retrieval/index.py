"""Index of sentences with their ids and unit vectors, searched by cosine, saved to a folder and memory-mapped from it.

An exact search uses torch. Approximate kinds (`approximate.py`) propose candidates and the stored vectors score them, so
every score is the exact cosine. Deleted sentences are only marked, and searches skip them until the index is built again,
because faiss cannot remove a row from a graph.

Shapes: N rows, Q queries, C candidates, H width.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from simcse_lit.config.checks.index import index_config
from simcse_lit.config.schema import IndexConfig
from simcse_lit.errors import UserError
from simcse_lit.retrieval.approximate import Structure, find_faiss
from simcse_lit.retrieval.index_folder import Parts, check_unchanged, new_path, read_index, write_index, writing
from simcse_lit.retrieval.segments import (
    BLOCK,
    Rows,
    Segment,
    SegmentWriter,
    make_segment,
    open_segment,
    unit_vectors,
    width_of,
)

QUERIES = 256  # that are searched together; limits memory

Block = tuple[Tensor, Sequence[str], Sequence[int] | None]


class Hit(NamedTuple):
    """A sentence that was found."""

    id: int
    text: str
    score: float  # cosine


class Index:
    """Sentences, their ids and their unit vectors, searchable."""

    def __init__(self, rows: Rows, config: IndexConfig, model: str | None, truncate_dim: int | None = None) -> None:
        """Use `build`, `build_in` or `load`."""
        self.config = config
        self.model = model
        self.truncate_dim = truncate_dim  # of the encoder that made the vectors
        self._rows = rows
        self._ids_N = rows.ids()
        self._alive_N = np.ones(len(rows), bool)
        self._structure: Structure | None = None
        self._stored: tuple[Path, str] | None = None  # the folder that it was read from or last written to, and its manifest

    @classmethod
    def build(
        cls,
        vectors_NH: Tensor,
        texts: Sequence[str],
        *,
        ids: Sequence[int] | None = None,
        kind: str = "exact",
        model: str | None = None,
        **settings: Any,
    ) -> "Index":
        """Build an index in memory.

        Args:
            vectors_NH: one vector a sentence, (N, H), of any length except zero. They are normalised.
            texts: the N sentences.
            ids: their numbers, each different; 0, 1, ... by default.
            kind: `exact`, `ivf`, `hnsw` or `pq`. Without faiss the kind is always `exact`, with a warning.
            model: what made the vectors, for the record.
            settings: settings that differ from `conf/index/KIND.yaml`.

        Raises:
            UserError: texts, ids and vectors differ in number, a vector is zero or not finite, an id occurs twice, or
                a setting is not possible.
        """
        config = index_config(kind, **settings)
        index = cls(Rows(width_of(vectors_NH)), config, model)
        index._append([(vectors_NH, texts, ids)], None)
        index._build_structure()
        return index

    @classmethod
    def build_in(
        cls,
        folder: Path,
        blocks: Iterable[Block],
        config: IndexConfig,
        *,
        model: str | None = None,
        truncate_dim: int | None = None,
    ) -> "Index":
        """Build an index in a folder. Rows are written as they arrive, so memory holds one block of them.

        Args:
            folder: a new folder, or that of an index, which stays as it is until the new one is complete.
            blocks: vectors (B, H), their texts, and their ids or None; at least one block.
            config: kind and settings.
            model: what made the vectors, for the record.
            truncate_dim: numbers that the encoder kept of each vector, for the record; None if none was asked for.

        Raises:
            UserError: see `build`; or the folder cannot be written, holds other files, or another process is writing there.
        """
        with writing(folder):
            stream = iter(blocks)
            first = next(stream, None)
            if first is None:
                raise UserError("index: there are no sentences to index.")
            index = cls(Rows(width_of(first[0])), config, model, truncate_dim)
            index._append(chain([first], stream), new_path(folder, "rows", "arrow"))
            index._build_structure()
            index.save(folder)
        return index

    def __len__(self) -> int:
        return int(self._alive_N.sum())

    @property
    def width(self) -> int:
        """H."""
        return self._rows.width

    @property
    def recall(self) -> dict[str, Any] | None:
        """For an approximate index: its recall@10 when it was built, and the queries that measured it."""
        return self._structure.recall if self._structure else None

    @property
    def breadth(self) -> int | None:
        """For an approximate index: sentences that a search keeps as candidates (hnsw), or cells that it visits."""
        return self._structure.breadth if self._structure else None

    def add(self, vectors_NH: Tensor, texts: Sequence[str], ids: Sequence[int] | None = None) -> None:
        """Add sentences. They are held in memory until the next `save`.

        Args:
            vectors_NH: see `build`.
            texts: the sentences.
            ids: their numbers, none of which is in the index; by default they continue after the largest.

        Raises:
            UserError: see `build`; or the vectors have another width than those of the index, its kind needs faiss, which is
                not installed, or the folder that it is mapped from was written again.
        """
        self._check_changeable()
        if self._structure is not None:
            self._structure.check_there()
        before = len(self._rows.vectors)
        self._append([(vectors_NH, texts, ids)], None)
        if self._structure is not None:
            for block_BH in self._rows.vectors[before:]:
                self._structure.add(block_BH)

    def delete(self, ids: Iterable[int]) -> int:
        """Mark ids as deleted, so that searches skip them. Their rows stay in the files.

        Returns:
            How many of the ids were in the index.

        Raises:
            UserError: the kind of the index needs faiss, which is not installed.
        """
        self._check_changeable()
        found_N = np.isin(self._ids_N, np.fromiter(ids, np.int64)) & self._alive_N
        self._alive_N &= ~found_N
        return int(found_N.sum())

    def blocks(self) -> Iterator[Block]:
        """Yield every sentence that is not deleted, block by block, to build a new index from."""
        for start in range(0, len(self._rows), BLOCK):
            places = self._alive_N[start : start + BLOCK].nonzero()[0] + start
            rows = [self._rows.row(int(place)) for place in places]
            if rows:
                yield self._rows.gather(torch.from_numpy(places)), [text for _, text in rows], [id for id, _ in rows]

    def first(self, count: int) -> tuple[list[str], Tensor]:
        """Return the first texts that are not deleted, and their vectors, (count, H) or fewer."""
        places = self._alive_N.nonzero()[0][:count]
        return [self._rows.row(int(place))[1] for place in places], self._rows.gather(torch.from_numpy(places))

    def search(self, queries_QH: Tensor, k: int) -> list[list[Hit]]:
        """Find the k most similar sentences for each query.

        Args:
            queries_QH: vectors of any length, (Q, H).
            k: how many.

        Returns:
            A list for each query, most similar first, with k hits or, if the index has fewer sentences, all.

        Raises:
            UserError: the queries have another width than the vectors of the index, or one is zero or not finite.
        """
        unit_QH = unit_vectors(queries_QH, self.width, "query")
        k = min(k, len(self))
        found = []
        for start in range(0, len(unit_QH), QUERIES):
            products_QK, places_QK = self._nearest(unit_QH[start : start + QUERIES], k)
            for scores, places in zip(products_QK.tolist(), places_QK.tolist(), strict=True):
                found.append([Hit(*self._rows.row(place), score) for score, place in zip(scores, places, strict=True)])
        return found

    def save(self, folder: Path) -> None:
        """Write what is not yet in `folder`. An index in the folder stays usable until this one is complete.

        Raises:
            UserError: the folder cannot be written or holds other files, another process is writing there or has done so
                since this index was read, or the kind needs faiss, which is not installed.
        """
        self._check_changeable()
        with writing(folder):
            if self._stored and self._stored[0] == folder.resolve():
                check_unchanged(*self._stored)
            parts = Parts(self._rows, self.config, self.model, ~self._alive_N, self._structure, self.truncate_dim)
            self._stored = folder.resolve(), write_index(folder, parts)

    @classmethod
    def load(cls, folder: Path) -> "Index":
        """Open an index. Its vectors, texts and structure are memory-mapped from the files.

        The opened index does not change when another process writes to the folder.

        Raises:
            UserError: the folder does not exist, is not an index, or is damaged.
        """
        parts, manifest = read_index(folder)
        index = cls(parts.rows, parts.config, parts.model, parts.truncate_dim)
        index._alive_N, index._structure, index._stored = ~parts.deleted_N, parts.structure, (folder.resolve(), manifest)
        return index

    def _nearest(self, queries_QH: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return products and places of the k nearest rows that are not deleted, both (Q, K), for k up to their number."""
        if self._structure is None or k == len(self):
            return self._rows.nearest(queries_QH, k, self._alive_N)
        products_QK, places_QK = self._structure.nearest(queries_QH, k, self._alive_N)
        # Few cells, or a graph with many deletions, may propose fewer than k: compare those queries with every row.
        short_Q = (products_QK == -torch.inf).any(dim=1)
        if short_Q.any():
            products_QK[short_Q], places_QK[short_Q] = self._rows.nearest(queries_QH[short_Q], k, self._alive_N)
        return products_QK, places_QK

    def _append(self, blocks: Iterable[Block], path: Path | None) -> None:
        """Check rows and add them. With a path, write them there and map them from it."""
        following = int(self._ids_N.max(initial=-1)) + 1
        made: list[Segment] = []
        new_ids = [np.empty(0, np.int64)]
        with SegmentWriter(path, self.width) if path else nullcontext() as writer:
            for vectors_BH, texts, ids in blocks:
                unit_BH = unit_vectors(vectors_BH, self.width, "sentence")
                ids_B = np.arange(following, following + len(texts)) if ids is None else np.asarray(ids, np.int64)
                if not len(unit_BH) == len(texts) == len(ids_B):
                    raise UserError(
                        f"index: {len(unit_BH):,} vectors, {len(texts):,} texts and {len(ids_B):,} ids. Give one of each."
                    )
                following = max(following, int(ids_B.max(initial=-1)) + 1)
                new_ids.append(ids_B)
                segment = make_segment(ids_B, texts, unit_BH)
                if writer:
                    writer.write(segment)
                else:
                    made.append(segment)
            ids_M = np.concatenate(new_ids)
            known, times = np.unique(np.concatenate([self._ids_N[self._alive_N], ids_M]), return_counts=True)
            if twice := known[times > 1].tolist():
                raise UserError(
                    f"index: {len(twice):,} ids occur twice, e.g. {twice[0]}. Delete the old ones, or leave ids out."
                )
        for segment in [open_segment(path, self.width)] if path else made:
            self._rows.append(segment)
        self._ids_N = np.concatenate([self._ids_N, ids_M])
        self._alive_N = np.concatenate([self._alive_N, np.ones(len(ids_M), bool)])

    def _check_changeable(self) -> None:
        if self.config.kind != "exact" and self._structure is None:
            raise UserError(
                f"This index has kind {self.config.kind}. Without faiss it can only be searched.\n"
                "Install it with: pip install 'simcse-lit[search]'"
            )

    def _build_structure(self) -> None:
        if self.config.kind == "exact":
            return
        if not len(self._rows):
            raise UserError(f"index={self.config.kind}: there are no sentences to index. Only index=exact may start empty.")
        if faiss := find_faiss():
            self._structure = Structure.build(faiss, self._rows, self.config)
        else:
            self.config = index_config("exact")
