"""Which examples form which batch on which rank, and how do they get there?

The order of an epoch is a permutation drawn from (seed, epoch). The global batch is formed first, then split over ranks
and micro-batches, unevenly if need be. So the position of a run is one number, the step, whatever the number of ranks,
the micro-batch size or the number of loader processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from plait.errors import PlaitError, RecipeError
from plait.evaluation import share
from plait.model import Batch, Key, Processor
from plait.task import Split, examples_at

_POOL = 50  # batches whose examples are sorted together: enough for little padding, few enough to stay well mixed


class Plan(NamedTuple):
    """One micro-batch.

    Args:
        epoch: which pass it belongs to.
        indices: the positions of its examples in the split.
        borrowed: another rank has these examples too; they count nothing here, and only keep this rank in step. An
            empty batch would do, but for layers such as batch norm, which cannot train on one.
    """

    epoch: int
    indices: tuple[int, ...]
    borrowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The sequence of batches of a training run, as arithmetic.

    Args:
        examples: what an epoch visits: the processor's units of the training split.
        epochs: passes over it.
        batch_size: examples of the global batch; an epoch's last one may be short.
        micro_batch_size: examples of one forward on one rank; None: the rank's whole share.
        rank, world_size: which part this process computes.
        max_steps: optimizer steps at most.
        lengths: of the examples, where batches are to be of like length; None: batches are drawn without regard to it.
    """

    examples: int
    epochs: int
    batch_size: int
    seed: int
    micro_batch_size: int | None = None
    rank: int = 0
    world_size: int = 1
    max_steps: int | None = None
    lengths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < self.world_size:
            raise RecipeError(
                f"trainer.batch_size={self.batch_size} is smaller than engine.processes={self.world_size}",
                hint="the batch size is global; give each process at least one example",
            )

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_size)

    @property
    def total_steps(self) -> int:
        total = self.epochs * self.steps_per_epoch
        return total if self.max_steps is None else min(total, self.max_steps)

    def permutation(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The order of an epoch's examples.

        With `lengths`, each pool of 50 batches is sorted by length and cut into batches, which are then shuffled; the
        short last batch stays last.
        """
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(self.examples)
        if self.lengths is None:
            return order
        lengths, pool = np.asarray(self.lengths), _POOL * self.batch_size
        for first in range(0, len(order), pool):
            part = order[first : first + pool]
            order[first : first + pool] = part[np.argsort(lengths[part], kind="stable")]
        whole = len(order) // self.batch_size * self.batch_size
        batches = order[:whole].reshape(-1, self.batch_size)
        return np.concatenate([batches[generator.permutation(len(batches))].reshape(-1), order[whole:]])

    def steps(self, start: int) -> Iterator[list[Plan]]:
        """From step `start` on: the micro-batches of this rank, as many on every rank (some may be borrowed)."""
        epoch, order, per_epoch = -1, np.empty(0, dtype=np.int64), self.steps_per_epoch
        for step in range(start, self.total_steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = self.permutation(epoch)
            first = step % per_epoch * self.batch_size
            yield self.share(epoch, order[first : first + self.batch_size])

    def share(self, epoch: int, batch: np.ndarray[Any, np.dtype[np.int64]]) -> list[Plan]:
        """This rank's micro-batches of a global batch; shares differ by one example at most."""
        largest = -(-len(batch) // self.world_size)
        micro = self.micro_batch_size or largest
        low, spare_ranks = divmod(len(batch), self.world_size)  # the first so many ranks have one example more
        begin = self.rank * low + min(self.rank, spare_ranks)
        own = batch[begin : begin + low + (self.rank < spare_ranks)].tolist()
        parts = [tuple(own[first : first + micro]) for first in range(0, largest, micro)]
        if all(parts):
            return [Plan(epoch, part) for part in parts]
        spare = tuple(batch[: min(micro, largest)].tolist())  # of rank 0, whose share is never smaller
        return [Plan(epoch, part) if part else Plan(epoch, spare, borrowed=True) for part in parts]


def training_batches(
    split: Split, processor: Processor, order: Order, *, start: int, workers: int, pin_memory: bool
) -> Iterator[list[Batch]]:
    """Collated micro-batches, one list a step, made in `workers` loader processes (0: in this one)."""
    collate = _Collate(split, processor, order.seed, training=True)
    if workers == 0:
        for plans in order.steps(start):
            batches_here = [_raised(collate[plan]) for plan in plans]
            yield [batch.pin_memory() for batch in batches_here] if pin_memory else batches_here
        return
    plans_ahead = order.steps(start)
    batches = iter(_loader(collate, _Plans(order, start), workers, pin_memory))
    for plans in plans_ahead:
        yield [_raised(next(batches)) for _ in plans]


def evaluation_batches(
    split: Split, processor: Processor, *, batch_size: int, rank: int, world_size: int, workers: int, pin_memory: bool
) -> Iterator[tuple[Sequence[Any], Batch]]:
    """Examples of this rank's part of a split and their batch, as many batches on every rank (some may be empty)."""
    collate = _Collate(split, processor, 0, training=False, keep_examples=True)
    own = evaluation_shares(len(split), batch_size=batch_size, rank=rank, world_size=world_size)
    plans = [Plan(0, tuple(each)) for each in own]
    source: Any = map(collate.__getitem__, plans) if workers == 0 else _loader(collate, plans, workers, pin_memory)
    for item in source:
        made: _Judged = _raised(item)
        yield made.examples, made.batch


def evaluation_shares(length: int, *, batch_size: int, rank: int, world_size: int) -> list[range]:
    """The batches of a split that a rank judges, as many on every rank (some may be empty).

    The split is cut into batches first, and whole batches are dealt, contiguous and in rank order: matrix kernels round
    by the size of a batch, and so predictions would differ in their last bits between one process and several.
    """
    total = -(-length // batch_size)
    own = share(total, rank=rank, world_size=world_size)
    found = [range(each * batch_size, min(length, (each + 1) * batch_size)) for each in own]
    return found + [range(0)] * (max(1, -(-total // world_size)) - len(found))


def loader_processes(wanted: int | None, split: Split) -> int:
    """How many loader processes to use: what is asked for, else none for data in memory, else the cores, up to 4."""
    if wanted is not None:
        return wanted
    if getattr(split, "in_memory", isinstance(split, list | tuple)):
        return 0
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Examples and their batch; torch's loader pins what has this method, and would take any sequence of examples apart
    into a list, and a column of a million rows into so many objects."""

    examples: Sequence[Any]
    batch: Batch

    def pin_memory(self) -> _Judged:
        return replace(self, batch=self.batch.pin_memory())


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error that a loader process hands over whole, where torch would turn it into a traceback's text."""

    error: PlaitError


class _Keys(Sequence[Key]):
    """Keys of a batch's examples, made when they are looked at: one costs 0.8 us, and many processors look at none."""

    def __init__(self, seed: int, epoch: int, indices: Sequence[int]) -> None:
        self._seed, self._epoch, self._indices = seed, epoch, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return _Keys(self._seed, self._epoch, self._indices[at])
        return Key(self._seed, self._epoch, self._indices[at])


class _Collate(Dataset[Any]):
    def __init__(
        self, split: Split, processor: Processor, seed: int, *, training: bool, keep_examples: bool = False
    ) -> None:
        self._split, self._processor, self._seed = split, processor, seed
        self._training, self._keep_examples = training, keep_examples

    def __getitem__(self, plan: Plan) -> Any:
        try:
            examples = examples_at(self._split, plan.indices)
            keys = _Keys(self._seed, plan.epoch, plan.indices)
            batch = self._processor.collate(examples, keys, training=self._training)
            if plan.borrowed:
                batch = replace(batch, count=0, borrowed=True)
        except PlaitError as error:
            return _Failure(error)
        return _Judged(examples, batch) if self._keep_examples else batch


class _Plans(Sampler[Plan]):
    def __init__(self, order: Order, start: int) -> None:
        self._order, self._start = order, start

    def __iter__(self) -> Iterator[Plan]:
        for plans in self._order.steps(self._start):
            yield from plans


def _loader(collate: _Collate, plans: Any, workers: int, pin_memory: bool) -> DataLoader[Any]:
    return DataLoader(
        collate,
        batch_size=None,
        sampler=plans,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_quiet,
        generator=torch.Generator(),  # else the loader draws its seed from the global generator, and dropout changes
    )


def _quiet(worker: int) -> None:
    """Ctrl-C, `timeout` and batch systems signal the whole process group; the main process decides what becomes of it,
    and ends its loaders itself (they end by themselves where it was killed)."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _raised(item: Any) -> Any:
    if isinstance(item, _Failure):
        raise item.error
    return item
