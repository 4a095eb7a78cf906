"""Work that the processes of one run share, and its results, which each of them gets.

They meet at the store that torch.distributed uses too. Unlike a collective operation, a meeting needs no process group, and
waits for as long as the slowest process works: the time limit of a process group is for steps of training.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, TypeVar

from simcse_lit.errors import UserError
from simcse_lit.launch.environment import SHELLS, processes, rank

log = logging.getLogger(__name__)

V = TypeVar("V")

PAUSE_S = 0.5  # at most, between two looks
SAY_S = 300.0  # a line about those that are waited for
LATE_S = 20.0  # until a line says that others have not come at all
READ_S = 60.0  # that rank 0, with which the store may end, stays for the others to read
LIMIT_S = 24 * 3600.0  # of a process that was killed nobody hears

_turns = count()


def together(work: Callable[[], V]) -> list[V]:
    """Let every process of the run do its work, and give each the results of all, in the order of ranks.

    Args:
        work: returns what JSON can hold.

    Raises:
        UserError: the work of another process failed, or the processes do not find each other.
    """
    place, size = rank() or 0, processes()
    if size == 1:
        return [work()]
    store = _store(place, size)
    turn = f"simcse_lit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_turns)}"
    try:
        done = {"value": work()}
    except BaseException as error:
        with suppress(RuntimeError):
            store.set(f"{turn}/{place}", json.dumps({"error": str(error) or type(error).__name__}))
            store.set(f"{turn}/{place}/read", "")
        raise
    try:
        store.set(f"{turn}/{place}", json.dumps(done, default=float))
        results = [json.loads(_get(store, turn, other)) for other in range(size)]
        store.set(f"{turn}/{place}/read", "")
        if place == 0:
            _wait(store, [f"{turn}/{other}/read" for other in range(size)], READ_S)
    except RuntimeError as error:  # torch's: whoever holds the store is gone
        raise UserError(f"Another process of this run has ended, and says why itself ({_first_line(error)}).") from error
    for other, result in enumerate(results):
        if "error" in result:
            raise UserError(f"rank {other}: {result['error']}")
    return [result["value"] for result in results]


def shared(jobs: Sequence[Callable[[], V]]) -> list[V]:
    """Deal jobs out in turn to the processes of the run, and give each process the results of all, in their order.

    Args:
        jobs: each returns what JSON can hold.

    Raises:
        UserError: as `together`.
    """
    place, size = rank() or 0, processes()
    dealt = together(lambda: [job() for job in jobs[place::size]])
    return [dealt[number % size][number // size] for number in range(len(jobs))]


def _get(store: Any, turn: str, other: int) -> Any:
    key = f"{turn}/{other}"
    if not _wait(store, [key], LIMIT_S, f"rank {other}"):
        raise UserError(f"rank {other}: has not been heard of for {LIMIT_S / 3600:.0f} hours.")
    return store.get(key)


def _wait(store: Any, keys: Sequence[str], limit: float, what: str = "") -> bool:
    """Wait until all keys are there; whether they are. Looks again and again, so that a signal is not kept waiting."""
    started = said = time.monotonic()
    pause = 0.001
    while not store.check(keys):
        now = time.monotonic()
        if now - started > limit:
            return False
        if now - said > SAY_S and what:
            log.info("Still waiting for %s, for %.0f minutes.", what, (now - started) / 60)
            said = now
        time.sleep(pause)
        pause = min(2 * pause, PAUSE_S)
    return True


@cache
def _store(place: int, size: int) -> Any:
    """Where the processes meet. Made once: with rank 0's part of it the store may end.

    Raises:
        UserError: they do not find each other, or srun was called with --ntasks, which Lightning cannot follow, instead of
            --ntasks-per-node.
    """
    from torch.distributed import rendezvous  # nothing else of launch/ needs torch

    if "RANK" not in os.environ:
        _name_slurms_host()
    at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    waiting = f"rank {place}: waiting at {at} for the others of {size} processes."
    late = threading.Timer(LATE_S, print, (waiting,), {"file": sys.stderr})  # the log is rank 0's
    late.daemon = True
    late.start()
    try:
        return next(iter(rendezvous(f"env://?rank={place}&world_size={size}")))[0]
    except RuntimeError as error:
        raise UserError(
            f"rank {place}: not all of the {size} processes came to {at}: {_first_line(error)}\n"
            "Start them all, or this command by itself: env -u RANK COMMAND"
        ) from error
    finally:
        late.cancel()


def _name_slurms_host() -> None:
    from lightning_fabric.plugins.environments import SLURMEnvironment  # which imports torch

    if os.environ.get("SLURM_JOB_NAME") in SHELLS:  # Lightning would start the ranks again
        os.environ["SLURM_JOB_NAME"] = "simcse_lit"
    try:
        slurm = SLURMEnvironment()
    except RuntimeError as error:
        raise UserError(f"SLURM: {error}") from error
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
