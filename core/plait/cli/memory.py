"""Why does a training step on a CPU not ask the system for its memory again each time?"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3), from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep what a step frees for the next step; whether this C library could be told.

    By default it gives blocks of over 128 KiB back at once, and a resnet18 step (64x64, batch 16) then pays for 5,000
    to 23,000 page faults, a tenth to a fifth of its CPU time. As with threads, only a program's own start may decide.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return False
    return bool(mallopt(_TRIM_THRESHOLD, 1 << 30) and mallopt(_MMAP_THRESHOLD, 1 << 25))
