"""Print the sentences of an index most similar to a query.

Examples:
  simcse-lit search folder=INDEX query="a man plays guitar" top_k=10
  simcse-lit search folder=INDEX input=queries.txt output=jsonl threshold=0.6
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("search")

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from simcse_lit.config.checks.encode import STDIN
from simcse_lit.config.schema import SearchConfig
from simcse_lit.encoding.input import TextFile
from simcse_lit.reporting.run.console import quiet_libraries
from simcse_lit.retrieval.index import Hit, Index
from simcse_lit.retrieval.index_encoder import IndexEncoder

BLOCK = 1024  # queries that are encoded and searched at a time


def main(config: SearchConfig) -> None:
    """Print the hits of each query, as a table or as JSON lines."""
    quiet_libraries()
    for query, hits in search(config):
        if config.output == "jsonl":
            found = [{"id": hit.id, "score": round(hit.score, 6), "text": hit.text} for hit in hits]
            print(json.dumps({"query": query, "hits": found}, ensure_ascii=False), flush=True)
        else:
            print(query)
            for hit in hits:
                print(f"  {hit.score:6.3f}  {hit.id:>9}  {hit.text}")
            print("" if hits else f"  no sentence with a cosine of {config.threshold:g} or more\n", flush=True)


def search(config: SearchConfig) -> Iterator[tuple[str, list[Hit]]]:
    """Yield each query with its hits, most similar first.

    Raises:
        UserError: the index, the encoder or the queries cannot be used.
    """
    queries = _queries(config)
    index = Index.load(Path(str(config.folder)).expanduser())
    encoder = IndexEncoder(config, index)
    size = 1 if config.input == STDIN else BLOCK  # whoever pipes queries may wait for each answer
    while block := list(islice(queries, size)):
        for query, hits in zip(block, index.search(encoder(block, "query"), config.top_k), strict=True):
            yield query, [hit for hit in hits if hit.score >= config.threshold]


def _queries(config: SearchConfig) -> Iterator[str]:
    if config.query is not None:
        return iter([config.query])
    if config.input == STDIN:
        return (line for line in map(str.strip, sys.stdin) if line)
    return TextFile(str(config.input), config.column, key="input").texts()
