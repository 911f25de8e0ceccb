"""Which functions of torch and of DeepSpeed are others for a moment, and why?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, torch.compile leaves functions as they are. DeepSpeed decorates its Muon optimizer with it, which Plait
    does not offer, and the decorator alone loads torch's compiler: 1.4 s of each process's start."""
    original = torch.compile
    torch.compile = lambda function=None, **options: function or (lambda given: given)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = original


@contextmanager
def own_placing(model: nn.Module, place: Callable[[nn.Parameter], None], *, theirs: Any, init: Any) -> Iterator[None]:
    """Inside, DeepSpeed leaves it to the engine to put parameters on the device and to send rank 0's round. It would
    move the whole model before it shards, and fails on parameters without dimensions (CLIP's logit scale), which it
    views as bytes. At stage 3, where it asks for them one by one, each is placed right before it is sharded.

    Args:
        place: puts a parameter on the device, with rank 0's numbers.
        theirs: DeepSpeed's class of engines.
        init: its class that shards parameters.
    """

    def shard(self: Any, parameters: Iterable[Any]) -> None:
        for parameter in parameters:
            place(parameter)
            self._convert_to_deepspeed_param(parameter)
            parameter.partition()

    originals = theirs._broadcast_model, init._convert_to_zero_parameters
    theirs._broadcast_model, init._convert_to_zero_parameters = (lambda engine: None), shard
    vars(model)["to"] = lambda *_, **__: model
    try:
        yield
    finally:
        del vars(model)["to"]
        theirs._broadcast_model, init._convert_to_zero_parameters = originals
