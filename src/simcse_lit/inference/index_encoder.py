"""What an index is fed with: the texts of a file by an encoder that fits it, or vectors that `encode` wrote.

Called by the commands `index` and `search`; the server checks its encoder here too.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from simcse_lit.config.schema import EncoderConfig
from simcse_lit.config.use import reads
from simcse_lit.errors import UserError
from simcse_lit.inference.device import find_device
from simcse_lit.inference.files import TextFile
from simcse_lit.inference.index import Block, Index
from simcse_lit.inference.loading import load_encoder
from simcse_lit.inference.vectors import Settings, vectors

SAME_MODEL = 0.97  # cosine of a stored vector with that of the same text now: above it in bf16 and in int8 too


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
        self._loaded = load_encoder(source, **reads(config))
        self._loaded.encoder.to(find_device(config.device))
        self._settings = Settings(config.max_length, config.token_budget, config.precision, normalize=True)
        if index:
            check_encoder(index, self, source)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, (N, H)."""
        return vectors(self._loaded, texts, self._settings)


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
    if now_NH.shape[1] != index.width:
        raise UserError(
            f"checkpoint={source}: makes vectors of {now_NH.shape[1]} numbers, and the index holds such of "
            f"{index.width}.{built}"
        )
    if not texts:
        return
    cosine = float((now_NH * stored_NH).sum(dim=1).mean())
    if cosine < SAME_MODEL:
        raise UserError(
            f"checkpoint={source}: is not what the index was built with: the same texts have other vectors "
            f"(cosine {cosine:.2f}).{built}"
        )


def encoded_blocks(path: Path, texts: TextFile | None, rows: int) -> Iterator[Block]:
    """Vectors that `encode` wrote and their texts, so many rows at a time; Parquet holds its own texts.

    Raises:
        UserError: the file cannot be read, or holds another number of vectors than there are texts.
    """
    try:
        if texts is None:
            yield from _parquet_blocks(path, rows)
            return
        if path.suffix == ".npy":
            vectors_NH: Tensor = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        else:
            with safe_open(path, "pt") as file:
                vectors_NH = file.get_tensor("vectors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"vectors: {path}: cannot be read: {str(error).splitlines()[0]}") from error
    if len(texts) != len(vectors_NH):
        raise UserError(f"vectors: {path}: holds {len(vectors_NH):,} vectors, and the input {len(texts):,} texts.")
    remaining = texts.texts()
    for start in range(0, len(texts), rows):
        vectors_BH = vectors_NH[start : start + rows]
        yield vectors_BH, list(islice(remaining, len(vectors_BH))), None


def _parquet_blocks(path: Path, rows: int) -> Iterator[Block]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    if missing := {"text", "vector"} - set(file.schema_arrow.names):
        raise UserError(f"vectors: {path}: has no column {', '.join(sorted(missing))}; encode writes such a file.")
    for batch in file.iter_batches(rows, columns=["text", "vector"]):
        vectors_BH = torch.from_numpy(batch.column("vector").flatten().to_numpy(zero_copy_only=False).copy())
        yield vectors_BH.view(batch.num_rows, -1), batch.column("text").to_pylist(), None
