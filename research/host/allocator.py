"""glibc's allocator keeps the memory that a step frees, so that the next step need not fault it in again."""

import ctypes
import functools
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@functools.cache
def keep_freed_memory() -> bool:
    """Whether freed memory is kept from now on. Call it before the first computation.

    Does nothing where the C library is not glibc, or where ALMANAC_ALLOCATOR is "system".
    """
    if os.environ.get("ALMANAC_ALLOCATOR") == "system" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    done = [libc.mallopt(option, value) for option, value in options]  # every one, whatever the first says
    return all(value == 1 for value in done)
