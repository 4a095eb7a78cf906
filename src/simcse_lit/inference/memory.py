"""Gives memory that was freed back to the system. Called by the command `encode`, after each block."""

import ctypes
from collections.abc import Callable
from functools import cache


def give_back_freed_memory() -> None:
    """Ask glibc to; another C library is left alone.

    Batches of ever new shapes free buffers of ever new sizes, between small ones that stay, so that a process that runs
    for long holds more and more that it does not use.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # Windows knows no CDLL(None); musl and macOS have no malloc_trim
        return None
    return trim
