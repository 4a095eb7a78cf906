"""`SimCSE`: encode, compare, index and search sentences with any encoder, with the methods of the paper's tool.

A script written for that tool runs with another import: `from simcse_lit import SimCSE`.

Shapes: N sentences, Q queries, H hidden.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from simcse_lit.config.network import needs_hub, use_cache_when_unreachable
from simcse_lit.encoder.device import find_device
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.passes import AUTOCAST
from simcse_lit.encoding.pool import Pool
from simcse_lit.encoding.texts import Settings, unencodable, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.retrieval.index import Index
from simcse_lit.text.lines import lines_of

Device: TypeAlias = str | torch.device

LENGTH = 128  # maximum tokens of a sentence in the paper's tool
TOKENS = 64  # `batch_size` counts sentences of this many tokens
CELL = 39  # fewest sentences from which faiss can learn a cell
SHOW_PROGRESS = 1000  # sentences from which a progress bar is shown


class ToolIndex(Index):
    """An index that also has the keys of the paper's tool, whose index is a dictionary."""

    def __getitem__(self, key: str) -> Any:
        """Return the sentences (`sentences`) or their unit vectors, (N, H) (`index`)."""
        texts, vectors_NH = self.first(len(self))
        return {"sentences": texts, "index": vectors_NH.numpy()}[key]


class FirstProjected(nn.Module):
    """Projects the first token, as BERT's pooler does."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden_NLH: Tensor) -> Tensor:
        """Map (N, L, H) to (N, H)."""
        projected_NH: Tensor = self.projection(hidden_NLH[:, 0])
        return projected_NH


class SimCSE:
    """Sentence vectors, similarities and search of the nearest sentences.

    `tokenizer`, `model`, `pooler`, `device`, `index["sentences"]` and `is_faiss_index` are those of the paper's tool.

    Args:
        model_name_or_path: an export of simcse-lit, a Lightning checkpoint, a release of the paper, or a folder or Hub id of
            sentence-transformers or transformers.
        device: `cuda`, `cuda:1`, `cpu`, ...; None for a GPU if there is one. A list (`["cuda:0", "cuda:1"]` or
            `["cpu", "cpu"]`) starts a process for each device, which share large inputs.
        num_cells: cells of an index with `faiss_fast=True`.
        num_cells_in_search: cells that a search visits.
        pooler: pooler of a raw transformers model: `cls` (through its linear layer and tanh, as in the paper's tool),
            `cls_before_pooler`, `avg`, ...; None for the pooler that the model was saved with.
        revision: branch, tag or commit on the Hub.
        precision: `32-true`, `bf16-mixed` or `16-mixed`; None is `32-true`.
        prompt: name of one of the model's prompts, or a text with `{text}`; None for the model's default prompts, of queries
            in `search` and of documents in the index.
        trust_remote_code: run the Python code that the model brings. Read it first.
        truncate_dim: keep only the first numbers of each vector, this many; None for as many as the model records, or all.

    Raises:
        UserError: there is no such model, device or precision, the model's pooler is unknown, its vectors have fewer numbers
            than `truncate_dim`, or the model cannot run in this precision.

    Example:
        >>> model = SimCSE("outputs/first/export")
        >>> model.similarity("A man plays guitar.", "Someone makes music.")
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        device: Device | Sequence[Device] | None = None,
        num_cells: int = 100,
        num_cells_in_search: int = 10,
        pooler: str | None = None,
        *,
        revision: str | None = None,
        precision: str | None = None,
        prompt: str | None = None,
        trust_remote_code: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        source = str(model_name_or_path)
        self._precision = precision or "32-true"
        if self._precision not in AUTOCAST:
            raise UserError(f"precision={precision}: not one of {', '.join(AUTOCAST)}.")
        reads: dict[str, Any] = {
            "revision": revision,
            "pooler": pooler,
            "projection": "mlp" if pooler == "cls" else None,
            "prompt": prompt,
            "truncate_dim": truncate_dim,
            "precision": self._precision,
            "trust_remote_code": trust_remote_code,
        }
        with use_cache_when_unreachable(needs_hub([source])) as offline:
            self._loaded = load_encoder(source, **reads)
        devices = list(device) if isinstance(device, (list, tuple)) else [device or "auto"]
        found = [find_device(str(name)) for name in devices]
        self._loaded.encoder.to(found[0])
        self._pool = Pool(source, reads, found, offline=offline) if len(found) > 1 else None
        self.device = str(found[0])  # default of `encode`; the first of several
        self.tokenizer = self._loaded.tokenizer
        self.num_cells = num_cells
        self.num_cells_in_search = num_cells_in_search
        self.index: ToolIndex | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The transformers model. Its `pooler_output` is the embedding if the encoder is BERT with BERT's projection."""
        encoder = self._loaded.encoder
        if not isinstance(encoder, SentenceEncoder):
            return encoder
        if encoder.stored_as_pooler and encoder.projection is not None:
            encoder.backbone.pooler = FirstProjected(encoder.projection)
        return encoder.backbone

    @property
    def pooler(self) -> str:
        """The pooler, in the tool's words: `cls` is the first token after the projection."""
        unprojected = self._loaded.pooler == "cls" and self._loaded.projection != "mlp"
        return "cls_before_pooler" if unprojected else self._loaded.pooler

    @property
    def is_faiss_index(self) -> bool:
        """Whether the index is approximate and uses faiss. Exact search needs no faiss."""
        return self.index is not None and self.index.config.kind != "exact"

    def encode(
        self,
        sentence: str | Sequence[str],
        device: Device | None = None,
        return_numpy: bool = False,
        normalize_to_unit: bool = True,
        keepdim: bool = False,
        batch_size: int = 64,
        max_length: int = LENGTH,
    ) -> Any:
        """Encode one or several sentences into float32 vectors on the CPU.

        Args:
            sentence: a sentence, or several.
            device: device to use instead of `self.device`.
            return_numpy: return a NumPy array instead of a tensor.
            normalize_to_unit: scale vectors to length 1.
            keepdim: return (1, H) instead of (H,) for a single sentence.
            batch_size: size of a batch, in sentences of 64 tokens. Sentences of similar length share a batch.
            max_length: maximum tokens of a sentence, special tokens included.

        Returns:
            A tensor or an array: (H,) for a string, (N, H) in the given order for several.

        Raises:
            TypeError: an item is not a string.
            ValueError: there are no sentences, or a string is not valid text.

        Example:
            >>> model.encode(["A man plays guitar.", "It is raining."]).shape
            torch.Size([2, 384])
        """
        settings = Settings(max_length, batch_size * TOKENS, self._precision, normalize_to_unit)
        vectors_NH = self._vectors([sentence] if isinstance(sentence, str) else sentence, device, settings, "text")
        found = vectors_NH[0] if isinstance(sentence, str) and not keepdim else vectors_NH
        return found.numpy() if return_numpy else found

    def _vectors(self, texts: Sequence[str], device: Device | None, settings: Settings, use: str) -> Tensor:
        sentences = _checked(texts)
        self._loaded.encoder.to(find_device(str(device or self.device)))
        if self._pool and device is None and len(sentences) > self._pool.PART:
            return self._pool.vectors(sentences, settings, use)
        progress = "Encoding" if len(sentences) >= SHOW_PROGRESS else None
        return vectors(self._loaded, sentences, settings, use=use, progress=progress)

    def _units(self, texts: Sequence[str], device: Device | None, use: str, batch_size: int = 64) -> Tensor:
        """Return vectors of length 1, (N, H), for the sentences of an index or for queries."""
        settings = Settings(LENGTH, batch_size * TOKENS, self._precision, normalize=True)
        return self._vectors(texts, device, settings, use)

    def similarity(
        self, queries: str | Sequence[str], keys: str | Sequence[str] | ndarray, device: Device | None = None
    ) -> float | ndarray:
        """Compute cosine similarities.

        Args:
            queries: a sentence, or several.
            keys: a sentence, several, or vectors, (N, H) or (H,).
            device: as for `encode`.

        Returns:
            A number for two sentences, (N,) for a sentence with several, (Q, N) for several with several.
        """
        query = self.encode(queries, device, return_numpy=True)
        key = keys if isinstance(keys, ndarray) else self.encode(keys, device, return_numpy=True)
        cosines_QN: ndarray = _unit(query) @ _unit(key).T
        if query.ndim > 1:
            return cosines_QN
        return float(cosines_QN[0, 0]) if key.ndim == 1 else cosines_QN[0]

    def build_index(
        self,
        sentences_or_file_path: str | Path | Sequence[str],
        use_faiss: bool | None = None,
        faiss_fast: bool = False,
        device: Device | None = None,
        batch_size: int = 64,
    ) -> None:
        """Index sentences for `search`. An earlier index is replaced when the new one is ready.

        Args:
            sentences_or_file_path: sentences, or the path of a text file with a sentence a line; blank lines are skipped.
            use_faiss: False never uses faiss; exact search never needs it.
            faiss_fast: build an approximate index of `num_cells` cells, which is faster for very many sentences. Few
                sentences are searched exactly.
            device: as for `encode`.
            batch_size: as for `encode`.

        Raises:
            TypeError: as for `encode`.
            ValueError: as for `encode`.
            UserError: the file cannot be read, or holds no sentences.
        """
        sentences = _sentences(sentences_or_file_path)
        vectors_NH = self._units(sentences, device, "document", batch_size)
        cells = min(self.num_cells, len(sentences) // CELL)
        fast = faiss_fast and use_faiss is not False and cells > 1
        kind = {"kind": "ivf", "cells": cells, "probes": min(self.num_cells_in_search, cells)} if fast else {"kind": "exact"}
        self.index = cast(ToolIndex, ToolIndex.build(vectors_NH, sentences, **kind))

    def add_to_index(
        self, sentences_or_file_path: str | Path | Sequence[str], device: Device | None = None, batch_size: int = 64
    ) -> None:
        """Add sentences, or those of a text file, to the index.

        Raises:
            RuntimeError: there is no index yet.
            UserError: the file cannot be read.
        """
        index = self._index()
        sentences = _sentences(sentences_or_file_path)
        index.add(self._units(sentences, device, "document", batch_size), sentences)

    def search(
        self, queries: str | Sequence[str], device: Device | None = None, threshold: float = 0.6, top_k: int = 5
    ) -> Any:
        """Find the most similar sentences of the index.

        Args:
            queries: a sentence, or several.
            device: as for `encode`.
            threshold: lowest cosine similarity of a hit.
            top_k: maximum number of hits for each query.

        Returns:
            [(sentence, cosine), ...] for a string, most similar first; a list of such lists for several.

        Raises:
            RuntimeError: there is no index yet.
        """
        index = self._index()
        queries_QH = self._units([queries] if isinstance(queries, str) else queries, device, "query")
        found = [
            [(hit.text, float(hit.score)) for hit in hits if hit.score >= threshold]
            for hits in index.search(queries_QH, min(top_k, len(index)))
        ]
        return found[0] if isinstance(queries, str) else found

    def _index(self) -> ToolIndex:
        if self.index is None:
            raise RuntimeError("There is no index to search: call build_index(SENTENCES) first.")
        return self.index


def _checked(sentences: Sequence[str]) -> list[str]:
    if isinstance(sentences, (bytes, dict)) or not hasattr(sentences, "__iter__"):
        raise TypeError(f"sentence: must be a string or a list of strings, not a {type(sentences).__name__}.")
    texts = list(sentences)
    if not texts:
        raise ValueError("sentence: the list is empty. Give at least one sentence.")
    for place, text in enumerate(texts):
        if reason := unencodable(text):
            raise (ValueError if isinstance(text, str) else TypeError)(f"sentence[{place}]: {reason}.")
    return [str(text) for text in texts]  # NumPy strings become str


def _sentences(sentences_or_file_path: str | Path | Sequence[str]) -> list[str]:
    """Return the sentences themselves, or the lines of a file that are not blank."""
    if not isinstance(sentences_or_file_path, (str, Path)):
        return _checked(sentences_or_file_path)
    path = Path(sentences_or_file_path).expanduser()
    sentences = [line.rstrip() for line in lines_of(path, f"sentences_or_file_path: {path}") if line.strip()]
    if not sentences:
        raise UserError(f"sentences_or_file_path: {path}: holds no sentences.")
    return sentences


def _unit(vectors: ndarray) -> ndarray:
    rows = np.atleast_2d(vectors)
    unit: ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
    return unit
