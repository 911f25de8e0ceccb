"""How does a test run a function in several processes at once?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would set."""
    return {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def run(function: str, size: int, folder: Path, *, environ: Mapping[str, str] | None = None, **options: Any) -> None:
    """Call `module:function(folder, **options)` in `size` processes and wait for them; options are JSON values.

    The first process that fails ends the others, and its stderr is the assertion's text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, running = free_port(), []
    base = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **(environ or {})}
    for rank in range(size):
        command = [sys.executable, "-m", "tests.processes", function, str(folder), json.dumps(options)]
        stderr = (folder / f"stderr-{size}-{rank}.txt").open("w+")
        process = subprocess.Popen(
            command, cwd=ROOT, env={**base, **variables(rank, size, port)}, stderr=stderr, stdout=subprocess.PIPE
        )
        running.append((process, stderr))
    try:
        waiting = list(running)
        end = time.monotonic() + 600  # a busy machine
        while waiting:
            for process, stderr in list(waiting):
                if process.poll() is not None:
                    stderr.seek(0)
                    assert process.returncode == 0, stderr.read()[-6000:]
                    waiting.remove((process, stderr))
            assert time.monotonic() < end, "the processes wait for each other"
            if waiting:
                waiting[0][0].poll() or _pause(waiting[0][0])
        for process, _ in running:
            assert process.stdout is not None
            assert process.stdout.read() == b"", "something was printed on stdout"
    finally:
        for process, stderr in running:
            process.kill()
            process.wait()
            stderr.close()
            if process.stdout is not None:
                process.stdout.close()


def _pause(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        return


if __name__ == "__main__":
    module, name = sys.argv[1].split(":")
    getattr(import_module(module), name)(Path(sys.argv[2]), **json.loads(sys.argv[3]))
    from plait.engine.group import disconnect

    disconnect()
