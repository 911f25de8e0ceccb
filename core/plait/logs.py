"""Who hears what happens in a fit? The metrics file, TensorBoard, the terminal, and plugins."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from plait.run import without_nan
from plait.sealed import storage
from plait_registry.registry import Registry

logger = logging.getLogger("plait")


class Unheard:
    """The events of a fit that nobody follows: one that repeats another fit on more data. It keeps no position."""

    def started(self, *, step: int, total: int | None, unit: str) -> None: ...

    def rewind(self, position: Mapping[str, Any]) -> None: ...

    def position(self) -> Mapping[str, Any]:
        return {}

    def stepped(self, step: int) -> None: ...

    def warned(self, message: str) -> None:
        logger.warning(message)

    def logged(self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None) -> None: ...

    def evaluated(self, step: int, split: str, metrics: Mapping[str, float]) -> None: ...

    def saved(self, step: int, checkpoint: Path) -> None: ...


class Listeners:
    """The events of one fit, told to everybody who listens. It carries no state of its own."""

    def __init__(self, run: Path, registry: Registry, *, display: Display | None, tensorboard: bool) -> None:
        self._run, self._registry, self._display = run, registry, display
        self._metrics = MetricsFile(run / "metrics.jsonl")
        self._board = TensorBoard(run / "tensorboard") if tensorboard else None

    def started(self, *, step: int, total: int | None, unit: str) -> None:
        logger.info("fit starts at %s %d of %s", unit, step, total)
        if self._display:
            self._display.started(step, total, unit)

    def rewind(self, position: Mapping[str, Any]) -> None:
        self._metrics.rewind(int(position.get("metrics", 0)))
        if self._board and not position:
            self._board.clear()

    def position(self) -> Mapping[str, Any]:
        return {"metrics": self._metrics.position()}

    def stepped(self, step: int) -> None:
        if self._display:
            self._display.stepped(step)

    def warned(self, message: str) -> None:
        logger.warning(message)

    def logged(self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None) -> None:
        self._record(step, "train", metrics, speed)
        if self._display:
            self._display.logged(step, metrics)
        self._notify("plait_step_logged", step=step, metrics=dict(metrics))

    def evaluated(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        self._record(step, split, metrics)
        if self._display:
            self._display.evaluated(step, split, metrics)
        self._notify("plait_evaluated", step=step, split=split, metrics=dict(metrics))

    def judged(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """The final model was judged; its numbers are in run.json, and trackers hear of them."""
        self._notify("plait_evaluated", step=step, split=split, metrics=dict(metrics))

    def saved(self, step: int, checkpoint: Path) -> None:
        logger.debug("checkpoint saved: %s", checkpoint)
        self._notify("plait_checkpoint_saved", step=step, checkpoint=checkpoint)

    def fit_started(self, recipe: Mapping[str, Any]) -> None:
        self._notify("plait_fit_started", recipe=dict(recipe))

    def fit_ended(self, status: str) -> None:
        if self._display:
            self._display.close()
        self._metrics.close()
        if self._board:
            self._board.close()
        self._notify("plait_fit_ended", status=status)

    def _record(
        self, step: int, split: str, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None
    ) -> None:
        self._metrics.write(step, split, metrics, speed)
        if self._board:
            scalars = {f"{split}/{name}": number for name, number in metrics.items()}
            self._board.write(step, scalars | {f"speed/{name}": number for name, number in (speed or {}).items()})

    def _notify(self, event: str, **payload: Any) -> None:
        for warning in self._registry.notify(event, run=self._run, **payload):
            logger.warning(warning)


class Nobody(Unheard):
    """The events of a fit on a rank that leaves all of them, and the run's own, to rank 0."""

    def warned(self, message: str) -> None: ...

    def judged(self, step: int, split: str, metrics: Mapping[str, float]) -> None: ...

    def fit_started(self, recipe: Mapping[str, Any]) -> None: ...

    def fit_ended(self, status: str) -> None: ...


class MetricsFile:
    """metrics.jsonl: one line for each logged step and evaluation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._started = time.monotonic()

    def rewind(self, position: int) -> None:
        with storage(f"{self._path}: could not be opened"):
            self.close()
            self._path.touch()
            if position < self._path.stat().st_size:  # a shorter file, which somebody else cut, must not get zero bytes
                os.truncate(self._path, position)
            # unbuffered: on a full disk nothing is left over for close() to fail on
            self._file = self._path.open("ab", buffering=0)

    def position(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def write(
        self, step: int, split: str, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None
    ) -> None:
        if self._file is None:
            self.rewind(self.position())
        assert self._file is not None
        seconds = round(time.monotonic() - self._started, 3)
        line = {"step": step, "split": split, "metrics": without_nan(dict(metrics)), "seconds": seconds}
        if speed:
            line["speed"] = dict(speed)
        text = f"{json.dumps(line)}\n".encode()
        with storage(f"{self._path}: could not be written"):
            if self._file.write(text) < len(text):  # the last bytes of a disk: half a line is worse than none
                raise OSError(errno.ENOSPC, "no space is left for a whole line")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoard:
    """Scalars as TensorBoard events; the writer is made at the first of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Any = None
        self._broken = False

    def clear(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Scalars by their whole names, as one event: six of their own would cost 0.18 ms, one costs 0.04."""
        if self._broken:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._directory), purge_step=step)
        values = [Summary.Value(tag=name, simple_value=number) for name, number in scalars.items()]
        try:
            self._writer.file_writer.add_summary(Summary(value=values), step)
        except OSError as error:  # a picture of the run is not worth the run
            self._give_up(error)

    def close(self) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)
            self._writer = None

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            logger.warning("%s: TensorBoard events are no longer written: %s", self._directory, error)
        self._broken = True


class Display:
    """Progress on stderr: a bar with rate, loss and time left on a terminal, else a plain line now and then."""

    def __init__(self, *, every: float = 10.0) -> None:
        self._every = every
        self._bar: Any = None
        self._task: Any = None
        self._first = 0
        self._total: int | None = None
        self._unit = "step"
        self._begun = self._shown = time.monotonic()
        self._text = ""

    def started(self, step: int, total: int | None, unit: str) -> None:
        self._first, self._total, self._unit = step, total, unit
        self._begun = self._shown = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(unit, total=total, completed=step, text="", rate="")
            self._bar.start()

    def stepped(self, step: int) -> None:
        now = time.monotonic()
        if self._bar is not None:
            if now - self._shown > 0.1:
                self._shown = now
                self._bar.update(self._task, completed=step, text=self._text, rate=f"{self._rate(step, now):.1f}/s")
        elif now - self._shown > self._every:
            self._shown = now
            self._line(step, now)

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self._text = f"loss {metrics['loss']:.4g}"
        elif metrics:
            name, number = next(iter(metrics.items()))
            self._text = f"{name} {number:.5g}"

    def evaluated(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {number:.4g}" for name, number in list(metrics.items())[:3])
        text = f"{self._unit} {step}: {self._text + ', ' if self._text else ''}{split} {shown}"
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        elif step == self._total or time.monotonic() - self._shown > self._every / 10:
            self._shown = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _rate(self, step: int, now: float) -> float:
        return (step - self._first) / max(1e-9, now - self._begun)

    def _line(self, step: int, now: float) -> None:
        rate = self._rate(step, now)
        left = ""
        if self._total and rate:
            left = f", {(self._total - step) / rate:.0f} s left"
        of = f"/{self._total}" if self._total else ""
        print(f"{self._unit} {step}{of}: {self._text}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Inside, what Plait logs also goes to the run's log.txt."""
    with storage(f"{path}: could not be opened"):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.INFO)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is told by what matters
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
