"""How much memory and how many steps would a training take, on how many processes? Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from plait.config import Recipe
from plait.engine.activations import checkpoint_activations
from plait.errors import DataError, RecipeError
from plait.model import Key, NeuralModel
from plait.options import EngineOptions
from plait.preparing import Prepared, make_engine
from plait.training.batches import Order
from plait.training.optimization import GradientOptions
from plait_registry.registry import Registry

_BYTES = 4  # float32, of parameters, gradients and moments alike
_MEASURED = 8  # examples of the forward whose activations are counted; more are reckoned in proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that one process needs, by what for.

    Args:
        zero_stage, offload: what it would be with.
        weights: parameters as the forward sees them, and float32 masters beside them where they are sharded.
        gradients: while a step lasts.
        optimizer: moments, and averaged weights.
        activations: what the backward of one micro-batch needs.
        buckets: DeepSpeed's room for reducing and gathering.
        host: of these, what is in the host's memory rather than the device's.
        disk: of these, what is in files, and in memory while there is room.
    """

    zero_stage: int
    offload: str | None
    weights: int
    gradients: int
    optimizer: int
    activations: int
    buckets: int
    host: int
    disk: int

    @property
    def steady(self) -> int:
        """Between steps, host included, files not. With offload DeepSpeed keeps the gradients' memory."""
        return self.weights + self.optimizer + (self.gradients if self.offload else 0) - self.disk

    @property
    def peak(self) -> int:
        """On the device, while a step lasts."""
        whole = self.weights + self.gradients + self.optimizer + self.activations + self.buckets
        return whole - self.host - self.disk

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"steady": self.steady, "peak": self.peak}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training would take.

    Args:
        parameters, trained: elements of the model, and those of them that are trained.
        examples: of the training split.
        batch_size: examples of one step, on all processes.
        micro_batch_size: examples of one forward on one process.
        accumulation: forwards of a step on one process.
        memory: for each ZeRO stage, and with offload; first the one that the recipe asks for.
    """

    parameters: int
    trained: int
    processes: int
    examples: int
    batch_size: int
    micro_batch_size: int
    accumulation: int
    steps_per_epoch: int
    steps: int
    memory: tuple[Memory, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "memory"}
        return fields | {"memory": [each.as_json() for each in self.memory]}


def plan(recipe: Recipe, registry: Registry, *, data: Any = None) -> Plan:
    """Read the data, create the model on the CPU, run one forward and count.

    Raises:
        RecipeError: the model is no network; the batch is smaller than the number of processes.
        DataError: there is nothing to train on.
    """
    options = recipe.trainer
    if not isinstance(options, GradientOptions):
        raise RecipeError(f"{recipe.model_options.name} is fitted by iteration; there are no batches to plan")
    engine = make_engine(recipe, registry, alone=True)
    made = Prepared.make(recipe, registry, data, engine)
    model, train, count = made.model, made.splits.train, recipe.engine.processes
    if train is None or not len(train):
        raise DataError("there are no training examples to plan with")
    assert isinstance(model, NeuralModel)
    order = Order(
        examples=len(train), epochs=options.epochs, batch_size=options.batch_size, seed=recipe.seed,
        micro_batch_size=options.micro_batch_size, world_size=count, max_steps=options.max_steps,
    )  # fmt: skip
    largest = -(-min(options.batch_size, len(train)) // count)
    micro = min(options.micro_batch_size or largest, largest)
    if recipe.engine.activation_checkpointing:
        checkpoint_activations(model)
    measured = min(micro, _MEASURED)
    batch = model.processor.collate(
        [train[index] for index in range(measured)], [Key(recipe.seed, 0, index) for index in range(measured)],
        training=True,
    )  # fmt: skip
    activations = activation_bytes(model, batch, bf16=recipe.engine.precision == "bf16") * micro // measured
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    whole = sum(each.numel() for each in model.parameters())
    moments = {"adamw": 2, "adam": 2, "sgd": int(options.momentum > 0), "rmsprop": 1 + int(options.momentum > 0)}
    kept = moments[options.optimizer] + int(options.average is not None)
    return Plan(
        parameters=whole, trained=trained, processes=count, examples=len(train), batch_size=options.batch_size,
        micro_batch_size=micro, accumulation=-(-largest // micro), steps_per_epoch=order.steps_per_epoch,
        steps=order.total_steps,
        memory=tuple(
            _memory(each, whole=whole, trained=trained, kept=kept, activations=activations, processes=count)
            for each in _choices(recipe.engine)
        ),
    )  # fmt: skip


def activation_bytes(model: nn.Module, batch: Any, *, bf16: bool = False) -> int:
    """Bytes that a forward keeps for its backward, parameters left out; storage that tensors share counts once."""
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            output = model(batch)
        del output
    return sum(kept.values())


def _choices(options: EngineOptions) -> Iterator[EngineOptions]:
    yield options
    for stage in (0, 1, 2, 3):
        for offload in (None, "cpu", "nvme") if stage else (None,):
            if (stage, offload) != (options.zero_stage, options.offload):
                yield options.model_copy(update={"zero_stage": stage, "offload": offload})


def _memory(options: EngineOptions, *, whole: int, trained: int, kept: int, activations: int, processes: int) -> Memory:
    stage, frozen = options.zero_stage, whole - trained
    share = trained / processes
    weights = {0: whole, 1: whole + share, 2: whole + share, 3: share + frozen / processes}[stage]
    gradients = share if stage >= 2 else trained
    moments = kept * (share if stage else trained)
    largest = 5e8 if options.bucket_mb is None else options.bucket_mb * 2**20 / _BYTES
    buckets = min(largest, whole) if stage or processes > 1 else 0.0
    host = disk = 0.0
    if options.offload:  # DeepSpeed keeps gradients twice, and at stage 3 masters beside the weights
        disk = moments + share if options.offload == "nvme" else 0.0
        weights += share
        gradients = 2 * share if stage == 3 else trained + share
        host = moments + gradients + (weights if stage == 3 else 2 * share) - disk
    return Memory(
        zero_stage=stage, offload=options.offload, weights=round(weights * _BYTES),
        gradients=round(gradients * _BYTES), optimizer=round(moments * _BYTES), activations=activations,
        buckets=round(buckets * _BYTES), host=round(host * _BYTES), disk=round(disk * _BYTES),
    )  # fmt: skip
