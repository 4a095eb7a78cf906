"""Build an index of sentences, add to it, delete from it.

Examples:
  simcse-lit index folder=INDEX input=sentences.txt checkpoint=MODEL index=hnsw
  simcse-lit index folder=INDEX vectors=vectors.parquet index=pq
  simcse-lit index folder=INDEX add=more.txt
  simcse-lit index folder=INDEX delete=3,17
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("index")

import logging
from collections.abc import Iterator
from pathlib import Path

from simcse_lit.config.checks.index import is_index
from simcse_lit.config.folders import check_free
from simcse_lit.config.schema import BuildIndexConfig
from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.progress import Bar
from simcse_lit.reporting.run.console import quiet_libraries
from simcse_lit.retrieval.index import Block, Index
from simcse_lit.retrieval.index_encoder import IndexEncoder, encoded_blocks
from simcse_lit.retrieval.index_folder import check_is_index, writing

log = logging.getLogger(__name__)


def main(config: BuildIndexConfig) -> None:
    """Build an index block by block, or change one, under a lock on its folder.

    Raises:
        UserError: the input, the encoder or the folder cannot be used, or another process is writing there.
    """
    quiet_libraries()
    folder = Path(str(config.folder)).expanduser()
    builds = bool(config.input or config.vectors)
    anew = config.input is not None and Path(config.input).expanduser().resolve() == folder.resolve()
    if not builds:
        check_is_index(folder)
    with writing(folder):
        if builds and not anew:
            check_free(folder, "folder", "index")
        index = _build(config, folder) if builds else _change(config, folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    log.info(
        "%s: %s sentences, vectors of %d numbers, %s, %.1f MiB",
        *(folder, f"{len(index):,}", index.width, index.config.kind, size),
    )
    if builds and index.recall is not None:
        log.info("recall@10 %.3f against exact search, on %s", index.recall["recall@10"], index.recall["queries"])
        if index.recall["recall@10"] < (index.config.recall_goal or 0):
            log.warning("Even the broadest search stays below index.recall_goal=%g.", index.config.recall_goal)


def _build(config: BuildIndexConfig, folder: Path) -> Index:
    """Build the index from a file of vectors, from another index, or from texts."""
    model, truncate_dim = config.checkpoint, None
    if config.vectors:
        path = Path(config.vectors).expanduser()
        if not path.is_file():
            raise UserError(f"vectors: {config.vectors}: there is no such file in {path.absolute().parent}.")
        texts = TextFile(config.input, config.column, key="input", on_bad_row=config.on_bad_row) if config.input else None
        encoder = IndexEncoder(config, None) if config.checkpoint else None
        blocks = encoded_blocks(path, texts, config.block, encoder)
        truncate_dim = encoder.truncate_dim if encoder else None
    elif is_index(str(config.input)):
        other = Index.load(Path(str(config.input)).expanduser())
        blocks, model, truncate_dim = other.blocks(), other.model, other.truncate_dim
    else:
        encoder = IndexEncoder(config, None)
        blocks, truncate_dim = _encode(config, str(config.input), encoder, "input"), encoder.truncate_dim
    return Index.build_in(folder, blocks, config.index, model=model, truncate_dim=truncate_dim)


def _change(config: BuildIndexConfig, folder: Path) -> Index:
    """Delete from an index, then add to it."""
    index = Index.load(folder)
    if config.delete:
        found = index.delete(config.delete)
        log.info(
            "Deleted %s of %s ids. Their rows stay in the files until the index is built again: input=FOLDER.",
            *(f"{found:,}", f"{len(config.delete):,}"),
        )
    if config.add:
        for vectors_BH, added, _ in _encode(config, config.add, IndexEncoder(config, index), "add"):
            index.add(vectors_BH, added)
    index.save(folder)
    return index


def _encode(config: BuildIndexConfig, location: str, encoder: IndexEncoder, key: str) -> Iterator[Block]:
    """Yield the texts of a file and their vectors, block by block."""
    file = TextFile(location, config.column, key=key, on_bad_row=config.on_bad_row)
    with Bar(total=len(file), desc="Encoding", unit=" lines") as bar:
        for rows in file.blocks(config.block):
            texts = [row.fields[0] for row in rows]
            yield encoder(texts), texts, None
            bar.update(len(texts))
