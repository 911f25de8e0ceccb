"""What does one process of several do? It fetches its job, trains, and says why it failed; run as a module."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any


def main() -> int:
    """Carry out the launcher's job as this rank.

    Returns:
        0 done; 1 failed; 2 what the user can mend; 143 after SIGTERM.
    """
    _die_with_launcher()
    signal.signal(signal.SIGINT, _go)  # until the fit saves instead; the launcher has the word
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the launcher until here
    from plait.engine.agent import ATTEMPT
    from plait.engine.ending import tell
    from plait.engine.launch import fetch
    from plait.errors import PlaitError
    from plait.sealed import storage

    rank = int(os.environ["RANK"])
    logging.getLogger().addHandler(logging.NullHandler())  # without a log the launcher alone has the word
    try:
        job = fetch()
        log = Path(job.recipe["output"]["directory"]) / "logs" / f"rank-{rank}.txt"
        with storage(f"{log}: could not be opened"):
            _redirect(log, rank, job.level)
    except PlaitError as error:
        tell(error)
        return error.exit_code
    attempt = int(os.environ[ATTEMPT])
    try:
        _fit(job, rank, resume=job.resume or attempt > 0)
    except PlaitError as error:  # Interrupted is one: a signal to one rank ends all, and is no reason to start again
        tell(error)
        return error.exit_code
    except BaseException as error:
        tell(error)
        return 1
    return 0


def _go(number: int, frame: FrameType | None) -> None:
    """End at once, without a traceback: nothing is written yet."""
    os._exit(128 + number)


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
    fit_recipe(recipe, registry, data=job.data, resume=resume, display=Display() if job.shown and rank == 0 else None)
    disconnect()


def _redirect(log: Path, rank: int, level: int) -> None:
    """All that this rank prints, and what the libraries under it print, goes to its log; rank 0 keeps the terminal's
    stderr, for its progress and for what Plait logs there from `level` on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    if rank:
        os.dup2(handle, 2)
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=os.fdopen(handle, "a", encoding="utf-8"), force=True,
    )  # fmt: skip
    logger = logging.getLogger("plait")
    logger.setLevel(min(level, logging.INFO))
    if rank == 0:
        from plait.cli.terminal import TerminalHandler

        terminal = TerminalHandler()
        terminal.setLevel(level)
        logger.addHandler(terminal)
    logger.info("process %d begins", os.getpid())


def _die_with_launcher() -> None:
    """Linux kills this process when its launcher dies, however it dies: nobody else would."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)


if __name__ == "__main__":
    sys.exit(main())
