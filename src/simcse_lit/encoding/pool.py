"""A pool of processes that encode in parallel, one for each device. Each loads the encoder itself.

The processes start with the first texts, and end with the program or when the pool is garbage-collected.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simcse_lit.config.network import hub_offline
from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.progress import Bar


class Pool:
    """Processes with one encoder each.

    Args:
        source: as for `load_encoder`.
        reads: the other arguments of `load_encoder`.
        devices: device of each process.
        offline: whether to keep the Hub's client offline.
    """

    PART = 1024  # sentences that a process takes at a time

    def __init__(self, source: str, reads: Mapping[str, Any], devices: Sequence[torch.device], *, offline: bool) -> None:
        context = get_context("spawn")  # a forked process cannot use CUDA
        free: Queue[torch.device] = context.Queue()
        for device in devices:
            free.put(device)
        threads = max(1, (os.cpu_count() or 1) // len(devices))
        self._executor = ProcessPoolExecutor(len(devices), context, _start, (source, dict(reads), free, threads, offline))

    def vectors(self, sentences: Sequence[str], settings: Settings, use: str = "text") -> Tensor:
        """Encode as `texts.vectors` does. Processes take parts of texts of similar length, the longest first.

        Raises:
            UserError: a process died.
        """
        order = sorted(range(len(sentences)), key=lambda place: -len(sentences[place]))
        parts = [order[at : at + self.PART] for at in range(0, len(order), self.PART)]
        texts = ([sentences[place] for place in part] for part in parts)
        found: list[np.ndarray] = []
        try:
            with Bar(total=len(sentences), desc="Encoding", unit=" sentences") as bar:
                for part in self._executor.map(_encode, texts, [settings] * len(parts), [use] * len(parts)):
                    found.append(part)
                    bar.update(len(part))
        except BrokenProcessPool as error:
            raise UserError(
                "An encoding process has died; its output is above. Use fewer devices, or only one.\n"
                'In a script, put the code that runs under: if __name__ == "__main__":'
            ) from error
        vectors_NH = np.empty((len(sentences), found[0].shape[1]), dtype=np.float32)
        vectors_NH[order] = np.concatenate(found)
        return torch.from_numpy(vectors_NH)


_loaded: LoadedEncoder | None = None  # the encoder, in a process of the pool


def _start(source: str, reads: dict[str, Any], free: "Queue[torch.device]", threads: int, offline: bool) -> None:
    global _loaded
    torch.set_num_threads(threads)
    with hub_offline(offline):
        _loaded = load_encoder(source, **reads)
    _loaded.encoder.to(free.get())


def _encode(texts: list[str], settings: Settings, use: str) -> np.ndarray:
    assert _loaded is not None
    return vectors(_loaded, texts, settings, use=use).numpy()
