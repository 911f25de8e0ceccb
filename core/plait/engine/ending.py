"""How does a process of a training say why it ends, so that its launcher can tell the user?"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plait.engine.agreement import told_of
from plait.errors import FailedRankError, LostRankError, PlaitError

if TYPE_CHECKING:
    from plait.engine.base import Channel

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


@contextmanager
def losses_named(engine: Channel) -> Iterator[None]:
    """Inside, what a collective says when another process has gone becomes an error that says so.

    Raises:
        LostRankError: the connection to another process broke.
    """
    try:
        yield
    except RuntimeError as error:
        if engine.world_size == 1 or not _lost_peer(error):
            raise
        raise LostRankError(
            "the connection to another process of the training broke: that one has ended",
            hint="its own message or log says why; go on from the last checkpoint with --resume",
        ) from error


def give_up(error: PlaitError) -> None:
    """End this process at once, from any of its threads: its main thread may be in a collective for ever."""
    tell(error)
    if _ERROR_FILE not in os.environ:
        print(f"error: {error}", file=sys.stderr, flush=True)  # torchrun's or srun's own terminal
    logging.shutdown()
    os._exit(error.exit_code)


def tell(error: BaseException) -> None:
    """Leave the error where the agent looks for it, and in the log."""
    trace = "".join(traceback.format_exception(error))
    logging.getLogger().error("%s", trace)  # not "plait": the terminal is told by the launcher, once
    peer = _lost_peer(error) or isinstance(error, FailedRankError)
    told = {
        "error": told_of(error), "traceback": trace, "plait": isinstance(error, PlaitError), "peer": peer,
    }  # fmt: skip
    file = os.environ.get(_ERROR_FILE)
    if file:
        extra = {"py_callstack": trace, "timestamp": str(int(time.time()))}
        body = {"message": {"message": str(error), "plait_told": told, "extraInfo": extra}}
        try:
            Path(file).write_text(json.dumps(body), encoding="utf-8")
        except OSError as failure:  # the disk that is full may be this one; other ranks say it too
            logging.getLogger("plait").warning("%s: could not be written (%s)", file, failure)


def _lost_peer(error: BaseException) -> bool:
    """Whether the error only says that another process has gone."""
    texts = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Socket closed",
        "recvValue failed",
        "remote process exited",  # NCCL's
    )
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RuntimeError | OSError) and any(text in str(seen) for text in texts):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
