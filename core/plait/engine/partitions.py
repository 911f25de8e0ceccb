"""Which elements of which parameter does this rank hold, at each ZeRO stage?

DeepSpeed keeps what an optimizer updates in flat tensors. At stage 0 each parameter is its own; at stages 1 and 2 a
rank holds one contiguous range of each parameter group; at stage 3 it holds one range of each parameter, one after the
other. `Holding` says the same of all three, so that checkpoints, averages and world-size changes know one layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a parameter inside a flat tensor.

    Args:
        name: the parameter's.
        at: where the range begins in the flat tensor.
        start: its first element of the flattened parameter.
        count: how many elements it has.
        whole: the parameter's number of elements.
    """

    name: str
    at: int
    start: int
    count: int
    whole: int

    def part(self, first: int, last: int) -> Piece | None:
        """What of it lies in elements first .. last - 1 of the parameter; None: nothing."""
        low, high = max(first, self.start), min(last, self.start + self.count)
        return Piece(self.name, self.at + low - self.start, low, high - low, self.whole) if high > low else None


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """A tensor that this rank updates, and where in it the parameters are. Padding belongs to no piece.

    Args:
        tensor: float32; the optimizer's state is keyed by it. Flat, but for stage 0, where it is a parameter.
        pieces: what of which parameter it holds.
        saved: what of that this rank writes; less where ranks hold the same.
    """

    tensor: Tensor
    pieces: tuple[Piece, ...]
    saved: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All that this rank holds.

    Args:
        trained: one for each tensor that the optimizer updates.
        frozen: parameters that no optimizer updates.
        publish: makes the forward see what was written into `trained` and `frozen`; on all ranks.
    """

    trained: tuple[Holding, ...]
    frozen: tuple[Holding, ...]
    publish: Callable[[], None]


def replicated(named: Mapping[str, nn.Parameter], *, rank: int, world_size: int) -> tuple[Holding, ...]:
    """Parameters that every rank holds whole: each rank saves its share of each."""
    found = []
    for name, parameter in named.items():
        size = parameter.numel()
        piece = Piece(name, 0, 0, size, size)
        share = piece.part(size * rank // world_size, size * (rank + 1) // world_size)
        found.append(Holding(parameter, (piece,), (share,) if share else ()))
    return tuple(found)


def stage_0(named: Mapping[str, nn.Parameter], *, rank: int, world_size: int) -> Layout:
    """Everything is replicated, and parameters are their own master weights."""
    trained = {name: each for name, each in named.items() if each.requires_grad}
    frozen = {name: each for name, each in named.items() if not each.requires_grad}
    return Layout(
        replicated(trained, rank=rank, world_size=world_size),
        replicated(frozen, rank=rank, world_size=world_size),
        lambda: None,
    )


def stage_1_or_2(optimizer: Any, named: Mapping[str, nn.Parameter], *, rank: int, world_size: int) -> Layout:
    """One contiguous range of each flattened parameter group a rank.

    Args:
        optimizer: DeepSpeed's, which wraps torch's.
    """
    names = {id(parameter): name for name, parameter in named.items()}
    trained = []
    for group, flat in enumerate(optimizer.single_partition_of_fp32_groups):
        first = flat.numel() * rank
        pieces = []
        parameters, offsets = optimizer.round_robin_bit16_groups[group], optimizer.round_robin_bit16_offsets[group]
        for parameter, offset in zip(parameters, offsets, strict=True):
            size = parameter.numel()
            low, high = max(offset, first), min(offset + size, first + flat.numel())
            if high > low:
                pieces.append(Piece(names[id(parameter)], low - first, low - offset, high - low, size))
        trained.append(Holding(flat, tuple(pieces), tuple(pieces)))
    frozen = {name: each for name, each in named.items() if not each.requires_grad}
    return Layout(tuple(trained), replicated(frozen, rank=rank, world_size=world_size), optimizer.update_lp_params)


def stage_3(optimizer: Any, named: Mapping[str, nn.Parameter], *, rank: int) -> Layout:
    """One range of each parameter a rank, padded so that all ranks have equally many elements.

    Args:
        optimizer: DeepSpeed's, which wraps torch's.
    """
    names = {id(parameter): name for name, parameter in named.items()}
    trained = []
    for parameters, flat in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        at, pieces = 0, []
        for parameter in parameters:
            piece = _own_range(names[id(parameter)], parameter, at, rank)
            pieces += [piece] if piece else []
            at += parameter.partition_numel()
        trained.append(Holding(flat, tuple(pieces), tuple(pieces)))
    frozen = []
    for name, parameter in named.items():
        if not parameter.requires_grad:
            own = _own_range(name, parameter, 0, rank)
            pieces = [own] if own else []
            part: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]  # DeepSpeed's own
            frozen.append(Holding(part, tuple(pieces), tuple(pieces)))

    def publish() -> None:
        # gathered copies (of small, "persistent" parameters, and of the last forward) are let go before and made again
        optimizer._partition_all_parameters()
        for group, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
            working = optimizer.fp16_partitioned_groups_flat[group]
            if working.data_ptr() != flat.data_ptr():
                working.data.copy_(flat.data)
            optimizer._unflatten_partitioned_parameters(group)
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)

    return Layout(tuple(trained), tuple(frozen), publish)


def copy_into(holding: Holding, values: Iterable[tuple[Piece, Tensor]]) -> None:
    """Write ranges into what a rank holds."""
    with torch.no_grad():
        for piece, value in values:
            if piece.count == holding.tensor.numel() == piece.whole:
                holding.tensor.copy_(value.view(holding.tensor.shape))
            else:
                holding.tensor.view(-1)[piece.at : piece.at + piece.count] = value.to(holding.tensor)


def _own_range(name: str, parameter: Any, at: int, rank: int) -> Piece | None:
    size, each = parameter.ds_numel, parameter.partition_numel()
    low, high = rank * each, min((rank + 1) * each, size)
    return Piece(name, at, low, high - low, size) if high > low else None
