"""Keeps the vectors of an encoder on disk, so that a later evaluation encodes only new sentences.

Each encoder has one safetensors file, named by a digest of everything that decides its vectors; see `fingerprint`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from simcse_lit.disk import discard, durable_replace
from simcse_lit.encoder.denoising import RECORDED as DENOISING
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.formats.loading import LoadedEncoder

DIGEST_BYTES = 16


class EmbeddingCache:
    """Vectors by sentence for one encoder.

    Args:
        folder: folder of the file; created if needed.
        loaded: the encoder.
        max_length: maximum tokens of a sentence.
        precision: precision of the encoder pass.

    Raises:
        UserError: the folder cannot be created, or its file is damaged.
    """

    def __init__(self, folder: Path, loaded: LoadedEncoder, *, max_length: int, precision: str) -> None:
        self._path = folder / f"embeddings-{fingerprint(loaded, max_length, precision)[:24]}.safetensors"
        self._known: dict[bytes, Tensor] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"embedding_cache={folder}: cannot be created: {error.strerror or error}.") from error
        try:
            if self._path.is_file():
                saved = load_file(self._path)
                digests = saved["digests"].numpy().tobytes()
                cut = range(0, len(digests), DIGEST_BYTES)
                self._known = dict(zip((digests[at : at + DIGEST_BYTES] for at in cut), saved["vectors"], strict=True))
        except (SafetensorError, KeyError, OSError) as error:
            raise UserError(f"embedding_cache: {self._path}: cannot be read: {error}. Remove the file.") from error

    def fill(self, embeddings: Embeddings, sentences: Sequence[str]) -> list[int]:
        """Add the known vectors to `embeddings`, and return the places of the other sentences."""
        digests = list(map(_digest, sentences))
        known = [place for place, digest in enumerate(digests) if digest in self._known]
        if known:
            embeddings.add(torch.tensor(known), torch.stack([self._known[digests[place]] for place in known]))
        return [place for place, digest in enumerate(digests) if digest not in self._known]

    def put(self, sentences: Sequence[str], vectors_NH: Tensor) -> None:
        """Add vectors and rewrite the file. The old file stays until the new one is complete, even after a power cut.

        Raises:
            UserError: the file cannot be written.
        """
        self._known |= zip(map(_digest, sentences), vectors_NH, strict=True)
        digests = torch.frombuffer(bytearray(b"".join(self._known)), dtype=torch.uint8).reshape(-1, DIGEST_BYTES)
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        try:
            save_file({"digests": digests, "vectors": torch.stack(list(self._known.values()))}, partial)
            durable_replace(partial, self._path)
        except (OSError, SafetensorError) as error:  # safetensors wraps errors of the disk
            raise UserError(f"embedding_cache={self._path.parent}: cannot be written: {error}.") from error
        finally:
            discard(partial)


def _digest(sentence: str) -> bytes:
    return hashlib.sha256(sentence.encode()).digest()[:DIGEST_BYTES]


def fingerprint(loaded: LoadedEncoder, max_length: int, precision: str) -> str:
    """Return a digest of everything that decides an encoder's vectors, except batches and devices.

    It covers weights, pooler, projection, denoising, `truncate_dim`, prompt, tokenizer, length and precision.
    """
    # Every call of the tokenizer sets padding and truncation, so they hold the settings of the last call.
    tokenizer = {**json.loads(loaded.tokenizer.backend_tokenizer.to_str()), "padding": None, "truncation": None}
    reads = (loaded.kind, loaded.pooler, loaded.projection, loaded.prompts.of("text") or "", str(max_length), precision)
    record = loaded.encoder.record() if isinstance(loaded.encoder, SentenceEncoder) else {}
    made_with = [json.dumps(record[key], sort_keys=True) for key in ("parts", DENOISING) if key in record]
    size = loaded.encoder.truncate_dim
    made_with += [] if size is None else [f"truncate_dim={size}"]
    digest = hashlib.sha256("\0".join((*reads, json.dumps(tokenizer), *made_with)).encode())
    for name, tensor in loaded.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
