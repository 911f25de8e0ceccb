"""What does one process of several do? It fetches its job, trains, and says why it failed; run as a module."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> int:
    """Carry out the launcher's job as this rank.

    Returns:
        0 done; 1 failed; 2 what the user can mend; 143 after SIGTERM.
    """
    _die_with_launcher()
    from plait.engine.launch import ATTEMPT, fetch
    from plait.errors import PlaitError

    job = fetch()
    sys.path[:] = job.path
    rank = int(os.environ["RANK"])
    _redirect(Path(job.recipe["output"]["directory"]) / "logs" / f"rank-{rank}.txt", rank)
    attempt = int(os.environ[ATTEMPT])
    try:
        _fit(job, rank, resume=job.resume or attempt > 0)
    except PlaitError as error:  # Interrupted is one: a signal to one rank ends all, and is no reason to start again
        _tell(error)
        return error.exit_code
    except BaseException as error:
        _tell(error)
        return 1
    return 0


def _fit(job: Any, rank: int, *, resume: bool) -> None:
    from plait.api import with_classes
    from plait.cli.memory import keep_freed_memory
    from plait.config import resolve
    from plait.engine.group import disconnect
    from plait.fitting import fit_recipe
    from plait.layers import Layer
    from plait.logs import Display
    from plait_registry.registry import Registry

    keep_freed_memory()
    registry = Registry.discover()
    if job.classes:
        kinds = [getattr(import_module(module), name) for module, name in (each.split(":") for each in job.classes)]
        registry = with_classes(registry, kinds)
    recipe = resolve([Layer("launcher", job.recipe)], registry)
    fit_recipe(recipe, registry, data=job.data, resume=resume, display=Display() if rank == 0 else None)
    disconnect()


def _redirect(log: Path, rank: int) -> None:
    """All that this rank prints, and what the libraries under it print, goes to its log; rank 0 keeps the terminal's
    stderr for its progress, and logs there as well."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    if rank:
        os.dup2(handle, 2)
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=os.fdopen(handle, "a", encoding="utf-8"),
    )  # fmt: skip
    logging.getLogger("plait").setLevel(logging.INFO)
    logging.getLogger("plait").info("process %d begins", os.getpid())


def _tell(error: BaseException) -> None:
    """Leave the error where the agent looks for it, and in the log."""
    from plait.engine.agreement import told_of
    from plait.errors import PlaitError

    trace = "".join(traceback.format_exception(error))
    logging.getLogger("plait").error("%s", trace)
    told = {
        "error": told_of(error), "traceback": trace, "plait": isinstance(error, PlaitError), "peer": _lost_peer(error),
    }  # fmt: skip
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        extra = {"py_callstack": trace, "timestamp": str(int(time.time()))}
        body = {"message": {"message": str(error), "plait_told": told, "extraInfo": extra}}
        Path(file).write_text(json.dumps(body), encoding="utf-8")


def _lost_peer(error: BaseException) -> bool:
    """Whether the error only says that another process has gone."""
    texts = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Socket closed",
        "recvValue failed",
    )
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RuntimeError | OSError) and any(text in str(seen) for text in texts):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _die_with_launcher() -> None:
    """Linux kills this process when its launcher dies, however it dies: nobody else would."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)


if __name__ == "__main__":
    sys.exit(main())
