"""Which state can a run go on from, and is it whole?"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from plait.engine.agreement import agree, on_first
from plait.engine.base import Channel, Engine
from plait.errors import IntegrityError
from plait.randomness import generator_states, restore_generators
from plait.sealed import publish, recover, seal, storage, verify
from plait.weights import load_tensors, save_tensors

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk.

    Args:
        path: its directory.
        step: optimizer steps (iterations) done.
        state: the trainer's own values.
    """

    path: Path
    step: int
    state: Mapping[str, Any]


class Part(Protocol):
    """A copy of one rank's tensors, to be written in whatever time it takes."""

    @property
    def size(self) -> int:
        """Bytes."""

    def write(self, directory: Path) -> None:
        """Write it; perhaps from another thread."""


class Checkpoints:
    """The checkpoints of one run: written beside and renamed into place, newest good one first.

    It does not know what a trainer's state means, nor how an engine lays out its shards. Made on all ranks together.

    Args:
        keep_last: how many outlive newer ones.
        background: write in a thread, while training goes on.
        warn: is told of damaged checkpoints.
        saved: is told step and directory of each that is on disk, in the thread that saves.
    """

    def __init__(
        self, root: Path, *, engine: Engine, keep_last: int, background: bool, warn: Callable[[str], None],
        saved: Callable[[int, Path], None],
    ) -> None:  # fmt: skip
        self.root = root
        self._engine = engine
        self._keep_last = keep_last
        self._warn, self._saved = warn, saved
        self._channel = engine.channel() if background else None
        self._writer: Writer | None = None

    def clear_leftovers(self) -> None:
        """Put back what a killed writer had moved aside, and remove what it left unfinished."""
        if self._engine.rank == 0 and self.root.is_dir():
            for path in self.root.glob(".step-*"):
                recover(self.root / path.stem.removeprefix("."))
            for path in self.root.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)
        self._engine.barrier()

    def save(
        self, step: int, state: Mapping[str, Any], copy: Callable[[], Part], *, keep: Collection[int] = ()
    ) -> None:
        """Save on all ranks, or on none; after `settle` it is on disk. Collective.

        Args:
            step: optimizer steps (iterations) done.
            state: the trainer's own values, JSON.
            copy: takes a copy of this rank's part, which is written while training goes on.
            keep: steps whose checkpoints outlive newer ones (the best).

        Raises:
            StorageError: this one, or the one before it, could not be written: the disk of some rank is full or
                read-only. Older checkpoints are untouched.
        """
        self.settle()
        engine, final = self._engine, self.root / f"step-{step:08d}"
        temporary = self.root / f".{final.name}.writing"
        failure: Exception | None = None
        part, random = None, None
        try:
            with storage(f"{final}: the checkpoint could not be written"):
                if engine.rank == 0:
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir(parents=True)
            part, random = copy(), generator_states()
        except Exception as error:  # every rank must learn of it before any of them raises
            failure = error
        self._agree(engine, failure, temporary)
        assert part is not None
        assert random is not None
        text = json.dumps({"step": step, "world_size": engine.world_size, "state": dict(state)}, indent=1)
        write = partial(self._write, final, temporary, part, random, text, {step, *keep})
        if self._channel is None:
            write(engine)
            self._saved(step, final)
        else:
            self._writer = Writer(partial(write, self._channel), partial(self._saved, step, final))

    def poll(self) -> bool:
        """Whether a checkpoint that was written in the meantime failed; one that is on disk is told of. It waits for
        nothing, and may be the case on one rank before it is on others: `settle` raises on all."""
        writer = self._writer
        if writer is None or writer.running:
            return False
        if not writer.failed:
            self.settle()
        return writer.failed

    def settle(self) -> None:
        """Wait until the newest checkpoint is on disk. Ranks may call it at different times.

        Raises:
            StorageError: it could not be written, on some rank.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.settle()

    def close(self) -> None:
        """Wait for what is being written, however it ends; where another error is on its way."""
        try:
            self.settle()
        except Exception as error:
            self._warn(f"the newest checkpoint was not saved: {error}")

    def _write(
        self, final: Path, temporary: Path, part: Part, random: Mapping[str, Any], text: str, keep: Collection[int],
        channel: Channel,
    ) -> None:  # fmt: skip
        """Write this rank's part; rank 0 publishes the whole once all ranks have written theirs."""
        who = f"rank {channel.rank} could not write its part" if channel.world_size > 1 else "it could not be written"
        what = f"{final}: {who}, {part.size:,} bytes"
        failure: Exception | None = None
        try:
            with storage(what):
                part.write(temporary)
                _save_generators(random, temporary / f"random-{channel.rank:05d}")
        except Exception as error:  # as above
            failure = error
        self._agree(channel, failure, temporary)
        try:
            with storage(f"{final}: the checkpoint could not be written"):
                if channel.rank == 0:
                    (temporary / "trainer.json").write_text(text, encoding="utf-8")
                    seal(temporary)
                    publish(temporary, final)
        except Exception as error:  # as above
            failure = error
        self._agree(channel, failure, temporary)
        if channel.rank == 0:
            self._prune(keep=keep)

    def newest(self) -> Checkpoint | None:
        """The newest good checkpoint; damaged ones are reported and passed over. None where there is none at all.

        Raises:
            IntegrityError: there are checkpoints, but none of them is good.
        """
        self.settle()
        step = on_first(self._engine, self._newest_step)  # one reading of every byte, and one choice
        return None if step is None else self._opened(step)

    def _newest_step(self) -> int | None:
        damaged: list[str] = []
        for step in sorted(self._steps(), reverse=True):
            try:
                self.at(step)
            except IntegrityError as error:
                damaged.append(error.message)
                continue
            for message in damaged:
                self._warn(f"damaged checkpoint passed over: {message}")
            return step
        if damaged:
            raise IntegrityError(
                f"no checkpoint in {self.root} is good: {'; '.join(damaged)}",
                hint="restore one from a copy, or train anew with another --out",
            )
        return None

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
            IntegrityError: it is absent or damaged.
        """
        verify(self.root / f"step-{step:08d}")
        return self._opened(step)

    def _opened(self, step: int) -> Checkpoint:
        path = self.root / f"step-{step:08d}"
        body = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        return Checkpoint(path, body["step"], body["state"])

    def chosen(self, step: int) -> Checkpoint:
        """The checkpoint of the step that a fit ends with.

        Raises:
            IntegrityError: as `at`; says how to end without it.
        """
        self.settle()
        try:
            on_first(self._engine, lambda: self.at(step).step)
            return self._opened(step)
        except IntegrityError as error:
            raise IntegrityError(
                f"the best checkpoint is damaged: {error.message}",
                hint="restore it from a copy, or resume with trainer.select=last to end with the newest weights",
            ) from error

    def restore_generators(self, checkpoint: Checkpoint) -> None:
        """Put this rank's global random generators where they were."""
        stem = checkpoint.path / f"random-{self._engine.rank:05d}"
        if not stem.with_suffix(".json").is_file():
            return  # the run had fewer ranks: this one goes on with numbers of its own
        states: dict[str, Any] = dict(load_tensors(stem.with_suffix(".safetensors")))
        states["values"] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        restore_generators(states)

    def _agree(self, channel: Channel, failure: Exception | None, temporary: Path) -> None:
        """Raise on every rank when any rank failed, and leave nothing unfinished behind."""
        try:
            agree(channel, failure)
        except Exception:
            if channel.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _prune(self, *, keep: Collection[int]) -> None:
        steps = sorted(self._steps())
        for step in set(steps) - set(steps[-self._keep_last :]) - set(keep):
            shutil.rmtree(self.root / f"step-{step:08d}", ignore_errors=True)

    def _steps(self) -> list[int]:
        if not self.root.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.root.iterdir())
        return [int(match[1]) for match in found if match]


class Writer:
    """A thread that writes one checkpoint. It knows nothing of what it calls.

    Args:
        write: is called in the thread.
        done: is called by `settle`, once `write` has ended well.
    """

    def __init__(self, write: Callable[[], None], done: Callable[[], None]) -> None:
        self._write, self._done = write, done
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="plait-checkpoint")
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def failed(self) -> bool:
        return self._error is not None

    def settle(self) -> None:
        """Wait for it; raises what `write` raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._done()

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:
            self._error = error


def _save_generators(random: Mapping[str, Any], stem: Path) -> None:
    states = dict(random)
    stem.with_suffix(".json").write_text(json.dumps(states.pop("values")), encoding="utf-8")
    save_tensors(states, stem.with_suffix(".safetensors"))
