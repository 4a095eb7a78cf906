"""Encodes the texts of several requests in one call. One thread owns the encoder.

Requests that arrive while the encoder is busy share its next call. No request waits for others to arrive.

Shapes: N texts of one request, H hidden.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread

from torch import Tensor

Text = tuple[str, str]  # text and its use (`text/prompts.py`)
Request = tuple[list[Text], "Future[Tensor]"]


class Busy(Exception):
    """Too many texts are waiting."""


class Batcher:
    """A thread that encodes submitted texts.

    Args:
        encode: maps N texts, each with its use, to vectors, (N, H).
        max_waiting: maximum number of texts that may wait. A request beyond it is refused, unless nothing else waits.
    """

    BATCH = 256  # texts in a call after which no further request joins

    def __init__(self, encode: Callable[[Sequence[Text]], Tensor], max_waiting: int) -> None:
        self._encode = encode
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = Lock()
        self._thread = Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str], use: str = "text") -> "Future[Tensor]":
        """Queue one or more texts for one use.

        Returns:
            Their vectors, (N, H), when they are ready.

        Raises:
            Busy: too many texts are waiting.
        """
        with self._lock:
            if self._waiting and self._waiting + len(texts) > self._max_waiting:
                raise Busy
            self._waiting += len(texts)
        future: Future[Tensor] = Future()
        self._queue.put(([(text, use) for text in texts], future))
        return future

    def close(self) -> None:
        """Encode the texts that are waiting, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            requests = [first]
            while sum(len(texts) for texts, _ in requests) < self.BATCH:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._queue.put(None)  # for the outer loop
                    break
                requests.append(following)
            wanted = []
            for texts, future in requests:
                if future.set_running_or_notify_cancel():  # from here on it cannot be cancelled
                    wanted.append((texts, future))
                else:
                    self._wait_no_more(texts)
            if wanted:
                self._answer(wanted)

    def _answer(self, requests: list[Request]) -> None:
        try:
            vectors_NH = self._encode([text for texts, _ in requests for text in texts])
        except Exception as error:
            if len(requests) == 1:
                self._wait_no_more(requests[0][0])
                requests[0][1].set_exception(error)
                return
            for request in requests:  # one request may be at fault; answer the others
                self._answer([request])
            return
        for (texts, future), part_NH in zip(requests, vectors_NH.split([len(texts) for texts, _ in requests]), strict=True):
            self._wait_no_more(texts)
            future.set_result(part_NH)

    def _wait_no_more(self, texts: list[Text]) -> None:
        # Before the answer: who has it may ask again at once, and must not be refused for texts that are done.
        with self._lock:
            self._waiting -= len(texts)
