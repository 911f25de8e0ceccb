"""Where is what a step reads once, its update, where no memory holds it? In files that the system maps into memory.

DeepSpeed's own swapping (its async_io kernel, 0.19.8) is not used: it is compiled for minutes, asks for libaio and for
locked memory (an ordinary user's 8 MiB end the process), works at ZeRO 3 alone, and takes a write that failed for one
that is done: of 8 MiB, where a file may have 2, it writes 2 and goes on. A mapped file is a tensor like any other. The
system writes its pages to the disk where memory is short, and reads them when they are touched.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plait.engine.partitions import Layout
from plait.errors import EngineError
from plait.sealed import storage

SMALLEST = 2**16
"""Bytes of a tensor that is worth a file of its own."""


class MappedFiles:
    """Tensors in files of one directory. It knows no parameter and no step.

    The files have no names: each is gone with its tensor, or with the process, however that ends, and two runs never
    meet. Their room is taken when they are made, so that a full disk is told then and not amid a step.

    Args:
        directory: on a disk of this host; a fast one.

    Raises:
        EngineError: it is not there, or no file can be made and mapped in it.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise EngineError(
                f"engine.offload_directory={directory}: no such directory",
                hint="make it, on a fast disk of each host; nothing is left in it",
            )
        self._directory = directory
        try:
            self._file(torch.empty(1))
        except (OSError, RuntimeError) as error:
            raise EngineError(
                f"engine.offload_directory={directory}: no file can be made and mapped in it: {error}",
                hint="choose a directory on a disk of this host that you may write to",
            ) from error

    def zeros(self, like: Tensor) -> Tensor:
        """Zeros on the CPU, in a new file.

        Raises:
            StorageError: there is no room for it.
        """
        with storage(f"engine.offload_directory={self._directory}: no file of {like.nbytes:,} bytes could be made"):
            return self._file(like)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy on the CPU, contiguous and detached; of a small tensor in memory.

        Raises:
            StorageError: there is no room for it.
        """
        if tensor.nbytes < SMALLEST:
            return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return self.zeros(tensor).copy_(tensor.detach())

    def _file(self, like: Tensor) -> Tensor:
        with tempfile.TemporaryFile(dir=self._directory) as file:
            os.posix_fallocate(file.fileno(), 0, max(1, like.nbytes))
            path = f"/proc/self/fd/{file.fileno()}"  # it has no other name; the mapping keeps it when it is closed
            mapped = torch.from_file(path, shared=True, size=max(1, like.numel()), dtype=like.dtype)
        return mapped[: like.numel()].view(like.shape)


def move_to_files(layout: Layout, optimizer: torch.optim.Optimizer, files: MappedFiles) -> None:
    """Put float32 master weights into files, and moments, which are made here: an optimizer that makes them at its
    first step would make them in memory.

    Args:
        layout: what this rank updates; its tensors stay the same objects.
        optimizer: torch's, with the groups that it was made with.
    """
    first = _first_state(optimizer)
    for holding in layout.trained:
        holding.tensor.data = files.copy(holding.tensor.data)
        optimizer.state[holding.tensor] = {
            key: files.zeros(holding.tensor) if value.ndim else torch.zeros_like(value) for key, value in first.items()
        }


def give_back(layout: Layout, optimizer: torch.optim.Optimizer) -> None:
    """Let go of what `move_to_files` made: the optimizer outlives the engine, and would keep the files."""
    optimizer.state.clear()
    for holding in layout.trained:
        holding.tensor.data = torch.empty(0)


def _first_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the rule keeps of one element, by key: moments, which have its shape, and counters, which have none. All of
    them begin at zero, in all the rules that `trainer.optimizer` offers. Groups differ in rates and decay alone."""
    element = torch.nn.Parameter(torch.zeros(1))
    element.grad = torch.zeros(1)
    rule: Any = type(optimizer)
    twin = rule([{**optimizer.param_groups[0], "params": [element]}])
    twin.step()
    return {key: value for key, value in twin.state[element].items() if isinstance(value, Tensor)}
