"""Holds what the server serves: an encoder behind its batcher, and an index that an upload replaces. HTTP is in `app.py`."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from threading import Lock, Thread
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.retrieval.index import Index
from simcse_lit.retrieval.index_encoder import check_encoder
from simcse_lit.server.batcher import Batcher, Busy, Text

log = logging.getLogger(__name__)

BLOCK = 64  # texts of a corpus that are encoded at a time; searches run in between


@dataclass(frozen=True)
class Progress:
    """Progress of the corpus.

    Args:
        state: empty, encoding, ready or failed.
        name: file or folder of the corpus.
        done: number of encoded sentences.
        total: number of all sentences.
        error: why encoding failed.
    """

    state: str = "empty"
    name: str | None = None
    done: int = 0
    total: int = 0
    error: str | None = None


class Service:
    """An encoder and an index.

    Args:
        loaded: the encoder, on its device.
        settings: how to encode, with `normalize=False`.
        max_waiting: maximum number of texts that may wait for the encoder.
    """

    def __init__(self, loaded: LoadedEncoder, settings: Settings, max_waiting: int) -> None:
        self.loaded = loaded
        self.batcher = Batcher(self._vectors, max_waiting)
        self.index: Index | None = None
        self.progress = Progress()
        self._settings = settings
        self._lock = Lock()
        self.width = self.batcher.submit(["A sentence."]).result().shape[1]

    def use_index(self, index: Index, name: str) -> None:
        """Search a saved index from now on.

        Raises:
            UserError: the index was built with another encoder.
        """
        check_encoder(index, lambda texts: F.normalize(self._patiently(texts, "document"), dim=-1), self.loaded.source)
        self.index = index
        self.progress = Progress("ready", name, len(index), len(index))

    def use_corpus(self, texts: Sequence[str], name: str) -> bool:
        """Encode a corpus in the background. Searches use the old index until the new one is ready.

        Returns:
            Whether encoding has started; False while another corpus is being encoded.
        """
        with self._lock:
            if self.progress.state == "encoding":
                return False
            self.progress = Progress("encoding", name, 0, len(texts))
        Thread(target=self._index, args=(list(texts), name), name="corpus", daemon=True).start()
        return True

    def about(self) -> dict[str, Any]:
        """Describe the encoder, the index and the progress of the corpus, as JSON values."""
        return {
            "model": self.loaded.source,
            "kind": self.loaded.kind,
            "pooler": self.loaded.pooler,
            "dimension": self.width,
            "device": str(self.loaded.encoder.device),
            "sentences": len(self.index) if self.index is not None else 0,
            "corpus": asdict(self.progress),
        }

    def _index(self, texts: list[str], name: str) -> None:
        rest = iter(texts)
        parts: list[Tensor] = []
        done = 0
        try:
            while block := list(islice(rest, BLOCK)):
                parts.append(self._patiently(block, "document"))
                done += len(block)
                self.progress = Progress("encoding", name, done, len(texts))
            index = Index.build(torch.cat(parts), texts, model=self.loaded.source)
        except Exception as error:
            log.exception("The corpus %s could not be indexed.", name)
            self.progress = Progress("failed", name, done, len(texts), str(error) or type(error).__name__)
            return
        self.index = index
        self.progress = Progress("ready", name, done, done)

    def _patiently(self, texts: list[str], use: str) -> Tensor:
        """Encode texts for the server itself, waiting where a request would be refused as `Busy`."""
        while True:
            try:
                return self.batcher.submit(texts, use).result()
            except Busy:
                time.sleep(0.05)

    def _vectors(self, texts: Sequence[Text]) -> Tensor:
        """Return the vectors, (N, H), of texts for several uses."""
        places = {use: [place for place, (_, each) in enumerate(texts) if each == use] for use in {use for _, use in texts}}
        with torch.inference_mode():
            found = {
                use: vectors(self.loaded, [texts[place][0] for place in of_use], self._settings, use=use)
                for use, of_use in places.items()
            }
        order = torch.tensor([place for of_use in places.values() for place in of_use])
        return torch.cat(list(found.values()))[order.argsort()]
