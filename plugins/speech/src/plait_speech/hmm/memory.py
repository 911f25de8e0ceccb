"""Does what a recursion needs fit into memory, and which utterance asks for too much?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plait.errors import DataError
from plait_speech.audio import Utterance

_MEMINFO = Path("/proc/meminfo")
_GIB = 1 << 30


def available_memory() -> int | None:
    """Bytes that the system would give, without swapping; None where it does not say (it is Linux that does)."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in lines if ":" in line).get("MemAvailable")
    return None if found is None else int(found.split()[0]) * 1024


def check_memory(utterances: Sequence[Utterance], needed: Sequence[int], *, together: bool, hint: str) -> None:
    """Refuse, before anything is allocated, what would be killed for want of memory.

    Args:
        needed: bytes that each utterance takes at the most.
        together: all are in memory at once; else one at a time.
        hint: what to do.

    Raises:
        DataError: names the utterance that takes most, and the numbers.
    """
    available = available_memory()
    if available is None or not needed:
        return
    total = sum(needed) if together else max(needed)
    if total <= available:
        return
    largest = max(range(len(needed)), key=needed.__getitem__)
    each = utterances[largest]
    whole = f"{len(needed)} utterances take {total / _GIB:.1f} GiB; " if together and len(needed) > 1 else ""
    raise DataError(
        f"{whole}{each.id or f'utterance {largest}'} of {each.seconds:.1f} s alone takes {needed[largest] / _GIB:.1f} "
        f"GiB, and {available / _GIB:.1f} GiB of memory are free",
        hint=hint,
        details={"utterance": each.id, "seconds": each.seconds, "needed": total, "available": available},
    )
