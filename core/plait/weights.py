"""How do tensors get to disk and back without executing anything?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from plait.errors import DataError, IntegrityError, did_you_mean

FORMAT = {"format": "pt"}
"""Metadata that `transformers` asks of a file before it reads it."""


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to one safetensors file; those that share storage (tied weights) are written once and named."""
    first: dict[tuple[object, ...], str] = {}
    unique: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        if tensor.numel() and key in first:
            tied[name] = first[key]
            continue
        first[key] = name
        unique[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    described = {**(metadata or {}), **{f"tied:{name}": other for name, other in tied.items()}}
    save_file(unique, path, metadata=described or None)  # of no tensors and {} safetensors writes what is no JSON
    _settle_header(path)


def _settle_header(path: Path) -> None:
    """Write the entries of a file's metadata by name: safetensors writes them as a hash table with a random seed has
    them, and the same weights must be the same bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8").ljust(size)
        if header["__metadata__"] and len(text) == size:
            file.seek(8)
            file.write(text)


def stream_tensors(tensors: Iterable[tuple[str, torch.Tensor]], path: Path, *, largest: int = 5 * 2**30) -> None:
    """Write tensors that come one at a time: to `path` where they are few, else to numbered files beside an index (the
    layout of `transformers`), so that no more than `largest` bytes are held at once.

    Args:
        path: "model.safetensors"; split, it becomes model-00001-of-00003.safetensors and so on.
        largest: bytes of one file; a tensor that is larger has one of its own.
    """
    pending: dict[str, torch.Tensor] = {}
    files: list[tuple[Path, list[str]]] = []
    held = total = 0

    def write() -> None:
        nonlocal pending, held
        file = path.with_name(f".{path.stem}-{len(files) + 1:05d}{path.suffix}")
        save_tensors(pending, file, FORMAT)
        files.append((file, list(pending)))
        pending, held = {}, 0

    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if pending and held + size > largest:
            write()
        pending[name] = tensor
        held, total = held + size, total + size
    write()
    if len(files) == 1:
        files[0][0].replace(path)
        return
    places: dict[str, str] = {}
    for number, (file, names) in enumerate(files, start=1):
        final = path.with_name(f"{path.stem}-{number:05d}-of-{len(files):05d}{path.suffix}")
        file.replace(final)
        places |= dict.fromkeys(names, final.name)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read what `save_tensors` or `stream_tensors` wrote.

    Raises:
        IntegrityError: a file is absent or damaged.
    """
    from safetensors import safe_open

    index = path.with_name(f"{path.name}.index.json")
    if index.is_file() and not path.is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{index}: damaged, not an index of weights ({error})") from error
        if not all(isinstance(name, str) and Path(name).name == name for name in places.values()):
            raise IntegrityError(f"{index}: names a file outside its directory")
        whole: dict[str, torch.Tensor] = {}
        for name in sorted(set(places.values())):
            whole |= load_tensors(path.with_name(name))
        return whole
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path}: not a readable safetensors file ({error})") from error
    for key, other in metadata.items():
        if key.startswith("tied:"):
            tensors[key[5:]] = tensors[other]
    return tensors


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights that a user names: a .safetensors, .bin, .pt or .pth file, or a directory that holds one.

    Nothing in the file is executed: pickled weights are read with `weights_only=True`.

    Raises:
        DataError: the file is absent, or holds something other than tensors.
    """
    if path.is_dir():
        for name in ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors"):
            if (path / name).is_file():
                return read_weights(path / name)
        if (path / "run.json").is_file():
            raise DataError(f"{path}: a run, not a file of weights", hint=f"start from it with model.from={path}")
        listed = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise DataError(f"{path}: no model.safetensors or pytorch_model.bin in this directory", hint=f"it has {listed}")
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file", hint=did_you_mean(path.name, siblings))
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on pickle protocols helps nobody here
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways; each means that the file is not plain weights
        raise DataError(
            f"{path}: cannot be read as plain weights: {_said(error)}",
            hint="Plait never executes what it reads; convert the file to .safetensors where you trust it",
        ) from error
    for key in ("state_dict", "model", "module"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise DataError(f"{path}: holds {type(loaded).__name__}, expected a mapping from names to tensors")
    return {str(name): tensor for name, tensor in loaded.items()}


def _said(error: Exception) -> str:
    """The first line of a message, unless it is torch's advice to execute the file."""
    if type(error).__name__ == "UnpicklingError":
        return "it is damaged, or a pickle of more than tensors, which could run any code"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
