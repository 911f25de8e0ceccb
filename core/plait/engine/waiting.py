"""Does the user know what a process waits for?"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_QUIET = 10.0  # seconds: processes that are started together come within that on a busy machine


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A wait that may have no end: where it takes long, a warning says what for, once."""
    timer = threading.Timer(_QUIET, logging.getLogger("plait").warning, (text,))
    timer.daemon, timer.name = True, "plait-waiting"
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
