"""Which parameters does a backward reach, on which ranks, and what if they differ between ranks?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import _get_grad_fn_or_grad_acc


class Reach:
    """Watches what the gradients of each loss will reach, before the first of them is computed.

    DeepSpeed reduces gradients in the order in which a backward makes them, and so asks that every rank reaches the
    same parameters in the same order. Where ranks differ (LayerDrop, a branch that some examples take, an idle rank
    whose loss knows only the logits), this holds the gradients back until the backward is over, and then hands them
    over in one order, with zeros for what this rank did not reach; such a backward holds all gradients at once. At
    ZeRO 3 ranks must still run the same modules: their parameters are gathered by all ranks together.

    It knows no optimizer's state and no schedule.

    Args:
        named: the model's parameters.
        wrapper: DeepSpeed's optimizer.
        stage: the ZeRO stage, 1 to 3.
        ranks: how many there are.
        total: the sum of the ranks' tensors, on every rank.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        wrapper: Any,
        *,
        stage: int,
        ranks: int,
        total: Callable[[Tensor], Tensor],
    ) -> None:
        trained = {name: each for name, each in named.items() if each.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self._index = {id(each): index for index, each in enumerate(self._parameters)}
        self._wrapper, self._stage, self._ranks, self._total = wrapper, stage, ranks, total
        self._since = torch.zeros(len(self._names), dtype=torch.bool)  # since the last step
        self._held: Tensor | None = None  # what some rank reaches, while gradients are held back
        if ranks > 1 and stage > 1:  # stage 1 reduces once a step, and in one order
            self._reduce = wrapper.reduce_ready_partitions_and_remove_grads
            self._end = wrapper.overlapping_partition_gradients_reduce_epilogue
            wrapper.reduce_ready_partitions_and_remove_grads = self._reduce_or_hold
            wrapper.overlapping_partition_gradients_reduce_epilogue = self._deliver

    def watch(self, loss: Tensor) -> None:
        """Look on when the backward of `loss` begins."""
        if loss.requires_grad:
            loss.register_hook(self._look)  # type: ignore[no-untyped-call]  # torch's own

    def missing(self) -> set[str]:
        """The parameters that no gradient has reached on any rank since this was last asked. Collective."""
        reached, self._since = self._since, torch.zeros_like(self._since)
        if self._ranks > 1 and self._stage == 1:
            own, reached = reached, self._total(reached.to(torch.int32)) > 0
            for index in torch.nonzero(reached & ~own).flatten().tolist():
                _fill(self._parameters[index])
        return {name for name, each in zip(self._names, reached.tolist(), strict=True) if not each}

    def close(self) -> None:
        """Give DeepSpeed's methods back."""
        for name in ("reduce_ready_partitions_and_remove_grads", "overlapping_partition_gradients_reduce_epilogue"):
            vars(self._wrapper).pop(name, None)

    def _look(self, gradient: Tensor) -> None:
        with torch.enable_grad():  # the accumulators of leaves are not to be had without
            nodes = [_get_grad_fn_or_grad_acc(each) for each in self._parameters]
        # as torch's register_multi_grad_hook asks it
        reached = torch.tensor([torch._C._will_engine_execute_node(node) for node in nodes])
        if self._ranks > 1 and self._stage > 1:
            ranks = self._total(reached.to(torch.int32))
            reached = ranks > 0
            self._held = reached if bool((reached & (ranks < self._ranks)).any()) else None
        if not self._since.any():
            self._forget(reached)
        self._since |= reached

    def _forget(self, reached: Tensor) -> None:
        """Before the first backward of a step: what it does not reach may still have the gradient of an earlier step,
        which DeepSpeed would add later micro-batches' to, and at ZeRO 3 count into the norm that it clips by."""
        if self._stage == 3:
            kept = self._wrapper._DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition
        else:
            kept = getattr(self._wrapper, "accumulated_grads_in_cpu", {})  # with offload alone
        for index in torch.nonzero(~reached).flatten().tolist() if kept else ():
            stale = kept.get(self._wrapper.get_param_id(self._parameters[index]))
            if stale is not None:
                stale.zero_()

    def _reduce_or_hold(self, parameter: nn.Parameter, *group: Any) -> None:
        if self._held is None:
            self._reduce(parameter, *group)

    def _deliver(self) -> None:
        """At the end of a backward: in the wrapper's own order, which is the same on every rank."""
        held, self._held = self._held, None
        if held is not None:
            groups = self._wrapper.bit16_groups if self._stage == 2 else self._wrapper.fp16_groups
            for number, group in enumerate(groups):
                for parameter in group:
                    index = self._index.get(id(parameter))
                    if index is None or not held[index]:
                        continue
                    if parameter.grad is None:
                        _fill(parameter)
                    self._reduce(parameter, *((number,) if self._stage == 2 else ()))
        self._end()


def _fill(parameter: nn.Parameter) -> None:
    """A gradient of zeros, also where the parameter itself is elsewhere (at ZeRO 3 its shape is empty)."""
    shape = getattr(parameter, "ds_shape", parameter.shape)
    kept = parameter.data
    parameter.data = kept.new_zeros(()).expand(shape)  # no memory: torch compares the shapes
    parameter.grad = torch.zeros(shape, dtype=kept.dtype, device=kept.device)
    parameter.data = kept
