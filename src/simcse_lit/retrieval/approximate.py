"""Approximate search with faiss: HNSW, IVF and product quantisation, over rows that `segments.py` stores.

A structure stores each vector in one byte a number or less, and proposes candidates. The stored vectors score the candidates
again, so every score is exact. Inner products of unit vectors are cosines.

Shapes: N rows, Q queries, S of a sample, C candidates, B rows of a block, H width.
"""

import logging
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.config.schema import IndexConfig
from simcse_lit.errors import UserError
from simcse_lit.retrieval.segments import Rows

log = logging.getLogger(__name__)

TRAINING_ROWS = 64  # rows for each cell that k-means learns from
LEAST_TRAINING_ROWS = 39  # faiss warns below
CODES = 256  # that one byte of product quantisation can hold
GRAPH_BREADTHS = (32, 2048)
SAMPLE = 200  # queries that measure the recall
NOISE = 0.484  # length of the noise added to them: they have a cosine of 0.9 with the vector that they come from


@cache
def find_faiss() -> ModuleType | None:
    """Return faiss, or None if it is not installed. The first call then logs a warning."""
    try:
        import faiss
    except ImportError:
        log.warning(
            "faiss is not installed, so every query is compared with every vector. That is exact and slower.\n"
            "Install it with: pip install 'simcse-lit[search]'"
        )
        return None
    module: ModuleType = faiss
    return module


class Structure:
    """A faiss index of some rows, and the breadth of its searches.

    Args:
        native: the faiss index. Its vector n is row n.
        rows: the rows.
        config: kind and settings.
        path: the file that it is mapped from; None while it exists in memory only.
    """

    def __init__(self, native: Any, rows: Rows, config: IndexConfig, path: Path | None = None) -> None:
        self.path = path
        self.breadth = 0  # rows that the search of a graph keeps as candidates, or cells that a search visits
        self.recall: dict[str, Any] = {}  # measured when it was built
        self._native = native
        self._rows = rows
        self._config = config

    @classmethod
    def build(cls, faiss: Any, rows: Rows, config: IndexConfig) -> "Structure":
        """Learn cells and codes from a sample, add every row, and find the breadth that reaches the recall goal.

        Args:
            faiss: the module.
            rows: one or more.
            config: kind and settings. The number of rows decides settings that are null.

        Raises:
            UserError: `bytes` does not divide the width, or there are too few rows for cells or codes.
        """
        native, sample = _empty(faiss, len(rows), rows.width, config)
        step = max(1, len(rows) // sample)
        native.train(torch.cat([block_BH[::step] for block_BH in rows.vectors]).numpy())
        structure = cls(native, rows, config)
        for block_BH in rows.vectors:
            structure.add(block_BH)
        structure._tune()
        return structure

    @classmethod
    def load(cls, faiss: Any, rows: Rows, config: IndexConfig, path: Path) -> "Structure":
        """Map a file that `save` wrote.

        Raises:
            UserError: the file is missing, is damaged, or belongs to other rows.
        """
        # faiss maps graphs and codes by one flag, the contents of cells by the other.
        flag = faiss.IO_FLAG_MMAP_IFC if config.kind == "hnsw" else faiss.IO_FLAG_MMAP
        try:
            native = faiss.read_index(str(path), flag)
        except RuntimeError as error:
            raise UserError(f"folder: {path}: is missing or damaged. Build the index again.") from error
        if (native.ntotal, native.d) != (len(rows), rows.width):
            raise UserError(f"folder: {path}: belongs to other sentences. Build the index again.")
        if config.kind != "hnsw":
            faiss.downcast_InvertedLists(
                native.invlists
            ).prefetch_nthread = 0  # 32 threads for each query cost more than they gain
        return cls(native, rows, config, path)

    def save(self, path: Path) -> None:
        """Write the structure to a file.

        Raises:
            UserError: the file that it is mapped from no longer exists.
        """
        import faiss

        if self.path is not None:  # faiss would write a reference to this file instead of the cells' contents
            self.check_there()
            shutil.copyfile(self.path, path)
        else:
            faiss.write_index(self._native, str(path))

    def add(self, block_BH: Tensor) -> None:
        """Add rows. A mapped structure is read into memory first, because faiss cannot add to a mapped one.

        Raises:
            UserError: the file that it is mapped from no longer exists.
        """
        if self.path is not None:
            import faiss

            self.check_there()
            self._native, self.path = faiss.read_index(str(self.path)), None
        self._native.add(block_BH.numpy())

    def check_there(self) -> None:
        """Check that the file that the structure is mapped from exists.

        Raises:
            UserError: the file no longer exists.
        """
        if self.path is not None and not self.path.is_file():
            raise UserError(
                f"folder: {self.path}: no longer exists: the index was written again since it was opened. Open it again."
            )

    def nearest(self, queries_QH: Tensor, k: int, alive_N: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the k nearest rows among the candidates that the structure proposes; see `Rows.nearest`.

        A place is -1 where the structure proposes too few candidates.
        """
        faiss: Any = import_module("faiss")  # its type stubs lack what its Python wrappers add
        count = k * (self._config.rerank or 1)
        options: dict[str, Any] = {}
        if not alive_N.all():
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(alive_N, bitorder="little"))
        if self._config.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.breadth, count), **options)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=self.breadth, **options)
        places_QC = torch.from_numpy(self._native.search(queries_QH.numpy(), count, params=parameters)[1])
        products_QC = torch.full(places_QC.shape, -torch.inf)
        for query_H, places_C, products_C in zip(queries_QH, places_QC, products_QC, strict=True):
            found_C = places_C >= 0
            products_C[found_C] = self._rows.gather(places_C[found_C]) @ query_H
        best = products_QC.topk(k)
        return best.values, places_QC.gather(1, best.indices)

    def _tune(self) -> None:
        """Find the smallest breadth that reaches the recall goal on a sample of noisy rows, and record the recall."""
        generator = torch.Generator().manual_seed(0)
        own_S = torch.randperm(len(self._rows), generator=generator)[:SAMPLE]
        noise_SH = F.normalize(torch.randn(len(own_S), self._rows.width, generator=generator), dim=-1)
        queries_SH = F.normalize(self._rows.gather(own_S) + NOISE * noise_SH, dim=-1)
        alive_N = np.ones(len(self._rows), bool)
        # The nearest row is the one that the query comes from, which is easy to find: take 11 and leave it out.
        exact = [set(places) for places in self._rows.nearest(queries_SH, 11, alive_N)[1].tolist()]
        for breadth in self._breadths():
            self.breadth = breadth
            found = self.nearest(queries_SH, 11, alive_N)[1].tolist()
            hits, all_hits = 0, 0
            for right, got, own in zip(exact, found, own_S.tolist(), strict=True):
                right.discard(own)
                hits, all_hits = hits + len(right.intersection(got)), all_hits + len(right)
            recall = hits / max(all_hits, 1)
            if recall >= (self._config.recall_goal or 0):
                break
        self.recall = {
            "recall@10": round(recall, 4),
            "queries": f"{len(own_S)} of its own vectors with noise (cosine 0.9), the vector itself not counted",
        }

    def _breadths(self) -> list[int]:
        """Return the breadths to try, from fast to thorough: the configured one, or doubled from the smallest."""
        if self._config.kind == "hnsw":
            least, most, chosen = *GRAPH_BREADTHS, self._config.ef_search
        else:
            least, most, chosen = 1, int(self._native.nlist), self._config.probes
        doubled = [least << power for power in range((most // least).bit_length())]
        return [chosen] if chosen else sorted({*doubled, most})


def _empty(faiss: Any, count: int, width: int, config: IndexConfig) -> tuple[Any, int]:
    """Return an empty faiss index, and the number of rows that it learns from."""
    if config.kind == "hnsw":
        native = faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_8bit, config.links, faiss.METRIC_INNER_PRODUCT)
        native.hnsw.efConstruction = config.ef_construction
        return native, TRAINING_ROWS * CODES
    cells = config.cells or max(1, min(round(4 * count**0.5), count // LEAST_TRAINING_ROWS))
    if config.kind == "ivf":
        codes, learned = "SQ8", cells
    else:
        codes, learned = f"PQ{_code_bytes(config.bytes, width)}np", max(cells, CODES)  # np: no polysemous codes
    if count < learned * LEAST_TRAINING_ROWS:
        key = f"index=pq, which learns {CODES} codes," if learned > cells else f"index.cells={cells}"
        raise UserError(
            f"{key} needs {learned * LEAST_TRAINING_ROWS:,} sentences or more; there are {count:,}.\n"
            "Use index=hnsw or index=exact."
        )
    native = faiss.index_factory(width, f"IVF{cells},{codes}", faiss.METRIC_INNER_PRODUCT)
    native.by_residual = (
        False  # codes of the unit vectors find more of the nearest rows than codes of their differences from the cell
    )
    return native, TRAINING_ROWS * learned


def _code_bytes(chosen: int | None, width: int) -> int:
    if chosen is None:
        return next(number for number in range(max(1, width // 4), 0, -1) if width % number == 0)
    if width % chosen:
        raise UserError(f"index.bytes={chosen}: must divide the width of the vectors, {width}.")
    return chosen
