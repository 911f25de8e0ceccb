"""How do several processes come to train one recipe, and what becomes of it when one of them dies?

Torch's elastic agent starts and watches them. Around it stand: one clear error instead of N tracebacks, a log file for
each rank in the run, restarts from the last good checkpoint, and signals that let every rank save.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from plait.engine.agreement import heard
from plait.engine.deepspeed import check_options
from plait.engine.hosts import Place
from plait.engine.world import World
from plait.errors import EngineError, Interrupted, RecipeError
from plait.run import Run, check_free, new_directory

if TYPE_CHECKING:
    from plait.config import Recipe
    from plait.options import EngineOptions
    from plait_registry.registry import Registry

JOB = "PLAIT_JOB"
"""The variable that tells a worker where its job is handed out: "address|key"."""
ATTEMPT = "PLAIT_ATTEMPT"
"""The variable that tells a worker how often its host has started it before. Torch's own count stays where it is when
another host's worker died."""
_GRACE = 300  # seconds in which ranks may save after a signal, before they are killed; schedulers kill earlier


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker carries out, as its launcher hands it over.

    Args:
        recipe: the tree, with the run directory in it.
        classes: targets of the program's own tasks and models.
        data: a source given from Python; pickled, as between any processes of one program, and never written.
        resume: go on from the newest checkpoint; a restarted worker does so anyway.
        path: the import path of the program.
        restarts: how often the run may be started again.
    """

    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    data: Any
    resume: bool
    path: tuple[str, ...]
    restarts: int


def launch(recipe: Recipe, registry: Registry, *, data: Any, resume: bool) -> Run:
    """Train a recipe in `engine.processes` processes of this host, or in this host's part of them.

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
    tree = recipe.as_json()
    tree["output"]["directory"] = str(path)
    job = Job(
        tree, _own_classes(registry), data, resume, tuple(each or os.getcwd() for each in sys.path),
        recipe.engine.max_restarts,
    )  # fmt: skip
    with _handing_out(job) as address, _environment(place.processes, address), _signals_kept():
        _run_agent(place, recipe.engine, path)
    return Run.open(path)


def fetch() -> Job:
    """In a worker: the job that its launcher hands out."""
    address, _, key = os.environ[JOB].rpartition("|")
    with Client(address, authkey=bytes.fromhex(key)) as connection:
        job: Job = connection.recv()
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
    """Inside, workers of this user that know the key can fetch the job; yields "address|key"."""
    key = secrets.token_bytes(32)
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
                with connection:
                    connection.send(job)

        thread = threading.Thread(target=serve, daemon=True, name="plait-job")
        thread.start()
        try:
            yield f"{listener.address}|{key.hex()}"
        finally:
            listener.close()


@contextmanager
def _environment(count: int, place: str) -> Iterator[None]:
    """Inside, the variables that workers inherit."""
    wanted = {
        JOB: place,
        ATTEMPT: "0",
        # else the agent's store keeps the addresses of a group that died, and 6 of 8 restarts hung (pytorch #135712)
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // count))),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
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


def _run_agent(place: Place, options: EngineOptions, path: Path) -> None:
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.rendezvous import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousParameters,
        RendezvousTimeoutError,
    )
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
    from torch.distributed.launcher.api import LaunchConfig  # registers the rendezvous backends  # noqa: F401

    class Agent(LocalElasticAgent):
        """Ends what is left of a failed group at once, and starts no group again whose error would come again."""

        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
            result: RunResult = super()._monitor_workers(worker_group)
            if result.failures and _root(result.failures).mendable:
                self._remaining_restarts = 0
            return result

        def _initialize_workers(self, worker_group: WorkerGroup) -> None:
            super()._initialize_workers(worker_group)
            os.environ[ATTEMPT] = str(int(os.environ[ATTEMPT]) + 1)

        def _stop_workers(self, worker_group: WorkerGroup) -> None:
            self._shutdown(signal.SIGKILL)  # they wait for one that is gone; what counts is in the checkpoints

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with TemporaryDirectory(prefix="plait-logs-") as folder:
        # by itself torch knows a host by its host name only, not by an address of one of its wires
        first = {} if place.answers is None else {"is_host": place.answers}
        parameters = RendezvousParameters(
            backend="c10d", endpoint=place.endpoint, run_id=uuid.uuid5(uuid.NAMESPACE_URL, str(path)).hex,
            min_nodes=place.hosts, max_nodes=place.hosts, local_addr=place.name, join_timeout=round(options.timeout),
            read_timeout=round(options.timeout), **first,
        )  # fmt: skip
        try:
            rendezvous = get_rendezvous_handler(parameters)
        except RendezvousConnectionError as error:
            raise EngineError(
                f"{place.endpoint}, the first of engine.hosts, does not answer: {error}",
                hint="start the same command on it, and see that this host reaches that port",
            ) from error
        spec = WorkerSpec(
            role="plait", local_world_size=place.processes, entrypoint=sys.executable,
            args=("-m", "plait.engine.worker"), rdzv_handler=rendezvous, max_restarts=options.max_restarts,
            monitor_interval=0.1, local_addr=place.name,
        )  # fmt: skip
        agent = Agent(spec, DefaultLogsSpecs(log_dir=folder), shutdown_timeout=_GRACE)
        try:
            result = agent.run()
        except SignalException as error:
            saved = any(path.glob("checkpoints/step-*"))
            raise Interrupted(
                f"interrupted; a checkpoint is saved in {path}" if saved else "interrupted before the first checkpoint",
                hint=f"go on with: plait train --out {path} --resume",
                signal=int(error.sigval),
            ) from None
        except RendezvousTimeoutError as error:
            raise EngineError(
                f"not all of the {place.hosts} hosts came to {place.endpoint} within {options.timeout:g} s",
                hint="start the same command on each of engine.hosts; engine.timeout is how long they wait",
            ) from error
        except RendezvousClosedError as error:
            raise EngineError(
                f"another of the {place.hosts} hosts ended the run", hint="its message says why"
            ) from error
        finally:
            rendezvous.shutdown()  # the other hosts' agents would wait for this one
        if result.is_failed():
            raise _root(result.failures).as_error(path)


@dataclass(frozen=True, slots=True)
class _Death:
    """How one worker ended."""

    rank: int
    code: int
    when: float
    told: Mapping[str, Any] | None

    @property
    def mendable(self) -> bool:
        """An error that would come again: the user must mend something."""
        return self.told is not None and bool(self.told.get("plait"))

    @property
    def secondary(self) -> bool:
        """It only noticed that another rank had gone."""
        return self.told is not None and bool(self.told.get("peer"))

    def as_error(self, path: Path) -> Exception:
        """What the user is told."""
        log = path / "logs" / f"rank-{self.rank}.txt"
        if self.told is not None and self.mendable:
            return heard(self.told["error"], self.rank)
        if self.told is not None:
            return EngineError(
                f"rank {self.rank} failed: {self.told['error']['type']}: {self.told['error']['message']}\n"
                f"{self.told['traceback'].rstrip()}",
                hint=f"its log is {log}; go on from the last checkpoint with: plait train --out {path} --resume",
            )
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"
        names = {-9: " (SIGKILL: often the system was out of memory)", -11: " (SIGSEGV)", -6: " (SIGABRT)"}
        return EngineError(
            f"rank {self.rank} {how}{names.get(self.code, '')}",
            hint=f"its log is {log}; go on from the last checkpoint with: plait train --out {path} --resume",
        )


def _root(failures: Mapping[int, Any]) -> _Death:
    """The failure that the others followed from: one that is no mere loss of a peer, the first of them."""
    deaths = []
    for rank, failure in failures.items():
        told = None
        try:
            told = json.loads(Path(failure.error_file).read_text(encoding="utf-8"))["message"]["plait_told"]
        except (OSError, ValueError, KeyError, TypeError):
            told = None  # killed before it could say anything
        deaths.append(_Death(rank, failure.exitcode, float(failure.timestamp or time.time()), told))
    return min(deaths, key=lambda death: (death.secondary, death.code == -signal.SIGTERM, death.when, death.rank))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
