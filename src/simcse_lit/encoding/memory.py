"""Keeps the memory of a long process from growing."""

import ctypes
import os

KERNELS = 64  # several times what one batch needs; a kernel is small and quickly made


def keep_few_kernels() -> None:
    """Let oneDNN cache the kernels of the latest shapes only, unless the user set its cache's size.

    Call it before the first batch. By default oneDNN caches 1,024 kernels, and the batches of a long file keep bringing
    new shapes.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def give_back_freed_memory() -> None:
    """Return freed memory to the system, where the C library can.

    Batches of new shapes free buffers of new sizes between small ones that stay, so that a long process would hold more
    and more memory that it does not use.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc has it; musl and macOS do not
        trim(0)
