"""How do several processes come to train one recipe, and what becomes of it when one of them dies?

Torch's elastic agent starts and watches them. Around it stand: one clear error instead of N tracebacks, a log file for
each rank in the run, restarts from the last good checkpoint, and signals that let every rank save.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from plait.engine.agent import ATTEMPT, run_agent
from plait.engine.deepspeed import check_options
from plait.engine.group import HOST
from plait.engine.hosts import Place
from plait.engine.world import World
from plait.errors import DataError, RecipeError
from plait.run import Run, check_free, new_directory, record_end

if TYPE_CHECKING:
    from plait.config import Recipe
    from plait_registry.registry import Registry

logger = logging.getLogger("plait")

JOB = "PLAIT_JOB"
"""The variable that tells a worker where its job is handed out: "address|key"."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker carries out, as its launcher hands it over.

    Args:
        recipe: the tree, with the run directory in it.
        classes: targets of the program's own tasks and models.
        data: a source given from Python; pickled, as between any processes of one program, and never written.
        resume: go on from the newest checkpoint; a restarted worker does so anyway.
        shown: rank 0 shows progress.
        level: rank 0 says on the terminal what is logged from this level on.
    """

    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    data: Any
    resume: bool
    shown: bool = False
    level: int = logging.WARNING


def launch(recipe: Recipe, registry: Registry, *, data: Any, resume: bool, shown: bool = False) -> Run:
    """Train a recipe in `engine.processes` processes of this host, or in this host's part of them.

    Args:
        data: a source given from Python, where the recipe names none.
        resume: go on from the newest checkpoint where there is one.
        shown: show progress.

    Raises:
        PlaitError: what one of them raised, as if it had been raised here.
        EngineError: one died; names it, how, and its log.
        Interrupted: a signal ended the run, with a checkpoint.
    """
    check_options(recipe.engine, World(size=recipe.engine.processes, launcher="plait"))
    _check_batch(recipe)
    place = Place.find(recipe.engine.hosts, recipe.engine.processes)
    given = recipe.output.directory
    if given is None and place.hosts > 1:
        raise RecipeError("several hosts need one run directory", hint="name it: --out DIR, on a disk that all share")
    path = Path(given) if given else new_directory(Path("runs"), recipe.task.name, recipe.model_options.name)
    if place.hosts == 1:  # else another host may have begun the run just now; rank 0 looks
        check_free(path, resume=resume)
    cores = _cores()
    if place.processes > cores and recipe.engine.device in ("auto", "cpu") and not torch.cuda.is_available():
        logger.warning("%d processes share %d cores: more of them than cores are no faster", place.processes, cores)
    tree = recipe.as_json()
    tree["output"]["directory"] = str(path)
    job = Job(tree, _own_classes(registry), data, resume, shown, logger.getEffectiveLevel())
    with _handing_out(job) as address, _environment(place, address), _signals_kept():
        try:
            run_agent(place, recipe.engine, path)
        except Exception as error:
            record_end(path, error)
            raise
    return Run.open(path)


def fetch() -> Job:
    """In a worker: the job that its launcher hands out. The worker imports from where the program does, from here on.

    Raises:
        DataError: the data are of classes that cannot be imported.
    """
    address, _, key = os.environ[JOB].rpartition("|")
    with Client(address, authkey=bytes.fromhex(key)) as connection:
        sys.path[:] = connection.recv()
        try:
            job: Job = connection.recv()
        except (AttributeError, ImportError) as error:
            raise DataError(
                f"other processes cannot make the examples that the program gave: {error}",
                hint="put their class into a module beside the program or notebook, and import it from there",
            ) from error
    return job


def _check_batch(recipe: Recipe) -> None:
    batch, count = getattr(recipe.trainer, "batch_size", None), recipe.engine.processes
    if batch is not None and batch < count:
        raise RecipeError(
            f"trainer.batch_size={batch} is smaller than engine.processes={count}",
            hint="the batch size is global; give each process at least one example",
        )


def _own_classes(registry: Registry) -> tuple[str, ...]:
    """Targets of classes that only this program knows: workers import them."""
    found = []
    for plugin in registry.plugins:
        if plugin.distribution == "this-program":
            found += [str(getattr(entry.spec, "target", "")) for entry in plugin.entries]
    inside = [target for target in found if target.startswith("__main__:")]
    if inside:
        raise RecipeError(
            f"{', '.join(inside)}: other processes cannot import classes of the program or notebook itself",
            hint="put them into a module beside it, and import them from there",
        )
    return tuple(found)


@contextmanager
def _handing_out(job: Job) -> Iterator[str]:
    """Inside, workers of this user that know the key can fetch the job; yields "address|key".

    Raises:
        DataError: the data cannot be handed over.
    """
    key = secrets.token_bytes(32)
    path = [each or os.getcwd() for each in sys.path]
    try:
        packed = bytes(ForkingPickler.dumps(job))
    except (PicklingError, TypeError, AttributeError) as error:
        raise DataError(
            f"other processes cannot be given these data: {error}",
            hint="give a path, or examples that can be pickled (no open files, no functions of functions)",
        ) from error
    with TemporaryDirectory(prefix="plait-") as folder:
        listener = Listener(str(Path(folder) / "job"), "AF_UNIX", backlog=64, authkey=key)

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()
                except (AuthenticationError, EOFError, ConnectionError):
                    continue  # a stranger, or a worker that died while it asked
                except OSError:
                    return  # closed
                with connection, suppress(OSError):  # it may die meanwhile
                    connection.send(path)
                    connection.send_bytes(packed)

        thread = threading.Thread(target=serve, daemon=True, name="plait-job")
        thread.start()
        try:
            yield f"{listener.address}|{key.hex()}"
        finally:
            listener.close()


@contextmanager
def _environment(place: Place, job: str) -> Iterator[None]:
    """Inside, the variables that workers inherit."""
    wanted = {
        JOB: job,
        ATTEMPT: "0",
        HOST: place.name,
        # else the agent's store keeps the addresses of a group that died, and 6 of 8 restarts hung (pytorch #135712)
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // place.processes))),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        # a rank's log has room for torch's errors, but not for 20 lines of C++ frames whenever it tries again
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR").replace("FATAL", "ERROR"),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals_kept() -> Iterator[None]:
    """The agent sets handlers and leaves them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
