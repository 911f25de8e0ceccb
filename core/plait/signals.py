"""Has somebody asked the run to stop?"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """Inside, Ctrl-C and SIGTERM ask for a stop after the step in hand; a second Ctrl-C stops at once.

    Handlers can only be set in the main thread; in another one this only keeps the time.

    Args:
        max_time: seconds after which a stop is asked for as well.
    """

    def __init__(self, max_time: float | None) -> None:
        self.received: int | None = None
        self._deadline = None if max_time is None else time.monotonic() + max_time
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """Why to stop: "signal", "time", or None."""
        if self.received is not None:
            return "signal"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "time"
        return None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
