"""python -m simcse_lit.search: compose `conf/search.yaml`, print the sentences of an index most similar to each query.

Torch is imported inside `search`, once the configuration has been found right.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.encode import STDIN
from simcse_lit.config.checks.index import validate_search
from simcse_lit.config.network import files_need_hub, models_need_hub, use_cache_when_unreachable
from simcse_lit.config.schema import SearchConfig

if TYPE_CHECKING:
    from simcse_lit.retrieval.index import Hit

# Values that are taken as they stand, whatever they would mean to Hydra.
TEXTS = ("checkpoint", "folder", "query", "input", "column")
BLOCK = 1024  # queries that are encoded and searched at a time


def main(composed: DictConfig) -> None:
    """Print what a composed configuration asks for, query by query."""
    import json

    config = validate_search(composed)
    files = files_need_hub([config.input])
    use_cache_when_unreachable(models_need_hub([config.checkpoint] if config.checkpoint else []) or files)
    for query, hits in search(config):
        if config.output == "jsonl":
            found = [{"id": hit.id, "score": round(hit.score, 6), "text": hit.text} for hit in hits]
            print(json.dumps({"query": query, "hits": found}, ensure_ascii=False), flush=True)
        else:
            print(query)
            for hit in hits:
                print(f"  {hit.score:6.3f}  {hit.id:>9}  {hit.text}")
            print("" if hits else f"  nothing of cosine {config.threshold:g} or more\n", flush=True)


def search(config: SearchConfig) -> "Iterator[tuple[str, list[Hit]]]":
    """Each query with its hits, most similar first.

    Raises:
        UserError: the index, the encoder or the queries cannot be used.
    """
    from itertools import islice

    from simcse_lit.encoding.input import TextFile
    from simcse_lit.reporting.run.console import quiet_libraries
    from simcse_lit.retrieval.index import Index
    from simcse_lit.retrieval.index_encoder import IndexEncoder

    quiet_libraries()
    queries: Iterator[str]
    if config.query is not None:
        queries = iter([config.query])
    elif config.input == STDIN:
        queries = _stdin()
    else:
        queries = TextFile(str(config.input), config.column, key="input").texts()
    index = Index.load(Path(str(config.folder)).expanduser())
    encoder = IndexEncoder(config, index)
    size = 1 if config.input == STDIN else BLOCK  # a person, or a program, waits for the answer before asking on
    while block := list(islice(queries, size)):
        for query, hits in zip(block, index.search(encoder(block), config.top_k), strict=True):
            yield query, [hit for hit in hits if hit.score >= config.threshold]


def _stdin() -> Iterator[str]:
    import sys

    return (line for line in map(str.strip, sys.stdin) if line)


if __name__ == "__main__":
    run(main, "search", texts=TEXTS)
