"""How does batch norm see the examples of all processes, and not only its own?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from plait.engine.peers import Peers


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by the statistics of what is trained on; one that is frozen whole does not."""
    found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [each for each in found if each.weight is None or any(p.requires_grad for p in each.parameters())]


def share_batch_norm(model: nn.Module, peers: Peers, *, compiled: bool = False) -> None:
    """Let a model's batch norm take mean and variance over the micro-batches of all ranks while it trains.

    torch's own SyncBatchNorm replaces the layers, runs on CUDA only, forgets what a subclass does (an activation, which
    frames are speech), and counts the examples of an idle rank. Here the layers stay what they are, with their names,
    and in evaluation they do what they did: only the `batch_norm` inside their `forward` is another one in training. A
    layer that computes in other methods, or in other functions, is not reached.

    Args:
        peers: the ranks. A borrowed batch is normalised as the others are, and is no part of the statistics.
        compiled: the model will be; the compiler then leaves these layers alone.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            forward = _shared(module, peers)  # the instance's own: what wraps it later calls this one
            if compiled:  # only then: the decorator alone loads torch's compiler, 1.4 s
                forward = torch.compiler.disable(forward)  # type: ignore[no-untyped-call]  # torch's own
            module.__dict__["forward"] = forward


def _shared(layer: _BatchNorm, peers: Peers) -> Callable[..., Any]:
    own = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not layer.training:
            return own(*args, **kwargs)
        with _Shared(peers):
            return own(*args, **kwargs)

    return forward


class _Shared(TorchFunctionMode):
    """Inside, `batch_norm` is the one over all ranks."""

    def __init__(self, peers: Peers) -> None:
        super().__init__()
        self._peers = peers

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return shared_batch_norm(self._peers, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def shared_batch_norm(
    peers: Peers,
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, by the biased variance over the values of all ranks; the running
    one is the unbiased one of all of them. Statistics are float32 (of double values float64) whatever the values are,
    each rank's computed around its own mean and joined in float64 (Chan et al. 1983, equation 2.1).

    Collective, here and in the backward. `training=False` is heeded only where all ranks together have less than two
    values a channel: a layer can but look at its own when it asks for it.

    Args:
        values: [batch, channels] or [batch, channels, ...], possibly of no examples.

    Raises:
        ValueError: all ranks together have less than two values a channel; on all of them.
    """
    count, mean, variance = _statistics(values, peers)
    own = 0 if peers.borrowed else values.numel() // max(1, values.shape[1])
    # where one rank has two, none needs to look; the count of all is on the device, and to ask for it is to wait
    if own < 2 and float(count) < 2:
        if training:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {values.shape}")
        return F.batch_norm(values, running_mean, running_var, weight, bias, eps=eps)
    with torch.no_grad():
        for running, found in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
            if running is not None:
                running.lerp_(found.to(running), momentum)
    normal: Tensor = _Normalise.apply(values, weight, bias, count, mean, (variance + eps).rsqrt(), peers)
    return normal


def _statistics(values: Tensor, peers: Peers) -> tuple[Tensor, Tensor, Tensor]:
    """How many values a channel all ranks have, float64 [], their mean and biased variance, float64 [channels]."""
    channels = values.shape[1]
    told = torch.zeros(2 * channels + 1, dtype=torch.float64, device=values.device)
    if values.numel() and not peers.borrowed:
        exact, around = _exact(values.detach()), _but_channels(values)
        mean = exact.mean(around, keepdim=True)
        squares = (exact - mean).square_().sum(around)
        told[0] = values.numel() // channels
        told[1 : channels + 1], told[channels + 1 :] = mean.flatten(), squares
    every = peers.each(told)
    counts, means, squared = every[:, :1], every[:, 1 : channels + 1], every[:, channels + 1 :]
    count = counts.sum()
    share = counts / count.clamp(min=1)
    mean = (share * means).sum(0)
    return count, mean, (share * (means - mean).square()).sum(0) + squared.sum(0) / count.clamp(min=1)


class _Normalise(Function):
    """(values - mean) / deviation * weight + bias, where mean and deviation are those of all ranks' values."""

    @staticmethod
    def forward(
        context: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: Tensor,
        mean: Tensor,
        inverse: Tensor,
        peers: Peers,
    ) -> Tensor:
        context.save_for_backward(values, weight, count, mean, inverse)
        context.peers, context.borrowed = peers, peers.borrowed
        context.kinds = [None if each is None else each.dtype for each in (weight, bias)]
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        exact = _exact(values)
        return torch.addcmul(_over(shift, exact), exact, _over(scale, exact)).to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, count, mean, inverse = context.saved_tensors
        wanted, around = context.needs_input_grad, _but_channels(values)
        above, exact = _exact(gradient), _exact(values)
        normal = (exact - _over(mean, exact)) * _over(inverse, exact)
        slope, steep = above.sum(around), (above * normal).sum(around)
        found = None
        if wanted[0]:
            found = above
            both = context.peers.total(torch.stack((slope, steep)).double()) / count
            if not context.borrowed:  # the statistics do not depend on what is borrowed
                found = above - _over(both[0], exact) - normal * _over(both[1], exact)
            found = (found * _over(inverse if weight is None else inverse * weight, exact)).to(values.dtype)
        by_weight, by_bias = (
            each.to(kind) if asked else None
            for each, kind, asked in zip((steep, slope), context.kinds, wanted[1:3], strict=True)
        )
        return found, by_weight, by_bias, None, None, None, None


def _exact(values: Tensor) -> Tensor:
    return values if values.dtype is torch.float64 else values.float()


def _but_channels(values: Tensor) -> list[int]:
    return [dimension for dimension in range(values.ndim) if dimension != 1]


def _over(channels: Tensor, values: Tensor) -> Tensor:
    """[channels] as it goes with [batch, channels, ...]."""
    return channels.to(values.dtype).view(1, -1, *[1] * (values.ndim - 2))
