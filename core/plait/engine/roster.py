"""Which rank has stopped answering, or keeps the others waiting too long?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plait.engine.vitals import Vitals


@dataclass(slots=True)
class _Entry:
    heard: float
    vitals: Vitals
    left: bool = False
    ended: bool = False


class Roster:
    """What one rank knows of others: when it heard of each, and what that does. It knows no socket and no clock.

    Args:
        hosts: of all ranks, in rank order.
        ranks: the ranks that are looked after.
        timeout: seconds of silence, of idleness, or of making others wait inside a step.
        now: the time, seconds, of a clock that never goes back.
    """

    def __init__(self, hosts: Sequence[str], ranks: Sequence[int], *, timeout: float, now: float) -> None:
        self._hosts, self._timeout = hosts, timeout
        self._entries = {rank: _Entry(now, Vitals()) for rank in ranks}
        self._noted = now

    def heard(self, rank: int, vitals: Vitals, now: float) -> None:
        """A rank said what it does."""
        entry = self._entries[rank]
        entry.heard, entry.vitals = now, vitals

    def left(self, rank: int) -> None:
        """A rank took its leave: its silence means nothing any more."""
        self._entries[rank].left = True

    def ended(self, rank: int) -> None:
        """A rank's connection was closed without leave."""
        self._entries[rank].ended = True

    def forgive(self, seconds: float) -> None:
        """This process itself could not listen for so long."""
        for entry in self._entries.values():
            entry.heard += seconds

    def fault(self, now: float) -> str | None:
        """What is wrong, and with which rank; None: nothing."""
        here = {rank: entry for rank, entry in self._entries.items() if not entry.left}
        for rank, entry in here.items():
            if now - entry.heard >= self._timeout:
                how = "ended without a word" if entry.ended else "was not heard of"
                return f"{self._name(rank)} {how} for {self._timeout:g} s"
        for rank, entry in here.items():
            if entry.vitals.idle >= self._timeout:
                return f"{self._name(rank)} has done nothing for {self._timeout:g} s, in {entry.vitals.where}"
        kept = [entry for entry in here.values() if entry.vitals.waiting >= self._timeout]
        busy = [rank for rank, entry in here.items() if entry.vitals.waiting == 0]
        if kept and len(kept) == len(self._entries):
            places = "; ".join(f"{self._name(rank)} in {entry.vitals.where}" for rank, entry in here.items())
            return f"all ranks have waited for each other for {self._timeout:g} s: {places}"
        if busy and any(not entry.vitals.patient for entry in kept):
            places = "; ".join(f"{self._name(rank)}, in {here[rank].vitals.where}" for rank in busy)
            return f"a step has waited {self._timeout:g} s for {places}"
        return None

    def delay(self, now: float) -> str | None:
        """Who works outside a step while others have waited for the timeout, and for as long again since this was last
        said. Nobody can tell long work from endless work, so it is no fault; somebody who looks on may know."""
        here = {rank: entry for rank, entry in self._entries.items() if not entry.left}
        busy = [rank for rank, entry in here.items() if entry.vitals.waiting == 0]
        waits = max((entry.vitals.waiting for entry in here.values()), default=0.0)
        if not busy or waits < self._timeout or now - self._noted < self._timeout:
            return None
        self._noted = now
        places = "; ".join(f"{self._name(rank)}, in {here[rank].vitals.where}" for rank in busy)
        return f"the others have waited {waits:.0f} s for {places}"

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._hosts[rank]})"
