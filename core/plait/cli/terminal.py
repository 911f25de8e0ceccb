"""How do log lines get to the terminal?"""

from __future__ import annotations

import logging
import sys


class TerminalHandler(logging.Handler):
    """Writes log lines to stderr as it is at that moment, since a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.levelno >= logging.WARNING:
                text = f"{record.levelname.lower()}: {text}"
            print(text, file=sys.stderr, flush=True)
        except Exception:  # logging's own rule: a line that cannot be written ends no program
            self.handleError(record)
