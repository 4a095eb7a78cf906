"""Build time, size, search time and recall of each kind of index, on synthetic unit vectors of 384 numbers. "Clustered"
vectors resemble sentences: a random map of 32 hidden dimensions, grouped around one centre for a hundred rows, and 10 %
noise in all 384. "Uniform" vectors are random in all 384 dimensions, the worst case for an approximate search, since
everything is about as far from everything else. 300 queries are drawn like the rows and are not among them; they go one
at a time to the saved, memory-mapped index. Recall@10 is against exact search. Build time includes drawing the vectors.

Run: python benchmarks/index.py [--rows N] [--kinds KIND ...]. A million rows: --rows 1000000 --kinds hnsw
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import Column, machine, report
from torch import Tensor

from simcse_lit.config.checks.index import KINDS, index_config
from simcse_lit.retrieval.index import Block, Index

WIDTH, HIDDEN, CLUSTER, QUERIES, BLOCK = 384, 32, 100, 300, 16_384


class Vectors:
    """Rows and queries of one distribution, the same in every run."""

    def __init__(self, shape: str, rows: int) -> None:
        self.shape, self.rows = shape, rows
        generator = torch.Generator().manual_seed(0)
        self.centres = torch.randn(max(1, rows // CLUSTER), HIDDEN, generator=generator)
        self.map = torch.randn(HIDDEN, WIDTH, generator=generator) / HIDDEN**0.5

    def draw(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, WIDTH, generator=generator)
        if self.shape == "uniform":
            return F.normalize(noise, dim=-1)
        centres = self.centres[torch.randint(len(self.centres), (count,), generator=generator)]
        hidden = centres + 0.5 * torch.randn(count, HIDDEN, generator=generator)
        return F.normalize(hidden @ self.map + 0.1 * noise, dim=-1)

    def blocks(self) -> Iterator[Block]:
        for start in range(0, self.rows, BLOCK):
            count = min(BLOCK, self.rows - start)
            yield self.draw(count, 1 + start), [f"sentence {start + row}" for row in range(count)], None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--uniform-rows", type=int, default=10_000, help="0 leaves the worst case out")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--setting", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. links=16 ef_construction=100")
    options = parser.parse_args()
    settings = dict(setting.split("=") for setting in options.setting)
    table = []
    for shape, rows in (("clustered", options.rows), ("uniform", options.uniform_rows)):
        if not rows:
            continue
        vectors = Vectors(shape, rows)
        queries = vectors.draw(QUERIES, 0)
        with tempfile.TemporaryDirectory() as folder:
            exact: list[set[int]] = []
            for kind in dict.fromkeys(["exact", *options.kinds]):
                own = settings if kind != "exact" else {}
                figures, found = measure(kind, vectors, queries, Path(folder) / kind, own)
                exact = exact or found
                recall = sum(len(one & other) for one, other in zip(found, exact, strict=True)) / 10 / QUERIES
                table.append([f"{rows:,} {shape}", kind, *figures, recall])
                print(table[-1], flush=True)
    columns = [
        Column("vectors"),
        Column("kind"),
        Column("build", "s", ".1f"),
        Column("disk", "MiB", ",.0f"),
        Column("p50", "ms", ".2f"),
        Column("p99", "ms", ".2f"),
        Column("breadth"),
        Column("recall@10", "", ".3f"),
    ]
    report("index", __doc__, "Kinds of index", columns, table, machine("faiss-cpu"))


def measure(
    kind: str, vectors: Vectors, queries: Tensor, folder: Path, settings: dict[str, str]
) -> tuple[list[Any], list[set[int]]]:
    """Build and search one index.

    Returns:
        Build time (s), size (MiB), p50 and p99 of a query (ms) and breadth of the search; the ids found for each query.
    """
    start = time.perf_counter()
    Index.build_in(folder, vectors.blocks(), index_config(kind, **settings))
    build = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.iterdir())
    index = Index.load(folder)
    index.search(queries[:20], 10)  # reads pages of the files into memory
    seconds, found = [], []
    for query_H in queries:
        start = time.perf_counter()
        hits = index.search(query_H[None], 10)[0]
        seconds.append(time.perf_counter() - start)
        found.append({hit.id for hit in hits})
    p50, p99 = torch.tensor(seconds).quantile(torch.tensor([0.5, 0.99])).mul(1000).tolist()
    return [build, size / 2**20, p50, p99, index.breadth], found


if __name__ == "__main__":
    main()
