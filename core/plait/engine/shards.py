"""How is training state laid out on disk, so that any number of ranks can read what any other number wrote?

A shard is a safetensors file of flat pieces. A piece is named `slot|parameter|start` and holds elements start, start+1,
... of the flattened parameter; `slot` is "parameter", "buffer", "average" or "optimizer.<key>" (a moment). The shape of
the whole is in the file's metadata. Scalars (an optimizer's step counter) are pieces of one element.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from plait.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Shards:
    """A copy of one rank's part of the training state, which training no longer touches. It knows no step and no run.

    Args:
        file: the name of its shard.
        pieces: flat tensors on the CPU by `slot|parameter|start`.
        shapes: of the wholes, by `slot|parameter`.
        texts: further files by name.
    """

    file: str
    pieces: Mapping[str, Tensor]
    shapes: Mapping[str, list[int]]
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, and on disk but for names and shapes."""
        return sum(piece.nbytes for piece in self.pieces.values())

    def write(self, directory: Path) -> None:
        """Write it; from any thread."""
        save_file(dict(self.pieces), directory / self.file, metadata={"shapes": json.dumps(self.shapes)})
        for name, text in self.texts.items():
            (directory / name).write_text(text, encoding="utf-8")


def in_memory(tensor: Tensor) -> Tensor:
    """A copy on the CPU, contiguous in logical order, whatever the memory format."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def copy_shards(
    rank: int,
    world_size: int,
    slots: Mapping[str, Mapping[str, Tensor]],
    *,
    starts: Mapping[tuple[str, str], int] | None = None,
    shapes: Mapping[tuple[str, str], tuple[int, ...]] | None = None,
    texts: Mapping[str, str] | None = None,
    copy: Callable[[Tensor], Tensor] = in_memory,
) -> Shards:
    """Copy this rank's pieces.

    Args:
        slots: tensors by slot and parameter name; whole ones, or flat ranges where `starts` and `shapes` say so.
        starts: the first element of a range, by slot and name.
        shapes: the whole parameter's shape, by slot and name.
        texts: further files by name.
        copy: makes a contiguous copy of a tensor on the CPU.
    """
    pieces: dict[str, Tensor] = {}
    whole: dict[str, list[int]] = {}
    for slot, tensors in slots.items():
        for name, tensor in tensors.items():
            start = (starts or {}).get((slot, name), 0)
            pieces[f"{slot}|{name}|{start}"] = copy(tensor).view(-1)
            whole[f"{slot}|{name}"] = list((shapes or {}).get((slot, name), tuple(tensor.shape)))
    return Shards(f"shard-{rank:05d}-of-{world_size:05d}.safetensors", pieces, whole, texts or {})


class ShardIndex:
    """What the shards of a checkpoint hold, read a range at a time: a rank need not hold what it does not own.

    It knows pieces and ranges, not what they are for.

    Raises:
        IntegrityError: there are no shards, or one of them cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        self._places: dict[tuple[str, str], list[tuple[int, int, Path, str]]] = {}
        paths = sorted(directory.glob("shard-*.safetensors"))
        if not paths:
            raise IntegrityError(f"{directory}: no shards")
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    shapes = json.loads(file.metadata()["shapes"])
                    for key in file.keys():  # noqa: SIM118  # not a mapping
                        slot, name, start = key.rsplit("|", 2)
                        count = file.get_slice(key).get_shape()[0]
                        self.shapes.setdefault(slot, {})[name] = tuple(shapes[f"{slot}|{name}"])
                        self._places.setdefault((slot, name), []).append((int(start), count, path, key))
            except (SafetensorError, KeyError, ValueError) as error:
                raise IntegrityError(f"{path}: not a shard of a checkpoint ({error})") from error

    def slots(self, prefix: str) -> list[str]:
        """The slots whose names begin with `prefix`."""
        return sorted(slot for slot in self.shapes if slot.startswith(prefix))

    def read(self, slot: str, name: str, start: int = 0, count: int | None = None) -> Tensor:
        """Elements start, start+1, ... of a flattened tensor; all of them where `count` is None.

        Raises:
            IntegrityError: a shard that has some of them is absent.
        """
        size = math.prod(self.shapes[slot][name])
        end = size if count is None else start + count
        found, filled = None, 0
        for first, length, path, key in self._places[slot, name]:
            low, high = max(start, first), min(end, first + length)
            if high <= low:
                continue
            with safe_open(path, framework="pt") as file:
                piece = file.get_slice(key)[low - first : high - first]
            found = torch.empty(end - start, dtype=piece.dtype) if found is None else found
            found[low - start : high - start] = piece
            filled += high - low
        if filled != end - start or found is None:
            raise IntegrityError(
                f"{self._directory}: {end - start - filled} elements of {slot} {name!r} are missing: "
                "a rank's shard is absent"
            )
        return found


def read_shards(directory: Path) -> dict[str, dict[str, Tensor]]:
    """Whole tensors by slot and parameter name, from the shards of any number of ranks."""
    whole: dict[str, dict[str, Tensor]] = {}
    filled: dict[tuple[str, str], int] = {}
    paths = sorted(directory.glob("shard-*.safetensors"))
    if not paths:
        raise IntegrityError(f"{directory}: no shards")
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                shapes = json.loads(file.metadata()["shapes"])
                for key in file.keys():  # noqa: SIM118  # not a mapping
                    slot, name, start = key.rsplit("|", 2)
                    piece = file.get_tensor(key)
                    shape = shapes[f"{slot}|{name}"]
                    target = whole.setdefault(slot, {}).setdefault(name, torch.empty(shape, dtype=piece.dtype))
                    target.view(-1)[int(start) : int(start) + piece.numel()] = piece
                    filled[slot, name] = filled.get((slot, name), 0) + piece.numel()
        except (SafetensorError, KeyError, ValueError) as error:
            raise IntegrityError(f"{path}: not a shard of a checkpoint ({error})") from error
    for (slot, name), count in filled.items():
        if count != whole[slot][name].numel():
            missing = whole[slot][name].numel() - count
            raise IntegrityError(
                f"{directory}: {missing} elements of {slot} {name!r} are missing: a rank's shard is absent"
            )
    return whole
