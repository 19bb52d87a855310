"""Large arrays get pages of their own, which go back to the system when they are freed.

glibc begins that way, but raises the size from which it does so, up to 32 MiB, with every such array that is freed. From then on weights
and the memory of compiled programs share a heap with small objects, and holes stay between them: a fifth of a run's peak memory.
With care: lower sizes cost time, as fresh pages are filled with zeros.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_LARGE = 8 * 2**20  # bytes
_KEPT_FREE = 32 * 2**20  # at the end of the heap; what glibc's own rule comes to
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's <malloc.h>
_USERS_OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@functools.cache
def give_back_large_arrays() -> bool:
    """Sets the size for this process, once; whether it was set.

    It is not where the C library is not glibc, which has other rules, nor where the user has chosen in the environment.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _USERS_OWN):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(library.mallopt(_TRIM_THRESHOLD, _KEPT_FREE))
