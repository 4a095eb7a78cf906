"""Shares work between the processes of one run, and gives each process all results.

The processes meet at the store of torch.distributed. Unlike a collective operation this needs no process group and waits
as long as the slowest process works: a process group's timeout is meant for training steps.
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

PAUSE_S = 0.5  # longest pause between two polls
SAY_S = 300.0  # between two log lines about a rank that is waited for
LATE_S = 20.0  # until a line reports that other processes are missing
READ_S = 60.0  # rank 0 stays for the others to read, since the store may end with it
LIMIT_S = 24 * 3600.0  # a process that was killed never answers

_turns = count()


def together(work: Callable[[], V]) -> list[V]:
    """Do `work` in every process of the run and return the results of all, in the order of ranks.

    Args:
        work: returns a value that JSON can hold.

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
    except RuntimeError as error:  # from torch: the process that holds the store is gone
        raise UserError(f"Another process of this run has ended; its output says why ({_first_line(error)}).") from error
    for other, result in enumerate(results):
        if "error" in result:
            raise UserError(f"rank {other}: {result['error']}")
    return [result["value"] for result in results]


def shared(jobs: Sequence[Callable[[], V]]) -> list[V]:
    """Distribute jobs over the processes of the run and return the results of all, in their order.

    Args:
        jobs: each returns a value that JSON can hold.

    Raises:
        UserError: as for `together`.
    """
    place, size = rank() or 0, processes()
    dealt = together(lambda: [job() for job in jobs[place::size]])
    return [dealt[number % size][number // size] for number in range(len(jobs))]


def _get(store: Any, turn: str, other: int) -> Any:
    key = f"{turn}/{other}"
    if not _wait(store, [key], LIMIT_S, f"rank {other}"):
        raise UserError(f"rank {other}: has not answered for {LIMIT_S / 3600:.0f} hours.")
    return store.get(key)


def _wait(store: Any, keys: Sequence[str], limit: float, what: str = "") -> bool:
    """Wait until all keys are there, and return whether they are. It polls, so that signals are handled."""
    started = said = time.monotonic()
    pause = 0.001
    while not store.check(keys):
        now = time.monotonic()
        if now - started > limit:
            return False
        if now - said > SAY_S and what:
            log.info("Waiting for %s since %.0f minutes.", what, (now - started) / 60)
            said = now
        time.sleep(pause)
        pause = min(2 * pause, PAUSE_S)
    return True


@cache
def _store(place: int, size: int) -> Any:
    """Return the store where the processes meet; created once, because it may end with rank 0's part.

    Raises:
        UserError: the processes do not find each other, or srun was called with --ntasks, which Lightning cannot follow,
            instead of --ntasks-per-node.
    """
    from torch.distributed import rendezvous  # the only part of launch/ that needs torch

    if "RANK" not in os.environ:
        _name_slurms_host()
    at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    waiting = f"rank {place}: waiting at {at} for the other processes ({size} in all)."
    late = threading.Timer(LATE_S, print, (waiting,), {"file": sys.stderr})  # only rank 0 logs
    late.daemon = True
    late.start()
    try:
        return next(iter(rendezvous(f"env://?rank={place}&world_size={size}")))[0]
    except RuntimeError as error:
        raise UserError(
            f"rank {place}: not all {size} processes reached {at}: {_first_line(error)}\n"
            "Start all of them, or run without torchrun: env -u RANK COMMAND"
        ) from error
    finally:
        late.cancel()


def _name_slurms_host() -> None:
    from lightning_fabric.plugins.environments import SLURMEnvironment  # imports torch

    if os.environ.get("SLURM_JOB_NAME") in SHELLS:  # else Lightning would start the ranks again
        os.environ["SLURM_JOB_NAME"] = "simcse_lit"
    try:
        slurm = SLURMEnvironment()
    except RuntimeError as error:
        raise UserError(f"SLURM: {error}") from error
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
