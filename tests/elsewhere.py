"""What would a GPU refuse? A device that is not there: it computes on the CPU, and takes no tensor of the CPU's.

`with elsewhere() as device:` inside, tensors may be moved to `device` or made there; operations on them give what the
CPU gives, `.numpy()` of one is refused, and so is an operation on tensors of both places, but for those that CUDA has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_aten = torch.ops.aten
_MIXES = {
    _aten.copy_.default, _aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default,
    _aten._index_put_impl_.default, _aten._to_copy.default, _aten._pack_padded_sequence.default,
}  # fmt: skip
"""Operations that CUDA computes with tensors of both places."""


class Distant(torch.Tensor):
    """A tensor on the device; what it holds is on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Distant:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]  # torch's own
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0), requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held.detach()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Distant({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], meta: None, size: Any, stride: Any) -> Distant:
        return Distant(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    there = any(isinstance(each, Distant) for each in flat)
    here = [each for each in flat if isinstance(each, torch.Tensor) and not isinstance(each, Distant)]
    if there and function not in _MIXES and any(each.ndim for each in here):
        raise RuntimeError(f"Expected all tensors to be on the same device: {function} has some on the CPU")
    device = kwargs.get("device")
    if device is not None:
        there = torch.device(device).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    if function is _aten.copy_.default:
        there = isinstance(args[0], Distant)
    bare, whole = tree_map_only(Distant, lambda each: each.held, args), tree_map_only(Distant, lambda e: e.held, kwargs)
    found = function(*bare, **whole)
    if not there:
        return found.clone() if device is not None and any(found is each for each in tree_flatten(bare)[0]) else found
    wrapped = tree_map_only(torch.Tensor, Distant, found)
    if function is _aten._pack_padded_sequence.default:
        return wrapped[0], found[1]  # sizes of batches stay on the CPU
    if device is not None or function._schema.name.startswith("aten::_to_copy"):
        return wrapped
    return return_and_correct_aliasing(function, args, kwargs, wrapped)


class _Made(TorchDispatchMode):
    """Tensors that are made on the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


class _Recurrent(torch.autograd.Function):
    """Torch's recurrent kernels: a device that is no CPU would have fused ones, which this one has not."""

    @staticmethod
    def forward(context: Any, kernel: Any, shape: Any, *flat: Any) -> Any:
        held = [
            each.held.detach().requires_grad_(each.held.is_floating_point()) if isinstance(each, Distant) else each
            for each in flat
        ]
        with torch.enable_grad():
            found = kernel(*tree_unflatten(held, shape))
        context.held, context.single = held, isinstance(found, torch.Tensor)
        context.found = (found,) if context.single else found
        made = tuple(Distant(each) for each in context.found)
        return made[0] if context.single else made

    @staticmethod
    def backward(context: Any, *above: Any) -> Any:
        places = [at for at, each in enumerate(context.held) if isinstance(each, torch.Tensor) and each.requires_grad]
        slopes = torch.autograd.grad(
            context.found, [context.held[at] for at in places], [each.held for each in above], allow_unused=True
        )
        found: list[Any] = [None] * len(context.held)
        for at, slope in zip(places, slopes, strict=True):
            found[at] = None if slope is None else Distant(slope)
        return None, None, *found


class _Kernels:
    """What `torch.nn` asks for recurrent kernels."""

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(torch._VF, name)

        def run(*args: Any) -> Any:
            flat, shape = tree_flatten(args)
            if not any(isinstance(each, Distant) for each in flat):
                return kernel(*args)
            return _Recurrent.apply(kernel, shape, *flat)

        return run


_ready = False


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, for as long as the block lasts."""
    global _ready
    if not _ready:
        _setup_privateuseone_for_python_backend(NAME)
        _ready = True
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes it on the CPU first
    try:
        with (
            mock.patch.object(torch.nn.modules.rnn, "_VF", _Kernels()),
            mock.patch.object(torch, "inference_mode", torch.no_grad),  # which tensors of Python cannot enter
            _Made(),
        ):
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
