"""How is a model made in a process that is to hold only a part of its weights? With the shapes, and no numbers.

At ZeRO 3 rank 0 makes the whole model, as any single process would, and the other ranks make one whose parameters are
on torch's meta device: their names, shapes, ties and groups are there, and take no memory. Each parameter is given its
numbers by rank 0 and cut into shards before the next one. So the first weights are those of every other stage, bit for
bit, and of all processes of all hosts only rank 0 ever holds the whole (deepspeed.zero.Init inside `__init__` draws
other weights, and transformers' models read shapes that it has taken away).
"""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.weak import WeakIdKeyDictionary

logger = logging.getLogger("plait")

Made = TypeVar("Made")


def made_without_weights(make: Callable[[], Made]) -> Made:
    """What `make` makes, its parameters without numbers; whole, where it cannot be made so (that is logged)."""
    # weights that a recipe names are read by rank 0 for all
    warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
    try:
        with _on_meta():
            made = make()
    except Exception as error:
        cause = error.__cause__ or error  # what loads a model has an error of its own for all that goes wrong
        if not isinstance(cause, RuntimeError | NotImplementedError) or "meta" not in str(cause):
            raise
        reason = str(cause).splitlines()[0]  # it reads its parameters' numbers
    else:
        if not isinstance(made, nn.Module):
            return made
        if not any(weakref.getweakrefs(each) for each in made.parameters()):
            return made
        reason = "recurrent layers keep references to their weights, which could not be replaced"
    logger.info("this process makes the whole model in its memory before it is sharded: %s", reason)
    return make()


def has_no_numbers(made: object) -> bool:
    """Whether `made` is a model that was made without weights."""
    return isinstance(made, nn.Module) and any(each.is_meta for each in made.parameters())


def stand_in(model: nn.Module) -> None:
    """Give the parameters without numbers a place on the CPU, of one number that all their elements share. They stay
    the same objects, so that an optimizer, a tie and a module keep them. Before anybody holds on to them weakly."""
    for parameter in model.parameters():
        if parameter.is_meta:
            shared = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            whole = nn.Parameter(shared, requires_grad=parameter.requires_grad)
            vars(whole).update(vars(parameter))
            torch.utils.swap_tensors(parameter, whole)  # type: ignore[no-untyped-call]  # torch's own


def give_memory(parameter: nn.Parameter, device: torch.device) -> None:
    """Put a parameter on a device; one that a single number stands in for gets memory of its own, and no numbers."""
    if parameter.untyped_storage().nbytes() < parameter.numel() * parameter.element_size():
        parameter.data = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    else:
        parameter.data = parameter.data.to(device)


def give_buffers(model: nn.Module, device: torch.device) -> None:
    """Move the buffers alone."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


@contextmanager
def _on_meta() -> Iterator[None]:
    """Inside, a parameter loses its numbers as soon as a module has it, before another one is made; buffers keep
    theirs. What initialises it afterwards does nothing."""
    original = nn.Module.register_parameter
    empty = WeakIdKeyDictionary()  # of those that several modules share

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta and not isinstance(parameter, UninitializedParameter):
            if parameter not in empty:
                shape = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
                vars(shape).update(vars(parameter))
                empty[parameter] = shape
            parameter = empty[parameter]
        original(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]  # put back below
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]  # as it was
