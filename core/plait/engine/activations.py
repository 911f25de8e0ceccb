"""How does a model keep fewer activations for its backward?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from plait.errors import RecipeError


def checkpoint_activations(model: nn.Module) -> int:
    """Let each repeated block (a member of an `nn.ModuleList`) compute its activations again in the backward; how many
    blocks that are. A block inside another is left alone. Results are the same, dropout masks and batch norm's running
    statistics included (Chen et al. 2016, "Training deep nets with sublinear memory cost").

    Raises:
        RecipeError: the model has no repeated blocks.
    """
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) > 1 and id(module) not in inside:
            for block in module:
                if any(parameter.requires_grad for parameter in block.parameters()):
                    found.append(block)
                inside.update(id(each) for each in block.modules())
    if not found:
        raise RecipeError(
            "engine.activation_checkpointing: the model has no repeated blocks (members of an nn.ModuleList)",
            hint="leave the option out; trainer.micro_batch_size saves activations in any model",
        )
    for block in found:
        _wrap(block)
    return len(found)


def _wrap(block: nn.Module) -> None:
    forward = block.forward
    options: dict[str, Any] = {}
    if _stateful(block):  # else the compiler need not look into it
        options["context_fn"] = lambda: (nullcontext(), _counted_once(block))

    def again(*args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **options, **kwargs)

    block.__dict__["forward"] = again  # the instance's own: names of parameters and modules stay as they are


def _stateful(block: nn.Module) -> list[tuple[nn.Module, str]]:
    """The buffers of a block that are part of its state, with the modules that have them."""
    return [
        (module, name)
        for module in block.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]


@contextmanager
def _counted_once(block: nn.Module) -> Iterator[None]:
    """Inside, the block's buffers are copies: what a second forward adds to running statistics is let go."""
    kept = [(module, name, module._buffers[name]) for module, name in _stateful(block)]
    for module, name, buffer in kept:
        module._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in kept:
            module._buffers[name] = buffer
