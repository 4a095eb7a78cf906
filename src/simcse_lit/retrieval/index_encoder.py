"""Vectors for an index: of texts, by an encoder that fits the index, or read from a file that `encode` wrote.

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

SAME_MODEL = 0.97  # cosine of a stored vector with that of the same text now: above it in bf16 and in int8 too
COMPARED = 16  # texts, spread evenly over a file, whose vectors are compared with what their encoder makes of them now


class IndexEncoder:
    """Texts to the vectors that an index holds.

    Args:
        config: the encoder and how it encodes; without `checkpoint` it is the one that the index was built with.
        index: what the vectors are for; None for one that is yet to be.

    Raises:
        UserError: no encoder is named, it cannot be loaded, or it is another than the index's.
    """

    def __init__(self, config: EncoderConfig, index: Index | None) -> None:
        source = config.checkpoint or (index.model if index else None)
        if not source:
            raise UserError("checkpoint: has no value, and the index does not say what made its vectors: checkpoint=MODEL")
        self.source = source
        self._loaded = load_encoder(source, **reads(config))
        self._loaded.encoder.to(find_device(config.device))
        self._settings = Settings(config.max_length, config.token_budget, config.precision, normalize=True)
        if index:
            check_encoder(index, self, source)

    def __call__(self, texts: Sequence[str], use: str = "document") -> Tensor:
        """Unit vectors, (N, H), of texts that are searched, or of those that are a `query`."""
        return vectors(self._loaded, texts, self._settings, use=use)


def check_encoder(index: Index, encode: Callable[[list[str]], Tensor], source: str) -> None:
    """Refuse an encoder that gives other vectors than those of the index's first texts.

    Args:
        index: what is to be searched or added to.
        encode: texts to unit vectors, (N, H).
        source: the encoder's name.

    Raises:
        UserError: as above, or the vectors have another width.
    """
    texts, stored_NH = index.first(3)
    now_NH = encode(texts or ["A sentence."])
    built = f" It was built with {index.model}." if index.model and index.model != source else ""
    _check_width(now_NH, index.width, source, "the index", built)
    if not texts:
        return
    cosine = float((now_NH * stored_NH).sum(dim=1).mean())
    if cosine < SAME_MODEL:
        raise UserError(
            f"checkpoint={source}: is not what the index was built with: the same texts have other vectors "
            f"(cosine {cosine:.2f}).{built}"
        )


def encoded_blocks(path: Path, texts: TextFile | None, rows: int, encoder: IndexEncoder | None) -> Iterator[Block]:
    """Vectors that `encode` wrote and their texts, so many rows at a time; Parquet holds its own texts.

    Args:
        path: of the vectors.
        texts: what they were made of; None for Parquet.
        rows: of a block.
        encoder: what made them, which is seen from some of the texts; None if nobody says, and then nothing is compared.

    Raises:
        UserError: the file cannot be read or holds another number of vectors than there are texts, a vector is not what the
            encoder makes of its text, or the texts change meanwhile.
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
    """Refuse vectors, (M, H) of any length, that are not what an encoder makes of the texts of M rows."""
    now_MH = encoder([row.fields[0] for row in rows])
    _check_width(now_MH, width_of(vectors_MH), encoder.source, str(path))
    for row, cosine in zip(rows, torch.cosine_similarity(now_MH, vectors_MH.float()).tolist(), strict=True):
        if cosine < SAME_MODEL:
            raise UserError(
                f"vectors: {path}: {row.file}, line {row.line}: its vector is not what checkpoint={encoder.source} makes of "
                f"its text (cosine {cosine:.2f}).\n"
                "Have the texts changed since they were encoded? Encode them again.\n"
                "Or did another checkpoint, pooler or max_length make the vectors? Name that one."
            )


def _check_width(now_NH: Tensor, width: int, source: str, holder: str, hint: str = "") -> None:
    if now_NH.shape[1] != width:
        raise UserError(
            f"checkpoint={source}: makes vectors of {now_NH.shape[1]} numbers, and {holder} holds such of {width}.{hint}"
        )


def _opened(path: Path, texts: TextFile | None, rows: int) -> tuple[int, Iterator[tuple[Tensor, list[Row]]]]:
    """How many vectors a file holds, and its blocks: vectors, (B, H), and the rows of their texts."""
    with _explained(path):
        if texts is None:
            file = parquet.ParquetFile(path)
            if missing := {"text", "vector"} - set(file.schema_arrow.names):
                raise UserError(f"vectors: {path}: has no column {', '.join(sorted(missing))}; encode writes such a file.")
            return file.metadata.num_rows, _parquet_blocks(path, file, rows)
        if path.suffix == ".npy":
            vectors_NH: Tensor = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        else:
            with safe_open(path, "pt") as tensors:
                vectors_NH = tensors.get_tensor("vectors")
    if len(texts) != len(vectors_NH):
        raise UserError(f"vectors: {path}: holds {len(vectors_NH):,} vectors, and the input {len(texts):,} texts.")
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
