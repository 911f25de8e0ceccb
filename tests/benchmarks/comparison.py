"""What does a step of a trainer cost, measured beside the same step of a loop written by hand?

They take turns, a step each: at the end of every step the trainer calls back, and the hand-written loop makes its step
there; then a second hand-written loop makes its own, whose ratio to the first says how far the numbers can be trusted.
So whatever else the machine does falls on all alike. A step counts with all that belongs to it: the batch, the update,
what the trainer logs every 10 steps. Set-up, checkpoints and reports are outside, and so are the first steps, in which
torch prepares kernels and memory. Nothing is subtracted. A round is some steps in a row; its ratio is the CPU time of
the trainer's steps over the mean of the two hand-written loops', and the median over the rounds is what counts.

A comparison is a process of its own, with one thread and with an allocator that keeps what is freed. By itself glibc
gives memory back to the system and asks for it again, more or less of it in each process by chance: 5,000 to 23,000
page faults in a step of resnet18, a quarter of its time, in whichever loop is unlucky.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.commands import run

WARM_UP = 4  # steps that do not count
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),  # bytes; glibc's, other allocators do not look at it
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # bytes: the largest that glibc takes
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A trainer beside the hand-written loop.

    Args:
        ratios: CPU time of the trainer over the mean of the two hand-written loops, for each round.
        added: seconds of CPU time that a step of the trainer takes more than that mean, for each round.
        floor: that of the second hand-written loop over the first: what the machine adds.
        cpu, wall: median seconds of a step, of the trainer.
        cpu_by_hand, wall_by_hand: the same of the hand-written loop.
        equal: whether all parameters and buffers ended equal, bit for bit.
    """

    ratios: Sequence[float]
    added: Sequence[float]
    floor: Sequence[float]
    cpu: float
    wall: float
    cpu_by_hand: float
    wall_by_hand: float
    equal: bool

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)


BY_HAND = "tests.benchmarks.loops:by_hand"


def compare(
    trainer: str, network: str, *, rounds: int, steps: int, clip: float | None = None, hand: str = BY_HAND,
    processes: int = 1,
) -> Comparison:  # fmt: skip
    """Train a network by a trainer and by hand, so many rounds of so many steps, in a fresh process.

    Args:
        trainer: "module:function", a `loops.Trainer`.
        network: a key of `workloads.WORKS`.
        clip: the largest norm of the gradient, for all.
        hand: "module:function", the loop beside which the trainer is put.
        processes: that train together; the figures are those of the first.

    Raises:
        RuntimeError: the process failed; the message has what it said.
    """
    root = Path(__file__).resolve().parents[2]
    wanted = json.dumps(
        {"trainer": trainer, "network": network, "rounds": rounds, "steps": steps, "clip": clip, "hand": hand}
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", __name__, wanted]
    done = run(command, folder=root, environment=ENVIRONMENT)
    return Comparison(**json.loads(done.output.splitlines()[-1]))  # libraries print too


class Turns:
    """A trainer and hand-written loops, which make a step each in turn. It does not know what a step does.

    Args:
        loops: the hand-written ones.
    """

    def __init__(self, *loops: Iterator[None]) -> None:
        self._loops = loops
        self.cpu: list[list[float]] = [[] for _ in range(1 + len(loops))]
        """Seconds of each step: of the trainer, then of each loop."""
        self.wall: list[list[float]] = [[] for _ in range(1 + len(loops))]
        self._since = time.process_time(), time.perf_counter()

    def after_step(self) -> None:
        """The trainer has made a step; now it is the others' turn."""
        self._count(0)
        for index, loop in enumerate(self._loops):
            next(loop)
            self._count(1 + index)

    def _count(self, index: int) -> None:
        self.cpu[index].append(time.process_time() - self._since[0])
        self.wall[index].append(time.perf_counter() - self._since[1])
        self._since = time.process_time(), time.perf_counter()


def compare_here(trainer: str, network: str, *, rounds: int, steps: int, clip: float | None, hand: str) -> Comparison:
    """`compare`, in this process."""
    import torch

    from tests.benchmarks.workloads import make

    def found(target: str) -> Any:
        module, name = target.split(":")
        return getattr(import_module(module), name)

    torch.set_num_threads(1)
    work = make(network, steps=WARM_UP + rounds * steps, clip=clip)
    own, other = work.bare(), work.bare()
    by_hand = found(hand)
    turns = Turns(by_hand(own, work), by_hand(other, work))
    with tempfile.TemporaryDirectory() as folder:
        trained = found(trainer)(work, Path(folder), turns.after_step)
    theirs, once, again = (np.array(each[WARM_UP:]).reshape(rounds, steps).sum(1) for each in turns.cpu)
    cpu, wall = ([statistics.median(each[WARM_UP:]) for each in times] for times in (turns.cpu, turns.wall))
    expected = own.state_dict()
    return Comparison(
        ratios=(2 * theirs / (once + again)).tolist(),
        added=((theirs - (once + again) / 2) / steps).tolist(),
        floor=(again / once).tolist(),
        cpu=cpu[0],
        wall=wall[0],
        cpu_by_hand=cpu[1],
        wall_by_hand=wall[1],
        equal=all(torch.equal(each, expected[name]) for name, each in trained.state_dict().items()),
    )


if __name__ == "__main__":
    found = compare_here(**json.loads(sys.argv[1]))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(asdict(found)))
