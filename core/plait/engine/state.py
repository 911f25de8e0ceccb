"""How does what a rank holds get into its shard and back, whatever the stage and the number of ranks?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plait.engine.partitions import Holding, Layout, Piece, copy_into
from plait.engine.shards import ShardIndex, Shards, copy_shards, in_memory
from plait.errors import IntegrityError

Shapes = Mapping[str, tuple[int, ...]]
"""The whole parameters' shapes by name."""


def saved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that are part of a model's state, by name."""
    kept = model.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def copy_state(
    layout: Layout,
    *,
    rank: int,
    world_size: int,
    shapes: Shapes,
    optimizer: torch.optim.Optimizer | None,
    averages: Sequence[Tensor],
    buffers: Mapping[str, Tensor],
    texts: Mapping[str, str],
    copy: Callable[[Tensor], Tensor] = in_memory,
) -> Shards:
    """A copy of this rank's part: its ranges of parameters, moments and averages, and `buffers` whole."""
    slots: dict[str, dict[str, Tensor]] = {"parameter": {}, "buffer": dict(buffers)}
    starts: dict[tuple[str, str], int] = {}
    wholes: dict[tuple[str, str], tuple[int, ...]] = {}

    def add(slot: str, holding: Holding, values: Tensor) -> None:
        flat = values.detach().reshape(-1)
        for piece in holding.saved:
            slots.setdefault(slot, {})[piece.name] = flat[piece.at : piece.at + piece.count]
            starts[slot, piece.name], wholes[slot, piece.name] = piece.start, shapes[piece.name]

    for holding in (*layout.trained, *layout.frozen):
        add("parameter", holding, holding.tensor)
    for holding, average in zip(layout.trained, averages, strict=bool(averages)):
        add("average", holding, average)
    for holding, key, value in _moments(layout, optimizer):
        if value.ndim:
            add(f"optimizer.{key}", holding, value)
            continue
        for piece in holding.saved:
            if piece.start == 0:  # a counter, once for each parameter
                slots.setdefault(f"optimizer.{key}", {})[piece.name] = value.detach()
    return copy_shards(rank, world_size, slots, starts=starts, shapes=wholes, texts=texts, copy=copy)


def read_state(
    directory: Path,
    layout: Layout,
    *,
    shapes: Shapes,
    optimizer: torch.optim.Optimizer | None,
    averages: Sequence[Tensor],
    buffers: Mapping[str, Tensor],
) -> None:
    """Read this rank's ranges from the shards of any number of ranks; `layout.publish` is for the caller.

    Raises:
        IntegrityError: names or shapes differ from the model's, or a shard is absent.
    """
    index = ShardIndex(directory)
    trained = {piece.name for holding in layout.trained for piece in holding.pieces}
    _compare(directory, "parameter", index.shapes.get("parameter", {}), shapes)
    _compare(directory, "buffer", index.shapes.get("buffer", {}), {name: tuple(b.shape) for name, b in buffers.items()})
    if bool(averages) != bool(index.shapes.get("average")):
        raise IntegrityError(f"{directory}: its averages (trainer.average) are not what this run has")
    for holding in (*layout.trained, *layout.frozen):
        copy_into(holding, _ranges(index, "parameter", holding))
    for holding, average in zip(layout.trained, averages, strict=bool(averages)):
        copy_into(Holding(average, holding.pieces, ()), _ranges(index, "average", holding))
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(index.read("buffer", name).view(buffer.shape))
    if optimizer is not None and trained:
        for holding in layout.trained:
            state = _read_moments(index, holding, optimizer.state.get(holding.tensor, {}))
            if optimizer.defaults.get("fused") and "step" in state:  # torch's fused kernels want it where they run
                state["step"] = state["step"].to(holding.tensor.device)
            if state:
                optimizer.state[holding.tensor] = state


def _read_moments(index: ShardIndex, holding: Holding, kept: Mapping[str, Any]) -> dict[str, Tensor]:
    """The optimizer's state of what a rank holds, in the tensors where it has `kept` it so far, if it has. Parameters
    that no gradient ever reached have none: zeros."""
    state: dict[str, Tensor] = {}
    for slot in index.slots("optimizer."):
        shapes = index.shapes[slot]
        known = tuple(piece for piece in holding.pieces if piece.name in shapes)
        if not known:
            continue
        key = slot.removeprefix("optimizer.")
        if key == "step" or all(not shapes[piece.name] and piece.whole > 1 for piece in known):
            # torch keeps counters on the CPU; in one flat group they are equal, but for parameters without gradients
            state[key] = max(index.read(slot, piece.name) for piece in known).reshape(()).clone()
            continue
        moment = kept.get(key)
        if moment is None:
            moment = torch.zeros_like(holding.tensor, memory_format=torch.preserve_format).detach()
        else:
            moment.zero_()
        copy_into(Holding(moment, known, ()), _ranges(index, slot, Holding(moment, known, ())))
        state[key] = moment
    return state


def _moments(layout: Layout, optimizer: torch.optim.Optimizer | None) -> Iterator[tuple[Holding, str, Tensor]]:
    if optimizer is None:
        return
    for holding in layout.trained:
        for key, value in optimizer.state.get(holding.tensor, {}).items():
            if isinstance(value, Tensor):
                yield holding, key, value


def _ranges(index: ShardIndex, slot: str, holding: Holding) -> Iterator[tuple[Piece, Tensor]]:
    for piece in holding.pieces:
        yield piece, index.read(slot, piece.name, piece.start, piece.count)


def _compare(directory: Path, slot: str, saved: Shapes, own: Shapes) -> None:
    wrong = sorted(name for name in {*saved, *own} if saved.get(name) != own.get(name))
    if wrong:
        raise IntegrityError(f"{directory}: {slot}s differ from the model's: {', '.join(wrong[:5])}")
