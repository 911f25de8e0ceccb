"""Models that fail on one of several processes, for tests of what the others and the launcher do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import plait
from plait.engine.agent import ATTEMPT
from plait.engine.shards import Shards
from plait.errors import DataError
from plait.model import Batch, Output
from plait_registry import ModelSpec
from tests.toys import Net, NetOptions, Points, points

AWKWARD: dict[str, Any] = {"model": {"dropout": 0.3, "noise": 0.1, "slow": 0.3}, "save_every": 2}
"""What a resume has much to get wrong with; slow enough to be disturbed."""
QUIET = {"baselines": False, "report": False, "tensorboard": False}


written = Shards.write


def scant(shards: Shards, directory: Path) -> None:
    """Write where there is little room: the system itself refuses."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        written(shards, directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TroubleOptions(NetOptions):
    trouble: str = "none"
    """What rank 1 does: "raise", "nan", "hang", "busy" or "stop" at its fourth forward; "full": from then on its disk
    takes no file above 500 bytes; "kill" at its seventh, unless it was restarted. What rank 0 does while it fits the
    processor: "data" is an error, "read" hangs, "long" works."""
    slow: float = 0.0
    """Seconds of each training forward, so that a signal finds the fit in the middle."""


class Trouble(Net):
    """The toy network; rank 1 may fail."""

    Options = TroubleOptions
    spec = ModelSpec(
        name="toy/trouble", summary="Fails on rank 1.", target="tests.core.launch_cases:Trouble",
        tasks=("toy/points",), trainer="gradient",
    )  # fmt: skip

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Any, train: Any, seed: int) -> Any:
        if options.trouble == "data":
            raise DataError("row 3 is not for tokenizers", hint="mend it")
        if options.trouble == "read":
            time.sleep(3600)
        begun = time.monotonic()
        while options.trouble == "long" and time.monotonic() - begun < 15:
            sum(range(1000))
        return super().fit_processor(options=options, problem=problem, train=train, seed=seed)

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        again = os.environ.get(ATTEMPT) != "0"
        if self.training and os.environ.get("RANK") == "1":
            if self.options.trouble == "raise" and self.forwards == 4:
                raise ValueError("a fault of rank 1 only")
            if self.options.trouble == "kill" and self.forwards == 7 and not again:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.options.trouble == "full" and self.forwards == 4:
                Shards.write = scant  # type: ignore[method-assign]
            while self.options.trouble == "busy" and self.forwards == 4:
                sum(range(1000))
            if self.options.trouble == "hang" and self.forwards == 4:
                time.sleep(3600)
            if self.options.trouble == "stop" and self.forwards == 4 and not again:
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.options.trouble == "nan" and self.forwards == 4 and output.loss is not None:
                return Output(output.loss * float("nan"), output.logits)
        if self.training:
            time.sleep(self.options.slow)
        return output


def fit(out: Path, *, processes: int = 2, stage: int = 2, trouble: str = "none", **options: Any) -> plait.Run:
    """A short training of the toy network in several processes, or in this one."""
    engine = {"device": "cpu", **options.pop("engine", {})}
    if processes > 1:
        engine |= {"processes": processes, "zero_stage": stage}
    data = options.pop("data", None) or points()
    resume, model = options.pop("resume", False), {"trouble": trouble, **options.pop("model", {})}
    return plait.train(
        Points, {"name": "toy/trouble", **model}, data, seed=3, out=out, engine=engine, output=QUIET,
        trainer={"epochs": 4, "batch_size": 16, "log_every": 1, "average": 0.9, **options}, resume=resume,
        registry=plait.registry(Points, Trouble),
    )  # fmt: skip
