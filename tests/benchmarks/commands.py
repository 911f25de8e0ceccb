"""What does a command cost, and what does it print?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAIT = (sys.executable, "-m", "plait")


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended well.

    Args:
        output: its standard output.
        cpu: user and system seconds, those of its children included.
        wall: seconds.
    """

    output: str
    cpu: float
    wall: float

    @property
    def document(self) -> Any:
        """The JSON that it printed."""
        return json.loads(self.output)


def run(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end in a folder.

    Args:
        environment: variables beside those of this process.

    Raises:
        RuntimeError: it failed; the message has what it said.
    """
    import resource  # not on Windows, where the other tests run

    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Ran(done.stdout, cpu, wall)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers as they are given."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    print(f"\n\n{title}\n")
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
