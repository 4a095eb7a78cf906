"""Vectors for an index: from an encoder that fits the index, or from a file that `encode` wrote.

Shapes: N texts, B of a block, M of them, H hidden.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet
from safetensors import SafetensorError, safe_open
from torch import Tensor

from simcse_lit.config.checks.encode import reads
from simcse_lit.config.schema import EncoderConfig
from simcse_lit.encoder.device import find_device
from simcse_lit.encoding.input import TextFile
from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.retrieval.index import Block, Index
from simcse_lit.retrieval.segments import width_of
from simcse_lit.text.rows import Row

SAME_MODEL = 0.97  # least cosine of a stored vector with a new one of the same text; bf16 and int8 stay above it
COMPARED = 16  # texts, spread evenly over a file, whose stored vectors are compared with new ones


class IndexEncoder:
    """Encodes texts for an index.

    Args:
        config: the encoder and its settings. Without `checkpoint` it is the encoder that the index was built with.
        index: the index that the vectors are for; None for an index that does not exist yet.

    Raises:
        UserError: no encoder is named, it cannot be loaded, or the index was built with another one.
    """

    def __init__(self, config: EncoderConfig, index: Index | None) -> None:
        source = config.checkpoint or (index.model if index else None)
        if not source:
            raise UserError(
                "checkpoint: has no value, and the index does not record what made its vectors. Name it: checkpoint=MODEL"
            )
        self.source = source
        arguments = reads(config)
        if index and not config.checkpoint and config.truncate_dim is None:
            arguments["truncate_dim"] = index.truncate_dim
        self._loaded = load_encoder(source, **arguments)
        self._loaded.encoder.to(find_device(config.device))
        self.truncate_dim = self._loaded.encoder.truncate_dim
        self._settings = Settings(config.max_length, config.token_budget, config.precision, normalize=True)
        if index:
            check_encoder(index, self, source)

    def __call__(self, texts: Sequence[str], use: str = "document") -> Tensor:
        """Encode texts as unit vectors, (N, H). `use` is `document` for texts that are searched, or `query`."""
        return vectors(self._loaded, texts, self._settings, use=use)


def check_encoder(index: Index, encode: Callable[[list[str]], Tensor], source: str) -> None:
    """Check that an encoder gives the vectors that an index stores for its first texts.

    Args:
        index: the index to search or to add to.
        encode: turns texts into unit vectors, (N, H).
        source: the name of the encoder.

    Raises:
        UserError: the encoder gives other vectors, or vectors of another width.
    """
    texts, stored_NH = index.first(3)
    now_NH = encode(texts or ["A sentence."])
    built = f" It was built with {index.model}." if index.model and index.model != source else ""
    if index.width != now_NH.shape[1] and index.truncate_dim:
        built += f" It was built with truncate_dim={index.truncate_dim}."
    _check_width(now_NH, index.width, source, "the index", built)
    if not texts:
        return
    cosine = float((now_NH * stored_NH).sum(dim=1).mean())
    if cosine < SAME_MODEL:
        raise UserError(
            f"checkpoint={source}: did not make this index: it gives other vectors for the same texts "
            f"(cosine {cosine:.2f}).{built}"
        )


def encoded_blocks(path: Path, texts: TextFile | None, rows: int, encoder: IndexEncoder | None) -> Iterator[Block]:
    """Yield vectors that `encode` wrote and their texts, block by block.

    Args:
        path: the file of the vectors.
        texts: the texts that were encoded; None for Parquet, which holds its texts.
        rows: rows of a block.
        encoder: the encoder that made the vectors. Some texts are encoded again and compared. None compares nothing.

    Raises:
        UserError: the file cannot be read, the numbers of vectors and texts differ, a vector is not what the encoder makes
            of its text, or the texts change meanwhile.
    """
    count, stored = _opened(path, texts, rows)
    compared = np.linspace(0, count - 1, min(count, COMPARED)).round().astype(int).tolist() if encoder else []
    start = 0
    for vectors_BH, block in stored:
        here = [place - start for place in compared if start <= place < start + len(block)]
        if encoder and here:
            _check_vectors(path, vectors_BH[here], [block[place] for place in here], encoder)
        yield vectors_BH, [row.fields[0] for row in block], None
        start += len(block)


def _check_vectors(path: Path, vectors_MH: Tensor, rows: Sequence[Row], encoder: IndexEncoder) -> None:
    """Check that vectors, (M, H) of any length, are what an encoder makes of the texts of M rows."""
    now_MH = encoder([row.fields[0] for row in rows])
    _check_width(now_MH, width_of(vectors_MH), encoder.source, str(path))
    for row, cosine in zip(rows, torch.cosine_similarity(now_MH, vectors_MH.float()).tolist(), strict=True):
        if cosine < SAME_MODEL:
            raise UserError(
                f"vectors: {path}: {row.file}, line {row.line}: its vector is not what checkpoint={encoder.source} makes of "
                f"its text (cosine {cosine:.2f}).\n"
                "If the texts have changed since they were encoded, encode them again.\n"
                "If another checkpoint, pooler or max_length made the vectors, name it."
            )


def _check_width(now_NH: Tensor, width: int, source: str, holder: str, hint: str = "") -> None:
    if now_NH.shape[1] != width:
        raise UserError(
            f"checkpoint={source}: makes vectors of width {now_NH.shape[1]}, "
            f"and {holder} holds vectors of width {width}.{hint}"
        )


def _opened(path: Path, texts: TextFile | None, rows: int) -> tuple[int, Iterator[tuple[Tensor, list[Row]]]]:
    """Return the number of vectors in a file, and its blocks: vectors, (B, H), and the rows of their texts."""
    with _explained(path):
        if texts is None:
            file = parquet.ParquetFile(path)
            if missing := {"text", "vector"} - set(file.schema_arrow.names):
                raise UserError(
                    f"vectors: {path}: has no column {', '.join(sorted(missing))}. Name a file that encode wrote."
                )
            return file.metadata.num_rows, _parquet_blocks(path, file, rows)
        if path.suffix == ".npy":
            vectors_NH: Tensor = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        else:
            with safe_open(path, "pt") as tensors:
                vectors_NH = tensors.get_tensor("vectors")
    if len(texts) != len(vectors_NH):
        raise UserError(f"vectors: {path}: holds {len(vectors_NH):,} vectors, and the input holds {len(texts):,} texts.")
    return len(texts), zip(vectors_NH.split(rows), texts.blocks(rows), strict=True)


def _parquet_blocks(path: Path, file: Any, rows: int) -> Iterator[tuple[Tensor, list[Row]]]:
    line = 0
    with _explained(path):
        for batch in file.iter_batches(rows, columns=["text", "vector"]):
            vectors_BH = torch.from_numpy(batch.column("vector").flatten().to_numpy(zero_copy_only=False).copy())
            texts = batch.column("text").to_pylist()
            block = [Row(line + at, (text,), path.name) for at, text in enumerate(texts, start=1)]
            yield vectors_BH.view(len(texts), -1), block
            line += len(texts)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"vectors: {path}: cannot be read: {str(error).splitlines()[0]}") from error
