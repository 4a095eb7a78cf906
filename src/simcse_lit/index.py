"""python -m simcse_lit.index: compose `conf/index.yaml`; build an index of sentences, add to it, delete from it.

Torch is imported inside `index`, once the configuration has been found right.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.index import is_index, validate_index
from simcse_lit.config.network import files_need_hub, models_need_hub, use_cache_when_unreachable
from simcse_lit.config.schema import BuildIndexConfig
from simcse_lit.errors import UserError

if TYPE_CHECKING:
    from simcse_lit.retrieval.index import Block
    from simcse_lit.retrieval.index_encoder import IndexEncoder

# Paths, which may hold what means something to Hydra.
TEXTS = ("checkpoint", "folder", "input", "vectors", "add", "column")
# Where a comma between values means a list.
LISTS = ("delete",)


def main(composed: DictConfig) -> None:
    """Build or change the index that a composed configuration names."""
    config = validate_index(composed)
    files = files_need_hub([config.input, config.add])
    use_cache_when_unreachable(models_need_hub([config.checkpoint] if config.checkpoint else []) or files)
    index(config)


def index(config: BuildIndexConfig) -> None:
    """Build an index, block by block, or add to one and delete from it; nobody else writes to its folder meanwhile.

    Raises:
        UserError: the input, the encoder or the folder cannot be used, or another is writing there.
    """
    from simcse_lit.reporting.run.console import quiet_libraries
    from simcse_lit.retrieval.index_folder import check_is_index, writing

    quiet_libraries()
    folder = Path(str(config.folder)).expanduser()
    if not (config.input or config.vectors):
        check_is_index(folder)
    with writing(folder):
        _build_or_change(config, folder)


def _build_or_change(config: BuildIndexConfig, folder: Path) -> None:
    from simcse_lit.encoding.input import TextFile
    from simcse_lit.reporting.run.console import log
    from simcse_lit.retrieval.index import Index
    from simcse_lit.retrieval.index_encoder import IndexEncoder, encoded_blocks

    if config.input or config.vectors:
        model = config.checkpoint
        if config.vectors:
            path = Path(config.vectors).expanduser()
            if not path.is_file():
                raise UserError(f"vectors: {config.vectors}: there is no such file (looked in {path.absolute().parent}).")
            texts = (
                TextFile(config.input, config.column, key="input", on_bad_row=config.on_bad_row) if config.input else None
            )
            blocks = encoded_blocks(path, texts, config.block, IndexEncoder(config, None) if config.checkpoint else None)
        elif is_index(str(config.input)):
            other = Index.load(Path(str(config.input)).expanduser())
            blocks, model = other.blocks(), other.model
        else:
            blocks = _encode(config, str(config.input), IndexEncoder(config, None), "input")
        built = Index.build_in(folder, blocks, config.index, model=model)
    else:
        built = Index.load(folder)
        if config.delete:
            found = built.delete(config.delete)
            log.info("Deleted %s of %s ids; their rows stay in the files until the index is built anew.",
                     f"{found:,}", f"{len(config.delete):,}")  # fmt: skip
        if config.add:
            for vectors_BH, added, _ in _encode(config, config.add, IndexEncoder(config, built), "add"):
                built.add(vectors_BH, added)
        built.save(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    log.info("%s: %s sentences, %d numbers a vector, %s, %.1f MiB", folder, f"{len(built):,}", built.width,
             built.config.kind, size)  # fmt: skip
    if built.recall is not None and not config.add and not config.delete:
        log.info("recall@10 %.3f against exact search, on %s", built.recall["recall@10"], built.recall["queries"])
        if built.recall["recall@10"] < (built.config.recall_goal or 0):
            log.warning("That is below index.recall_goal=%g, however broad the search.", built.config.recall_goal)


def _encode(config: BuildIndexConfig, location: str, encoder: "IndexEncoder", key: str) -> "Iterator[Block]":
    """The texts of a file and their vectors, block by block."""
    from tqdm import tqdm

    from simcse_lit.encoding.input import TextFile

    file = TextFile(location, config.column, key=key, on_bad_row=config.on_bad_row)
    with tqdm(total=len(file), desc="Encoding", unit=" lines", ncols=78, leave=False, delay=0.5) as bar:
        for rows in file.blocks(config.block):
            texts = [row.fields[0] for row in rows]
            yield encoder(texts), texts, None
            bar.update(len(texts))


if __name__ == "__main__":
    run(main, "index", lists=LISTS, texts=TEXTS)
