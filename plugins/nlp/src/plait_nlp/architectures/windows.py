"""How is a text that is longer than a network takes read whole: in rows that overlap?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plait.model import Batch
from plait_nlp.architectures.heads import Inputs

_AT_ONCE = 64  # rows of one forward when predicting: a book has thousands


@dataclass(frozen=True, slots=True)
class Window:
    """One row of a network's input: some tokens of a text, and what surrounds each row of it.

    Args:
        ids, types: token numbers and segments of the row, special tokens among them.
        first: the first token of the text that is in it, counted without special tokens.
        size: how many are in it.
        lead: tokens of the row before them.
    """

    ids: Sequence[int]
    types: Sequence[int]
    first: int
    size: int
    lead: int


def cut_windows(
    before: Sequence[tuple[int, int]], body: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]], *,
    length: int, overlap: int,
) -> list[Window]:  # fmt: skip
    """The rows of one text, the first one also where it is empty.

    Args:
        before, body, after: (token, segment) of what each row begins with, of the text, and of what each row ends with.
        length: tokens of a row at most.
        overlap: tokens of the text that a row shares with the next; fewer where that would leave it less than half.
    """
    room = max(1, length - len(before) - len(after))
    step = max(room - overlap, (room + 1) // 2)
    found = []
    for first in range(0, max(1, len(body)), step):
        part = body[first : first + room]
        row = [*before, *part, *after]
        found.append(Window([each[0] for each in row], [each[1] for each in row], first, len(part), len(before)))
        if first + room >= len(body):
            break
    return found


def fold(windows: Sequence[Window], owners: Sequence[int], size: int, inputs: Inputs) -> dict[str, Tensor]:
    """Rows of several texts as tensors [batch, rows, length]: as many rows as the texts have on average, in their
    order, filled at the end, so that a long text among short ones costs no more than its own rows.

    Args:
        owners: whose each window is, by its place in the batch; "owner" [batch, rows] has it, -1 for filling.
        size: texts of the batch.
    """
    rows = -(-len(windows) // size) if size else 0
    tensors = inputs.padded([each.ids for each in windows], [each.types for each in windows])
    fill = rows * size - len(windows)
    found = {
        name: torch.cat([tensor, tensor.new_zeros(fill, *tensor.shape[1:])]).reshape(size, rows, tensor.shape[1])
        for name, tensor in tensors.items()
    }
    owner = torch.tensor([*owners, *[-1] * fill], dtype=torch.int64).reshape(size, rows)
    return {**found, "owner": owner}


def fold_values(values: Tensor, size: int) -> Tensor:
    """Numbers of each window [windows, ...] in the layout of `fold`: [batch, rows, ...]."""
    rows = -(-len(values) // size) if size else 0
    fill = values.new_zeros(rows * size - len(values), *values.shape[1:])
    return torch.cat([values, fill]).reshape(size, rows, *values.shape[1:])


def unfold(batch: Batch, name: str) -> Tensor:
    """The rows of a tensor of `fold`, without filling: [windows, ...]."""
    tensor, owner = batch[name], batch["owner"]
    return tensor.reshape(owner.numel(), *tensor.shape[2:])[: int((owner >= 0).sum())]


def run_windows(network: Any, batch: Batch, names: Sequence[str]) -> tuple[Tensor, ...]:
    """A network's outputs for all rows of a batch, float32, each [windows, length, ...].

    Args:
        names: of the outputs: "logits".
    """
    rows = {
        name: unfold(batch, name) for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch.tensors
    }
    parts = [
        network(**{name: tensor[part.start : part.stop] for name, tensor in rows.items()})
        for part in forwards(len(rows["input_ids"]))
    ]
    return tuple(torch.cat([getattr(part, name).float() for part in parts]) for name in names)


def forwards(rows: int) -> list[range]:
    """Which rows go through a network together: all where gradients are wanted, or where other processes wait for
    theirs inside each forward; else few at a time, so that a book needs no more memory than a page."""
    whole = torch.is_grad_enabled() or (torch.distributed.is_available() and torch.distributed.is_initialized())
    step = rows if whole else _AT_ONCE
    return [range(first, min(first + step, rows)) for first in range(0, rows, max(1, step))]
