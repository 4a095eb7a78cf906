"""Keeps the memory of a long-running process from growing."""

import ctypes
import os
from collections.abc import Callable
from functools import cache

KERNELS = 64  # several times the number for one batch; a kernel takes about 100 KB and half a millisecond to create


def keep_few_kernels() -> None:
    """Limit oneDNN's cache of kernels. Call it before oneDNN creates its first; the user's own limit is left alone.

    oneDNN creates kernels for each shape of batch and keeps 1,024 of them, and a long file has batches of many shapes.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def give_back_freed_memory() -> None:
    """Make glibc return freed memory to the system; with another C library do nothing.

    Batches of many shapes free buffers of many sizes between small buffers that stay in use, so the heap of a long-running
    process fragments and grows.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # CDLL(None) fails on Windows; musl and macOS have no malloc_trim
        return None
    return trim
