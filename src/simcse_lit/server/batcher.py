"""Gathers the texts of requests that arrive while the encoder is busy into its next call. One thread owns the encoder.

No request waits for others to come: a batch is what has come by the time that the encoder is free.

Shapes: N texts of one request, H hidden.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread

from torch import Tensor

Request = tuple[list[str], "Future[Tensor]"]


class Busy(Exception):
    """More texts are waiting than may."""


class Batcher:
    """A thread that encodes what is submitted.

    Args:
        encode: texts to vectors, (N, H).
        max_waiting: texts that may wait; more are refused.
    """

    BATCH = 256  # texts from which no further request joins a call

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], max_waiting: int) -> None:
        self._encode = encode
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = Lock()
        self._thread = Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> "Future[Tensor]":
        """The vectors of one or more texts, (N, H), when they are ready.

        Raises:
            Busy: too many are waiting.
        """
        with self._lock:
            if self._waiting and self._waiting + len(texts) > self._max_waiting:
                raise Busy
            self._waiting += len(texts)
        future: Future[Tensor] = Future()
        self._queue.put((list(texts), future))
        return future

    def close(self) -> None:
        """Finish what is waiting, and end."""
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
            # Who has gone away is not encoded for; from here on nobody can.
            if wanted := [request for request in requests if request[1].set_running_or_notify_cancel()]:
                self._answer(wanted)
            with self._lock:
                self._waiting -= sum(len(texts) for texts, _ in requests)

    def _answer(self, requests: list[Request]) -> None:
        try:
            vectors_NH = self._encode([text for texts, _ in requests for text in texts])
        except Exception as error:
            if len(requests) == 1:
                requests[0][1].set_exception(error)
                return
            for request in requests:  # the fault may be of one, and the others are not to suffer
                self._answer([request])
            return
        for (_, future), part_NH in zip(requests, vectors_NH.split([len(texts) for texts, _ in requests]), strict=True):
            future.set_result(part_NH)
