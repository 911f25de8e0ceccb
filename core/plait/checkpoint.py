"""Which state can a run go on from, and is it whole?"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.engine.agreement import agree, on_first
from plait.engine.base import Engine
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


class Checkpoints:
    """The checkpoints of one run: written beside and renamed into place, newest good one first.

    It does not know what a trainer's state means, nor how an engine lays out its shards.
    """

    def __init__(self, root: Path, *, engine: Engine, keep_last: int, warn: Callable[[str], None]) -> None:
        self.root = root
        self._engine = engine
        self._keep_last = keep_last
        self._warn = warn

    def clear_leftovers(self) -> None:
        """Put back what a killed writer had moved aside, and remove what it left unfinished."""
        if self._engine.rank == 0 and self.root.is_dir():
            for path in self.root.glob(".step-*"):
                recover(self.root / path.stem.removeprefix("."))
            for path in self.root.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)
        self._engine.barrier()

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        write: Callable[[Path], None],
        *,
        keep: Collection[int] = (),
    ) -> Path:
        """Save on all ranks, or on none.

        Args:
            step: optimizer steps (iterations) done.
            state: the trainer's own values, JSON.
            write: writes this rank's tensors into the directory.
            keep: steps whose checkpoints outlive newer ones (the best).

        Raises:
            StorageError: the disk is full or read-only; older checkpoints are untouched.
        """
        engine = self._engine
        final = self.root / f"step-{step:08d}"
        temporary = self.root / f".{final.name}.writing"
        failure: Exception | None = None
        try:
            with storage(f"{final}: the checkpoint could not be written"):
                if engine.rank == 0:
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir(parents=True)
        except Exception as error:  # every rank must learn of it before any of them raises
            failure = error
        self._agree(failure, temporary)
        try:
            with storage(f"{final}: the checkpoint could not be written"):
                write(temporary)
                self._save_generators(temporary)
        except Exception as error:  # as above
            failure = error
        self._agree(failure, temporary)
        try:
            with storage(f"{final}: the checkpoint could not be written"):
                if engine.rank == 0:
                    body = json.dumps({"step": step, "world_size": engine.world_size, "state": dict(state)}, indent=1)
                    (temporary / "trainer.json").write_text(body, encoding="utf-8")
                    seal(temporary)
                    publish(temporary, final)
        except Exception as error:  # as above
            failure = error
        self._agree(failure, temporary)
        if engine.rank == 0:
            self._prune(keep={step, *keep})
        return final

    def newest(self) -> Checkpoint | None:
        """The newest good checkpoint; damaged ones are reported and passed over. None where there is none at all.

        Raises:
            IntegrityError: there are checkpoints, but none of them is good.
        """
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
        if not stem.with_suffix(".json").is_file():
            return  # saved by fewer ranks: this one starts from the seed
        states: dict[str, Any] = dict(load_tensors(stem.with_suffix(".safetensors")))
        states["values"] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        restore_generators(states)

    def _save_generators(self, directory: Path) -> None:
        states = generator_states()
        stem = directory / f"random-{self._engine.rank:05d}"
        stem.with_suffix(".json").write_text(json.dumps(states.pop("values")), encoding="utf-8")
        save_tensors(states, stem.with_suffix(".safetensors"))

    def _agree(self, failure: Exception | None, temporary: Path) -> None:
        """Raise on every rank when any rank failed, and leave nothing unfinished behind."""
        try:
            agree(self._engine, failure)
        except Exception:
            if self._engine.rank == 0:
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
