"""What becomes of Ctrl-C and SIGTERM while no fit is running?"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_FRAGILE = {"numpy", "pyarrow", "torch"}
"""Their C code imports Python modules: an exception there aborts the process (torch), or is swallowed and leaves a
module there by half (numpy)."""
_PATIENCE = 10.0  # seconds for such an import to come to its end; torch's takes two, more on a busy machine
_AGAIN = 0.05  # seconds
_INSIST = 3.0  # seconds until a command that still runs is told again: some library swallowed it


class Interruption:
    """Inside, SIGTERM unwinds as Ctrl-C does: what lets the one pass, discovery above all, lets the other pass too.

    A fit sets its own handlers and gives these back. The first signal waits for the end of an import that would not
    survive it; a second one does not.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0
        self._retrying = False
        self._retry: threading.Timer | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 143 if self.received == signal.SIGTERM else 130

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # a program runs us, and signals are its own business
        self._previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._handle)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
            self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._retry is not None:
            self._retry.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._retrying:
            self._since = time.monotonic() if self.received is None else float("-inf")
        self._retrying, self.received = False, number
        if _in_fragile_import(frame) and time.monotonic() - self._since < _PATIENCE:
            self._later(_AGAIN, number)
            return
        self._later(_INSIST, number)
        raise KeyboardInterrupt

    def _later(self, seconds: float, number: int) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = threading.Timer(seconds, self._send_again, (signal.Signals(number),))
        self._retry.daemon = True
        self._retry.start()

    def _send_again(self, number: signal.Signals) -> None:
        self._retrying = True
        if sys.platform == "win32":
            _thread.interrupt_main(number)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # wakes a thread that waits, too


def _in_fragile_import(frame: FrameType | None) -> bool:
    importing = fragile = False
    while frame is not None and not (importing and fragile):
        importing |= frame.f_code.co_filename.startswith("<frozen importlib")
        fragile |= str(frame.f_globals.get("__name__")).partition(".")[0] in _FRAGILE
        frame = frame.f_back
    return importing and fragile
