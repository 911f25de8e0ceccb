"""What does every verb of one invocation share?"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from plait.cli.output import Output
from plait_registry.registry import Registry

if TYPE_CHECKING:
    from plait.logs import Display

_HUB = "HF_HUB_OFFLINE"


class Session:
    """One invocation: how much it says, where its answer goes, what is installed. It knows no verb.

    Args:
        output: where the answer goes.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self.verbose = 0
        self.quiet = False
        self.debug = False
        self._hub_forbidden = False

    @cached_property
    def registry(self) -> Registry:
        """What is installed; discovered when a verb first asks."""
        return Registry.discover()

    def forbid_hub(self) -> None:
        """No library looks for files on a model hub, unless the environment already says otherwise.

        A missing file is then an error at once, not after 24 seconds of retries.
        """
        if _HUB not in os.environ:
            os.environ[_HUB] = "1"
            self._hub_forbidden = True

    def allow_hub(self) -> None:
        """The user asked for pretrained weights by name: undo `forbid_hub`, before any library reads the variable."""
        if self._hub_forbidden:
            os.environ.pop(_HUB, None)
            self._hub_forbidden = False

    def say(self, text: str) -> None:
        """Tell the user something beside the answer: on stderr, and not under --quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def log_to_terminal(self) -> None:
        """Show Plait's log on stderr: warnings; under -v what is going on, under -vv details; under -q errors only."""
        import logging

        from plait.cli.terminal import TerminalHandler

        levels = {0: logging.WARNING, 1: logging.INFO}
        level = logging.ERROR if self.quiet else levels.get(self.verbose, logging.DEBUG)
        logger = logging.getLogger("plait")
        for handler in [each for each in logger.handlers if isinstance(each, TerminalHandler)]:
            logger.removeHandler(handler)  # of an earlier command in this process
        handler = TerminalHandler()
        handler.setLevel(level)
        logger.addHandler(handler)
        logger.setLevel(level)

    def display(self) -> Display | None:
        """What shows a fit's progress; None under --quiet."""
        from plait.logs import Display

        return None if self.quiet else Display()
