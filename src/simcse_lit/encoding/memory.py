"""Holds the memory of a process that runs for long where it is. Called by the command `encode`."""

import ctypes
import os
from collections.abc import Callable
from functools import cache

KERNELS = 64  # several times what one batch needs; a kernel is small and quickly made


def keep_few_kernels() -> None:
    """Let oneDNN keep the kernels of the last shapes only, before it makes its first; a choice of the user's stands.

    It makes kernels for the shape of a batch and keeps 1,024, and batches of a long file have ever new shapes.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


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
