"""How do the processes of a training find and talk to each other?

Two groups: one for tensors of a step, with the recipe's timeout, and one for short JSON messages ("I failed", "what
did rank 0 read?"), which waits for as long as the other process lives.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore, PrefixStore, TCPStore

from plait.engine.ending import give_up
from plait.engine.peers import Peers
from plait.engine.pulse import Meeting, Pulse
from plait.engine.vitals import Watch
from plait.engine.waiting import waiting
from plait.engine.world import World
from plait.errors import EngineError

HOST = "PLAIT_HOST"
"""The variable that tells a worker the name by which engine.hosts knows its host."""
_PATIENCE = timedelta(days=7)  # rank 0 may read data or fit a tokenizer for hours; the pulse notices who is lost


class Channel:
    """JSON messages between all ranks, waited for without limit, for one thread. It knows no tensor.

    Made on all ranks together.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self._group: Any = None if world_size == 1 else dist.new_group(backend="gloo", timeout=_PATIENCE)

    def gather(self, value: Any) -> list[Any]:
        """A JSON value of each rank, in rank order, on every rank. NaN and infinities pass."""
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        if self.world_size == 1:
            return [json.loads(bytes(own.numpy()))]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(sizes, torch.tensor([own.numel()]), group=self._group)
        longest = max(int(each) for each in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: own.numel()] = own
        parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(parts, padded, group=self._group)
        return [json.loads(bytes(part[: int(size)].numpy())) for part, size in zip(parts, sizes, strict=True)]


class Group:
    """The processes that train together. It knows tensors and JSON values, no model.

    Args:
        world: which of how many this process is.
        device: where tensors of a step are.
        timeout: seconds that a rank may be silent, idle, or make the others wait inside a step.

    Raises:
        EngineError: the others cannot be reached, or the port is taken.
    """

    def __init__(self, world: World, *, device: torch.device, timeout: float) -> None:
        self.rank, self.size = world.rank, world.size
        self.peers = Peers(rank=world.rank, size=world.size)
        self._device = device
        self._waiting: list[tuple[float, list[float]]] = []  # numbers for the next message, and where their sums go
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        limit = timedelta(seconds=1.25 * timeout + 5)  # the pulse is earlier, and can say who is at fault
        if not dist.is_initialized():
            if world.size == 1:
                dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1, timeout=limit)
            else:
                who = f"process {world.rank} of {world.size}, as {world.launcher} says"
                at = f"at {world.address}:{world.port}, for {limit.total_seconds():g} s at most (engine.timeout)"
                with waiting(f"{who}, waits for the others {at}"):
                    _connect(world, backend, limit)
        elif dist.get_world_size() != world.size or dist.get_rank() != world.rank:
            raise EngineError(
                f"this process already is rank {dist.get_rank()} of {dist.get_world_size()} in torch.distributed, "
                f"and {world.launcher} says {world.rank} of {world.size}"
            )
        self._messages = self.channel()
        self._pulse = None if world.size == 1 else self._begin_pulse(world, timeout)

    def close(self) -> None:
        """Take leave of the others, who then wait for no sign of this rank; the connections stay."""
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

    def _begin_pulse(self, world: World, timeout: float) -> Pulse:
        listener = None
        told = {"host": os.environ.get(HOST) or socket.gethostname(), "port": 0, "word": ""}
        if self.rank == 0:
            both = socket.has_dualstack_ipv6()
            listener = socket.create_server(
                ("", 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both, backlog=self.size
            )
            told |= {"port": listener.getsockname()[1], "word": secrets.token_hex(16)}
        found = self.gather(told)
        hosts = tuple(each["host"] for each in found)
        meeting = Meeting(hosts=hosts, port=found[0]["port"], word=found[0]["word"])
        watch = Watch(patient=(Channel.gather.__code__,), window=timeout / 8)
        pulse = Pulse(self.rank, meeting, timeout=timeout, look=watch.look, lost=give_up)
        if listener is not None:
            pulse.answer(listener)
        else:
            assert world.address is not None
            pulse.call(world.address)
        return pulse

    def gather(self, value: Any) -> list[Any]:
        """A JSON value of each rank, in rank order, on every rank. NaN and infinities pass."""
        return self._messages.gather(value)

    def channel(self) -> Channel:
        """Messages of its own, for one other thread. Collective."""
        return Channel(self.rank, self.size)

    def reduce(self, value: Tensor, op: str) -> Tensor:
        """A tensor combined over all ranks, the same on each."""
        if self.size == 1:
            return value
        kinds = {
            "sum": dist.ReduceOp.SUM,
            "mean": dist.ReduceOp.SUM,
            "min": dist.ReduceOp.MIN,
            "max": dist.ReduceOp.MAX,
        }
        # Arithmetic on a copy: what the caller passed stays its own. gloo has no booleans.
        whole = value.detach().to(torch.uint8 if value.dtype is torch.bool else value.dtype, copy=True).contiguous()
        dist.all_reduce(whole, op=kinds[op])  # within the timeout: a rank that hangs must end the run
        if op == "mean":
            whole = whole / self.size
        return whole.bool() if value.dtype is torch.bool and op in ("min", "max") else whole

    def begin_max(self, value: Tensor) -> Callable[[], Tensor]:
        """Begin to find the largest of all ranks' tensors, element by element; what is returned waits for it."""
        whole = value.clone()
        work = dist.all_reduce(whole, op=dist.ReduceOp.MAX, async_op=True)

        def wait() -> Tensor:
            work.wait()
            return whole

        return wait

    def number(self, value: float, op: str) -> float:
        """A number combined over all ranks; those that were to come `later` come with it."""
        if self.size == 1:
            return value
        waiting, self._waiting = self._waiting, []
        own = torch.tensor([value, *(each for each, _ in waiting)], dtype=torch.float64)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        # gathered, and added in rank order: a sum's bits do not depend on what else a message carries
        dist.all_gather(parts, own)
        values, *sums = (column.tolist() for column in torch.stack(parts, 1))
        for (_, found), each in zip(waiting, sums, strict=True):
            found.append(sum(each))
        if op in ("min", "max"):
            return float(getattr(torch.tensor(values, dtype=torch.float64), op)())  # which NaN passes through
        total: float = sum(values)
        return total / self.size if op == "mean" else total

    def later(self, value: float) -> Callable[[], float]:
        """The sum of a number over all ranks, for when it is asked for: it comes with the next `number`, or by itself
        where it is asked for before that. Small messages wait for the slowest rank, and cost 0.1 to 0.4 ms each."""
        if self.size == 1:
            return lambda: value
        found: list[float] = []
        self._waiting.append((value, found))

        def total() -> float:
            if not found:
                self.number(0.0, "sum")
            return found[0]

        return total

    def spread(self, tensors: list[Tensor]) -> None:
        """Give every rank what rank 0 has, in place; one message for each type."""
        if self.size == 1 or not tensors:
            return
        for dtype in sorted({each.dtype for each in tensors}, key=str):
            alike = [each for each in tensors if each.dtype == dtype]
            flat = torch.cat([each.detach().reshape(-1) for each in alike])
            sent = flat.to(torch.uint8) if dtype is torch.bool else flat
            dist.broadcast(sent, src=0)
            if self.rank:
                for tensor, part in zip(alike, torch.split(sent, [each.numel() for each in alike]), strict=True):
                    tensor.copy_(part.view(tensor.shape).to(dtype))

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            self._messages.gather(None)


def disconnect() -> None:
    """Leave the other processes, at the end of this one: together, since rank 0 keeps the addresses of all."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _connect(world: World, backend: str, limit: timedelta) -> None:
    assert world.address is not None
    assert world.port is not None
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # the agent's store outlives a restart, and with it the dead group's addresses (pytorch #135712)
            store = TCPStore(world.address, world.port, is_master=False, timeout=limit)
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            dist.init_process_group(
                backend, store=PrefixStore(f"attempt{attempt}", store), rank=world.rank, world_size=world.size,
                timeout=limit,
            )  # fmt: skip
        else:
            store = TCPStore(world.address, world.port, world.size, is_master=world.rank == 0, timeout=limit)
            dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=limit)
    except (RuntimeError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "EADDRINUSE" in str(error) or "address already in use" in str(error).lower():
            raise EngineError(
                f"port {world.port} on {world.address} is in use, so rank 0 cannot answer on it",
                hint="set MASTER_PORT to a free one",
            ) from error
        raise EngineError(
            f"rank {world.rank} of {world.size} could not reach the others through {world.address}:{world.port} "
            f"within {limit.total_seconds():g} s: {said}",
            hint="every process must run, and reach that address and port; engine.timeout is how long they wait",
        ) from error
