"""Who watches the processes of this host, starts them again, and finds the one that was at fault?

Torch's elastic agent, with a few habits changed.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from plait.engine.agreement import heard
from plait.engine.hosts import Place
from plait.engine.waiting import waiting
from plait.errors import EngineError, FailedRankError, Interrupted, LostRankError
from plait.run import resume_command

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler

    from plait.options import EngineOptions

ATTEMPT = "PLAIT_ATTEMPT"
"""The variable that tells a worker how often its host has started it before. Torch's own count stays where it is when
another host's worker died."""
_NOWHERE = logging.NullHandler()
_GRACE = 300  # seconds in which ranks may save after a signal, before they are killed; schedulers kill earlier


def run_agent(place: Place, options: EngineOptions, path: Path) -> None:
    """Start this host's processes, watch them, and start them again where that may help.

    Args:
        place: this host among the run's.
        path: the run directory.

    Raises:
        PlaitError: what one of them raised.
        EngineError: one died, or another host is lost.
        Interrupted: a signal came.
    """
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

    patience = f"for {options.timeout:g} s at most (engine.timeout)"

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

        def _invoke_run(self, role: str = "plait") -> RunResult:
            try:
                return super()._invoke_run(role)
            except SignalException:
                raise  # they may save
            except BaseException:
                self._shutdown(signal.SIGKILL)
                raise

        def _rendezvous(self, worker_group: WorkerGroup) -> None:
            with waiting(f"waiting for the other hosts of {place.hosts} at {place.endpoint}: {patience}"):
                super()._rendezvous(worker_group)

        def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
            # a Ctrl-C waits until a worker can take it: in its first imports it would print a traceback
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                started: dict[int, Any] = super()._start_workers(worker_group)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return started

        def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
            second = None
            while True:
                try:
                    super()._shutdown(death_sig, timeout)
                    break
                except SignalException as error:
                    second, death_sig = error, _after(death_sig, error.sigval)
            if second is not None:
                raise second

        def _stop_workers(self, worker_group: WorkerGroup) -> None:
            self._shutdown(signal.SIGKILL)  # they wait for one that is gone; what counts is in the checkpoints

        def _exit_barrier(self) -> None:
            with suppress(LostRankError):  # this host's processes have done their work
                within(options.timeout, super()._exit_barrier, unanswered)

    _silence("torch.distributed.elastic")
    with TemporaryDirectory(prefix="plait-logs-") as folder:
        # by itself torch knows a host by its host name only, not by an address of one of its wires
        first = {} if place.answers is None else {"is_host": place.answers}
        parameters = RendezvousParameters(
            backend="c10d", endpoint=place.endpoint, run_id=uuid.uuid5(uuid.NAMESPACE_URL, str(path)).hex,
            min_nodes=place.hosts, max_nodes=place.hosts, local_addr=place.name, join_timeout=round(options.timeout),
            read_timeout=round(options.timeout), **first,
        )  # fmt: skip
        try:
            with waiting(f"waiting for {place.endpoint}, the first of engine.hosts, to answer: {patience}"):
                # a stranger on that port may take the connection, and never answer
                rendezvous = within(options.timeout + 5, lambda: get_rendezvous_handler(parameters), "it says nothing")
        except (RendezvousConnectionError, LostRankError) as error:
            said = str(error.__cause__ or error).partition("\n")[0]
            elsewhere = "start the same command on it, and see that this host reaches that port"
            raise EngineError(
                f"{place.endpoint}, the first of engine.hosts, does not answer: {said}",
                hint=elsewhere if place.answers is False else f"{elsewhere}; or another program holds it: name:port",
            ) from error
        unanswered = f"{place.endpoint}, the first of engine.hosts, did not answer for {options.timeout:g} s"
        if place.hosts > 1:
            _never_wait(rendezvous, options.timeout, unanswered)
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
                hint=_again(path),
                signal=int(error.sigval),
            ) from None
        except RendezvousTimeoutError as error:
            raise EngineError(
                f"not all of the {place.hosts} hosts came to {place.endpoint} within {options.timeout:g} s",
                hint="start the same command on each of engine.hosts; engine.timeout is how long they wait",
            ) from error
        except (RendezvousClosedError, RendezvousConnectionError) as error:
            raise LostRankError(
                f"another of the {place.hosts} hosts ended the run", hint="its message says why"
            ) from error
        finally:
            with suppress(LostRankError, RendezvousConnectionError):
                rendezvous.shutdown()  # the other hosts' agents would wait for this one
        if result.is_failed():
            raise _root(result.failures).as_error(path)


def _after(first: signal.Signals, second: signal.Signals) -> signal.Signals:
    """What workers are sent when a second signal comes while they end.

    A second Ctrl-C is for somebody who will not wait for a checkpoint. A scheduler may well send its SIGTERM twice, to
    the group and to each process.
    """
    return signal.SIGKILL if first == signal.SIGKILL or first == second == signal.SIGINT else second


def _silence(name: str) -> None:
    """What a library's agent logs is told by our errors; its loggers each set a level of their own."""
    logger = logging.getLogger(name)
    logger.addHandler(_NOWHERE)
    logger.propagate = False


def _again(path: Path) -> str:
    """How to go on after a run's end."""
    if (path / "run.json").is_file():
        return f"go on with: {resume_command(path)}"
    return "nothing was written yet: give the same command again"


def within(seconds: float, call: Callable[[], Any], unanswered: str) -> Any:
    """What `call` gives; it may be caught in a read from a wire that was cut, which the system gives up after a quarter
    of an hour, and is then left to itself.

    Raises:
        LostRankError: it took longer.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True, name="plait-ask").start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise LostRankError(
            unanswered, hint="see that it runs and can be reached; go on from the last checkpoint with --resume"
        ) from None
    if error is not None:
        raise error
    return answer


def _never_wait(rendezvous: RendezvousHandler, seconds: float, unanswered: str) -> None:
    """Bound what an agent asks of the first host's store, and let it hear that another agent has ended."""
    from torch.distributed.elastic.rendezvous import RendezvousClosedError

    waiting, leave, join = rendezvous.num_nodes_waiting, rendezvous.shutdown, rendezvous.next_rendezvous

    def nodes_waiting() -> int:
        if rendezvous.is_closed():
            raise RendezvousClosedError
        return waiting()

    rendezvous.num_nodes_waiting = lambda: within(seconds, nodes_waiting, unanswered)  # type: ignore[method-assign]
    # a courtesy: the others' own limits end them too
    rendezvous.shutdown = lambda: within(min(5, seconds), leave, unanswered)  # type: ignore[method-assign]
    # joining has a limit of its own, the timeout and 30 s for those that come last
    rendezvous.next_rendezvous = lambda: within(2 * seconds + 30, join, unanswered)  # type: ignore[method-assign]


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
        passing = (LostRankError.__name__, FailedRankError.__name__)  # of another rank, whose death a restart may mend
        return self._ours and self.told is not None and self.told["error"]["type"] not in passing

    @property
    def _ours(self) -> bool:
        return self.told is not None and bool(self.told.get("plait"))

    @property
    def secondary(self) -> bool:
        """It only noticed that another rank had gone."""
        return self.told is not None and bool(self.told.get("peer"))

    def as_error(self, path: Path) -> Exception:
        """What the user is told."""
        log = path / "logs" / f"rank-{self.rank}.txt"
        if self.told is not None and self._ours:
            return heard(self.told["error"], self.rank)
        if self.told is not None:
            return FailedRankError(
                f"rank {self.rank} failed: {self.told['error']['type']}: {self.told['error']['message']}\n"
                f"{self.told['traceback'].rstrip()}",
                hint=f"its log is {log}; {_again(path)}",
            )
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"
        names = {-9: " (SIGKILL: often the system was out of memory)", -11: " (SIGSEGV)", -6: " (SIGABRT)"}
        return FailedRankError(
            f"rank {self.rank} {how}{names.get(self.code, '')}",
            hint=f"its log is {log}; {_again(path)}",
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
    return min(
        deaths,
        key=lambda death: (
            death.secondary, death.code == -signal.SIGTERM,
            death.told is None and death.code > 0,  # it raised, and could not say what
            death.when, death.rank,
        ),
    )  # fmt: skip
