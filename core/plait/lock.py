"""Who writes a run directory? At most one process, and whether it still lives can be asked."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from plait.errors import RunError
from plait.sealed import storage

_HELD: set[Path] = set()
"""Runs that this process writes: the system's locks keep out other processes only, and closing the file once more in
this one would give its lock back."""
_TRIES, _PAUSE = 6, 0.02  # seconds: `is_written` holds the lock for some microseconds while it asks


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run directory's lock; the system gives it back when the process dies.

    Raises:
        RunError: another process, or this one, writes the run already.
    """
    busy = RunError(f"{path}: another process is writing this run", hint="wait for it, or choose another --out")
    key = path.resolve()
    if key in _HELD:
        raise busy
    with storage(f"{path}: the run directory could not be locked"):
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("a")
    with file:
        for again in range(_TRIES):
            if _lock(file):
                break
            if again == _TRIES - 1:
                raise busy
            time.sleep(_PAUSE)
        _HELD.add(key)
        try:
            yield
        finally:
            _HELD.discard(key)


def is_written(path: Path) -> bool:
    """Whether a living process writes the run; True as well where nobody can tell.

    On some network file systems a lock keeps out processes of its own host only, so ask about this host's runs.
    """
    if path.resolve() in _HELD:
        return True
    try:
        with (path / ".lock").open("r+" if sys.platform == "win32" else "r") as file:
            return not _lock(file, shared=True)
    except FileNotFoundError:
        return False  # whoever writes a run has made it
    except OSError:  # not for us to read, or a file system without locks
        return True


def _lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Take the system's lock on a file, without waiting.

    A POSIX record lock belongs to the process: unlike flock's, it is not inherited by loader processes, which live some
    seconds longer than a killed parent and would refuse its resume.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True
