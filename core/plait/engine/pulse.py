"""Do all processes of a training still live and work? A thread of each says so; who is lost ends the run.

Rank 0 listens on a port of its own. Every other rank connects to it, and both say once a second what their main thread
does (`vitals`). A cut wire, a host without power, a stopped process are silent; one that hangs in a read says that it
does nothing. Rank 0 finds who is at fault and tells all; a rank that hears nothing of rank 0 judges by itself. Then
each process ends, however its main thread is caught: collectives cannot be interrupted. Compiled code that keeps the
interpreter's lock for longer than the timeout makes a process silent too.
"""

from __future__ import annotations

import hmac
import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from plait.engine.roster import Roster
from plait.engine.vitals import Vitals
from plait.errors import EngineError, LostRankError

logger = logging.getLogger("plait")
_MOST = 1 << 16  # bytes of a line, and of what waits to be sent: a beat is 200
_HINT = (
    "the processes were ended; go on from the last checkpoint with --resume (engine.max_restarts does it by itself). "
    "engine.timeout is how long a rank may be silent, or idle, or make the others wait in a step"
)


class Lines:
    """A socket that carries JSON values, a line each, and never waits. It does not know what they mean.

    `open` says whether more may come, `over` that the other end closed it or died (a cut wire tells neither).
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.open, self.over = True, False
        self._incoming, self._outgoing = bytearray(), bytearray()

    def send(self, value: Any) -> None:
        """Send, or keep until it can be sent; a wire that takes nothing more is left alone."""
        if len(self._outgoing) < _MOST:
            self._outgoing += json.dumps(value).encode() + b"\n"
        try:
            while self._outgoing and self.open:
                del self._outgoing[: self.socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:  # the other end has gone, which the reading side notices
            self._outgoing.clear()

    def receive(self) -> list[Any]:
        """What has come since.

        Raises:
            ValueError: what has come is no line of JSON.
        """
        try:
            while self.open and (part := self.socket.recv(_MOST)):
                self._incoming += part
            self.open, self.over = False, True
        except BlockingIOError:
            pass  # all that has come so far
        except OSError as error:  # unreachable or timed out, where it was not reset
            self.open, self.over = False, isinstance(error, ConnectionError)
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        if len(rest) > _MOST:
            raise ValueError("a line without end")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Nothing more is sent or received."""
        self.open = False
        self.socket.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """How the ranks of a training find each other, beside their collectives.

    Args:
        hosts: of all ranks, in rank order.
        port: where rank 0 listens.
        word: what a rank says first, so that no stranger is taken for one.
    """

    hosts: Sequence[str]
    port: int
    word: str


class Pulse:
    """One rank's thread. It knows neither tensors nor models, nor how a process is ended.

    Args:
        rank: of this process.
        meeting: where rank 0 is, and who else there is.
        timeout: seconds of silence, of idleness, or of making the others wait inside a step, that end the run.
        look: what this process's main thread does.
        lost: is told the error, once, in the pulse's thread.
    """

    def __init__(
        self,
        rank: int,
        meeting: Meeting,
        *,
        timeout: float,
        look: Callable[[], Vitals],
        lost: Callable[[EngineError], None],
    ) -> None:
        self._rank, self._meeting, self._timeout = rank, meeting, timeout
        self._look, self._lost = look, lost
        self._every = min(1.0, timeout / 10)
        self._peers: dict[int, Lines] = {}
        self._strangers: list[Lines] = []
        self._listener: socket.socket | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="plait-pulse")

    def answer(self, listener: socket.socket) -> None:
        """On rank 0: begin."""
        listener.setblocking(False)
        self._listener = listener
        self._thread.start()

    def call(self, address: str) -> None:
        """On another rank: begin, with rank 0's host.

        Raises:
            EngineError: it cannot be reached.
        """
        port = self._meeting.port
        try:
            connection = socket.create_connection((address, port), timeout=self._timeout)
        except OSError as error:
            raise EngineError(
                f"rank {self._rank} could not reach rank 0 on {address}:{port}: {error}",
                hint="ranks must reach each other on any port; see that no firewall is between them",
            ) from error
        self._peers[0] = Lines(connection)
        self._peers[0].send({"rank": self._rank, "word": self._meeting.word})
        self._thread.start()

    def close(self) -> None:
        """Take leave: from here on nobody waits for a sign of this rank."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        now = time.monotonic()
        ranks = range(len(self._meeting.hosts)) if self._rank == 0 else (0,)  # rank 0 judges; the others judge it
        roster = Roster(self._meeting.hosts, ranks, timeout=self._timeout, now=now)
        fault = None
        while fault is None and not self._ending.is_set():
            fault = self._listen(roster, until=now + self._every)
            before, now = now, time.monotonic()
            if now - before > 5 * self._every:
                roster.forgive(now - before)
            vitals = self._look()
            if self._rank == 0:
                roster.heard(0, vitals, now)
            self._tell({"vitals": asdict(vitals)})
            fault = fault or roster.fault(now)
            if fault is None and self._rank == 0 and (delay := roster.delay(now)):
                logger.warning("%s: it works, and is waited for", delay)
        self._tell({"bye": True} if fault is None else {"fault": fault})
        self._shut()
        if fault is not None:
            self._lost(LostRankError(fault, hint=_HINT))

    def _listen(self, roster: Roster, *, until: float) -> str | None:
        """Take in what comes; the fault, where rank 0 tells of one."""
        while (left := until - time.monotonic()) > 0 and not self._ending.is_set():
            waiting = select.poll()  # select() refuses files above 1023, which a loader's process may well reach
            for lines in (*self._peers.values(), *self._strangers):
                if lines.open:
                    waiting.register(lines.socket, select.POLLIN)
            if self._listener is not None:
                waiting.register(self._listener, select.POLLIN)
            waiting.poll(1000 * min(left, 0.1))
            self._greet()
            for rank, lines in self._peers.items():
                fault = self._hear(roster, rank, lines)
                if fault is not None:
                    return fault
        return None

    def _greet(self) -> None:
        """Take in ranks that call; a stranger is hung up on."""
        if self._listener is not None:
            with suppress(OSError):  # nobody, or somebody who has gone again
                self._strangers.append(Lines(self._listener.accept()[0]))
        for lines in list(self._strangers):
            try:
                said = lines.receive()
                if said:
                    rank, word = said[0]["rank"], said[0]["word"]
                    if not (hmac.compare_digest(word, self._meeting.word) and 0 < rank < len(self._meeting.hosts)):
                        raise ValueError("not a rank of this training")
                    self._peers[rank] = lines
            except (ValueError, TypeError, KeyError):
                lines.close()
                said = [None]
            if said or not lines.open:
                self._strangers.remove(lines)

    def _hear(self, roster: Roster, rank: int, lines: Lines) -> str | None:
        for said in lines.receive():
            if "fault" in said:
                return str(said["fault"])
            if "bye" in said:
                roster.left(rank)
            else:
                roster.heard(rank, Vitals(**said["vitals"]), time.monotonic())
        if lines.over:
            roster.ended(rank)
        return None

    def _tell(self, value: Any) -> None:
        for lines in self._peers.values():
            lines.send(value)

    def _shut(self) -> None:
        for lines in (*self._peers.values(), *self._strangers):
            lines.close()
        if self._listener is not None:
            self._listener.close()
