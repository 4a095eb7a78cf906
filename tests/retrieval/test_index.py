"""Indexes against a plain matrix product: every kind, saved, mapped, added to, deleted from, damaged, and without faiss."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simcse_lit.config.checks.index import index_config
from simcse_lit.errors import UserError
from simcse_lit.retrieval import segments
from simcse_lit.retrieval.index import Hit, Index

KINDS = ["exact", "hnsw", "ivf", "pq"]
N, H = 10_400, 16  # pq learns from 256 x 39 or more


def sentences() -> tuple[Tensor, list[str]]:
    """Vectors in 30 clusters, of many lengths, and their texts."""
    torch.manual_seed(0)
    vectors = torch.randn(30, H)[torch.arange(N) % 30] + 0.5 * torch.randn(N, H)
    return vectors * torch.rand(N, 1).add(0.1), [f"text {number}" for number in range(N)]


def queries() -> Tensor:
    """One of each cluster, none of them stored."""
    torch.manual_seed(0)
    centres = torch.randn(30, H)
    torch.manual_seed(1)
    return centres + 0.5 * torch.randn(30, H)


def cosines(vectors_NH: Tensor, queries_QH: Tensor) -> Tensor:
    """By the definition, pair by pair of rows."""
    return torch.cosine_similarity(queries_QH[:, None].double(), vectors_NH[None].double(), dim=2)


def recall(found: list[list[Hit]], scores_QN: Tensor) -> float:
    best = scores_QN.topk(10).indices.tolist()
    return float(np.mean([len({hit.id for hit in hits} & set(row)) / 10 for hits, row in zip(found, best, strict=True)]))


def built(kind: str, **settings: Any) -> tuple[Index, Tensor]:
    vectors, texts = sentences()
    if kind in ("ivf", "pq"):
        settings = {"cells": 60, **settings}
    if kind == "pq":
        settings = {"bytes": 8, **settings}
    return Index.build(vectors, texts, kind=kind, **settings), vectors


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_the_nearest_saved_or_not_and_scores_are_exact(tmp_path: Path, kind: str) -> None:
    index, vectors = built(kind)
    scores = cosines(vectors, queries())
    index.save(tmp_path / "index")
    for one in (index, Index.load(tmp_path / "index")):
        assert len(one) == N
        found = one.search(queries(), 10)
        assert recall(found, scores) >= (1.0 if kind == "exact" else 0.85)
        for row, hits in enumerate(found):
            got = [hit.score for hit in hits]
            assert got == sorted(got, reverse=True)
            assert got == pytest.approx([float(scores[row, hit.id]) for hit in hits], abs=1e-5)
            assert [hit.text for hit in hits] == [f"text {hit.id}" for hit in hits]
    if kind == "exact":
        assert index.recall is None
    else:
        assert index.recall is not None and index.recall["recall@10"] >= 0.95
        assert Index.load(tmp_path / "index").recall == index.recall


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deleted_is_never_found_and_what_is_added_is_across_saves(tmp_path: Path, kind: str) -> None:
    index, vectors = built(kind)
    index.save(tmp_path / "index")
    index = Index.load(tmp_path / "index")
    query = queries()[:1]
    gone = [hit.id for hit in index.search(query, 20)[0]]
    assert index.delete([*gone, 10**6]) == 20
    assert index.delete(gone) == 0
    index.add(torch.cat([query, -query]), ["the query", "its opposite"])
    index.add(query * 3 + 0.01, ["near it"], [77_777])
    for _ in range(2):
        found = index.search(query, 20)[0]
        assert [(hit.id, hit.text) for hit in found[:2]] == [(N, "the query"), (77_777, "near it")]
        assert found[0].score == pytest.approx(1)
        assert len(found) == 20 and not {hit.id for hit in found} & set(gone)
        assert len(index) == N - 20 + 3
        index.save(tmp_path / "index")
        index = Index.load(tmp_path / "index")
    scores = cosines(vectors, query)
    scores[0, gone] = -2
    assert recall([index.search(query, 12)[0]], scores) >= (1.0 if kind == "exact" else 0.8)
    anew = Index.build_in(tmp_path / "index", index.blocks(), index_config("exact"))
    assert len(anew) == len(index) and {path.suffix for path in (tmp_path / "index").iterdir()} == {".json", ".arrow"}
    assert anew.search(query, 1)[0][0].id == N
    assert anew.delete(gone) == 0


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "pq"])
def test_as_many_are_found_as_are_asked_for_or_are_there(kind: str) -> None:
    """A graph or cells may propose fewer than that, after deletions or for a large k."""
    index, vectors = built(kind, recall_goal=0.3)  # as narrow a search as there is
    for k in (400, 3000):
        assert {len(hits) for hits in index.search(queries(), k)} == {k}
    kept = [*range(0, N, 700)]
    index.delete(sorted({*range(N)} - {*kept}))
    order = cosines(vectors[kept], queries()).argsort(dim=1, descending=True)
    expected = [[kept[place] for place in row] for row in order.tolist()]
    for k in (1, len(kept) - 1, len(kept), N + 5):
        found = index.search(queries(), k)
        assert {len(hits) for hits in found} == {min(k, len(kept))}
        if k >= len(kept):
            assert [[hit.id for hit in hits] for hits in found] == [row[:k] for row in expected]
    index.delete(kept)
    assert index.search(queries(), 3) == [[]] * 30


def test_vectors_and_texts_are_mapped_and_not_read(tmp_path: Path) -> None:
    wide = torch.randn(40_000, 256)
    Index.build(wide, ["x" * 100] * len(wide)).save(tmp_path)
    code = f"""
import pyarrow, torch
from collections.abc import Callable
from pathlib import Path
from typing import Any
from simcse_lit.retrieval.index import Index
index = Index.load(Path({str(tmp_path)!r}))
index.search(torch.randn(1, 256), 3)
print(pyarrow.total_allocated_bytes(), len(index))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allocated, count = map(int, done.stdout.split())
    assert count == 40_000
    assert allocated < 2**20  # the vectors alone are 40 MiB


def test_an_index_is_written_block_by_block_and_the_old_one_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    vectors, texts = sentences()
    blocks = [(vectors[start : start + 1000], texts[start : start + 1000], None) for start in range(0, N, 1000)]
    index = Index.build_in(tmp_path / "index", blocks, index_config("exact"), model="some/model")
    assert recall(index.search(queries(), 10), cosines(vectors, queries())) == 1
    before = (tmp_path / "index" / "index.json").read_text()
    with pytest.raises(UserError, match="has 3 numbers, and vectors of the index have 16"):
        Index.build_in(tmp_path / "index", [blocks[0], (torch.ones(1, 3), ["a"], None)], index_config("exact"))
    assert (tmp_path / "index" / "index.json").read_text() == before
    assert len(Index.load(tmp_path / "index")) == N
    assert sorted(path.suffix for path in (tmp_path / "index").iterdir()) == [".arrow", ".json"]
    assert Index.load(tmp_path / "index").model == "some/model"


def test_an_index_of_nothing_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    Index.build_in(tmp_path / "index", [(torch.eye(2), ["Rain.", "Snow."], None)], index_config("exact"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    with pytest.raises(UserError, match="there are no sentences to index"):
        Index.build_in(tmp_path / "index", [], index_config("exact"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before
    assert [hit.text for hit in Index.load(tmp_path / "index").search(torch.eye(2)[:1], 1)[0]] == ["Rain."]
    with pytest.raises(UserError, match="there are no sentences to index"):
        Index.build_in(tmp_path / "new", [], index_config("exact"))
    assert not (tmp_path / "new").exists()


def test_a_large_k_an_empty_index_and_blocks_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "BLOCK", 7)
    vectors = torch.randn(20, 4)
    index = Index.build(vectors, [str(number) for number in range(20)])
    order = cosines(vectors, vectors[:3]).argsort(dim=1, descending=True)
    assert [[hit.id for hit in hits] for hits in index.search(vectors[:3], 50)] == order.tolist()
    empty = Index.build(torch.empty(0, 4), [])
    assert (len(empty), empty.search(vectors[:1], 3)) == (0, [[]])
    empty.add(vectors, [""] * 20)
    assert len(empty.search(vectors[:1], 3)[0]) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda index: index.search(torch.ones(1, 5), 1),
            "the vector of a query has 5 numbers, and vectors of the index have 4",
        ),
        (lambda index: index.add(torch.ones(1, 5), ["a"]), "the vector of a sentence has 5 numbers"),
        (lambda index: index.add(torch.ones(1, 4), ["a"], [1]), r"1 ids occur twice, e\.g\. 1"),
        (lambda index: index.add(torch.ones(2, 4), ["a", "b"], [9, 9]), r"ids occur twice, e\.g\. 9"),
        (lambda index: index.add(torch.ones(2, 4), ["a"]), "2 vectors, 1 texts"),
        (lambda index: index.add(torch.zeros(1, 4), ["a"]), "vector of sentence 0 is zero or not finite"),
        (lambda index: index.search(torch.full((1, 4), torch.nan), 1), "vector of query 0 is zero or not finite"),
        (lambda index: index.search(torch.ones(4), 1), "must be a matrix"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="hsnw"), "Did you mean hnsw"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="hnsw", cells=3), "index=hnsw has no such setting"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="hnsw", links=0), r"index\.links=0: must be 1 or more"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="hnsw", links="x"), r"index\.links: Value 'x'"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="ivf"), "needs 39 sentences or more; there are 2"),
        (lambda _: Index.build(torch.ones(2, 4), ["a", "b"], kind="pq", bytes=3), r"index\.bytes=3: must divide"),
        (lambda _: Index.build(torch.empty(0, 4), [], kind="hnsw"), "there are no sentences"),
    ],
)
def test_a_mistake_is_named(call: Callable[[Index], object], message: str) -> None:
    index = Index.build(torch.randn(3, 4), ["a", "b", "c"])
    with pytest.raises(UserError, match=message):
        call(index)
    assert len(index) == 3


def test_a_folder_that_is_missing_damaged_or_something_else_is_named(tmp_path: Path) -> None:
    index, _ = built("hnsw")
    folder = tmp_path / "index"
    index.save(folder)
    with pytest.raises(UserError, match="there is no such folder"):
        Index.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not an index \(no index\.json\)"):
        Index.load(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files, e\.g\. thesis\.txt"):
        index.save(tmp_path / "other")
    about = json.loads((folder / "index.json").read_text())
    damages: dict[str, list[bytes | None]] = {
        "index.json": [b"{oops", json.dumps(about | {"sentences": 5}).encode(), json.dumps(about | {"width": 8}).encode()],
        about["rows"][0]: [b"short", None],
        about["structure"]: [b"short", None],
    }
    for name, contents in damages.items():
        whole = (folder / name).read_bytes()
        for content in contents:
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                (folder / name).write_bytes(content)
            with pytest.raises(UserError, match=r"folder: "):
                Index.load(folder)
        (folder / name).write_bytes(whole)
    assert len(Index.load(folder)) == N


def test_without_faiss_search_is_exact_and_says_so_once(tmp_path: Path) -> None:
    index, vectors = built("hnsw")
    index.save(tmp_path / "index")
    torch.save((vectors, queries()), tmp_path / "vectors.pt")
    code = f"""
import sys, torch, logging
sys.modules["faiss"] = None
logging.basicConfig(format="%(message)s")
from collections.abc import Callable
from pathlib import Path
from typing import Any
from simcse_lit.errors import UserError
from simcse_lit.retrieval.index import Index
vectors, queries = torch.load({str(tmp_path / "vectors.pt")!r})
made = Index.build(vectors, [str(n) for n in range(len(vectors))], kind="hnsw")
loaded = Index.load(Path({str(tmp_path / "index")!r}))
for index in (made, loaded):
    print([[hit.id for hit in hits] for hits in index.search(queries, 10)])
made.add(queries, ["q"] * len(queries))
try:
    loaded.delete([1])
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, refusal, _ = done.stdout.split("\n", 3)
    best = cosines(vectors, queries()).topk(10).indices.tolist()
    assert json.loads(first) == json.loads(second) == best
    assert done.stderr.count("pip install 'simcse-lit[search]'") == 1
    assert "has kind hnsw. Without faiss it can only be searched" in refusal


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_loaded_index_saved_elsewhere_is_whole(kind: str, tmp_path: Path) -> None:
    vectors = torch.randn(600, 16, generator=torch.Generator().manual_seed(0))
    Index.build(vectors, [str(number) for number in range(600)], kind=kind).save(tmp_path / "first")
    Index.load(tmp_path / "first").save(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    hits = Index.load(tmp_path / "second").search(vectors[:5], 1)
    assert [found[0].text for found in hits] == ["0", "1", "2", "3", "4"]
