"""Which process of how many is this one, according to whoever started it?"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plait.errors import EngineError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among those that train together. It opens no connection.

    Args:
        rank: of this process, from 0.
        size: how many there are, on all hosts.
        local_rank: of this process on its host.
        local_size: how many there are on its host; None where the launcher does not say.
        address, port: where rank 0 answers; None for one process.
        launcher: who said so: "torchrun", "slurm", "openmpi", or "none".
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int | None = None
    address: str | None = None
    port: int | None = None
    launcher: str = "none"

    @classmethod
    def find(cls, environ: Mapping[str, str] | None = None) -> World:
        """What the variables of torchrun (and of Plait's own launcher), SLURM's srun, or Open MPI's mpirun say.

        Raises:
            EngineError: the variables contradict each other, or name no address of rank 0.
        """
        given = os.environ if environ is None else environ
        # innermost first: srun may have started torchrun, and mpirun starts its own daemons by srun
        for find in (_torchrun, _open_mpi, _slurm):
            world = find(given)
            if world is not None and world.size > 1:
                return world._checked()
        return cls()

    def device(self, name: str) -> torch.device:
        """The device of this process: of CUDA devices, the one of its number on its host; it is made the current one.

        Raises:
            EngineError: there are fewer devices than processes, or all were to take the same one.
        """
        import torch

        from plait.engine.local import find_device

        device = find_device(name)
        if device.type == "mps":
            return torch.device("cpu")
        if device.type == "cuda":
            device = torch.device("cuda", self._index(device.index, torch.cuda.device_count()))
            torch.cuda.set_device(device)
        return device

    def _index(self, wanted: int | None, count: int) -> int:
        """Which of the `count` CUDA devices of its host."""
        if self.size == 1:
            return wanted or 0
        if wanted is not None:
            raise EngineError(
                f"engine.device=cuda:{wanted}: each of {self.size} processes needs a device of its own",
                hint="use engine.device=cuda; CUDA_VISIBLE_DEVICES says which of a host's devices are to be used",
            )
        if count == 1 and self.launcher in ("slurm", "openmpi") and "CUDA_VISIBLE_DEVICES" in os.environ:
            return 0  # each process was given one of its own (srun --gpus-per-task=1)
        if self.local_rank >= count:
            raise EngineError(
                f"process {self.local_rank} of this host has no CUDA device: torch finds {count}",
                hint="start as many processes as there are devices, or use engine.device=cpu",
            )
        return self.local_rank

    def _checked(self) -> World:
        if not 0 <= self.rank < self.size:
            raise EngineError(
                f"{self.launcher} says that this is process {self.rank} of {self.size}; ranks are 0 to {self.size - 1}"
            )
        if self.address is None or self.port is None:
            raise EngineError(
                f"{self.launcher} started {self.size} processes and does not say where rank 0 answers",
                hint="set MASTER_ADDR to the first host's name, MASTER_PORT to a free port on it (mpirun: by -x NAME)",
            )
        return self


def _torchrun(given: Mapping[str, str]) -> World | None:
    if "RANK" not in given or "WORLD_SIZE" not in given:
        return None
    rank = _number(given, "RANK")
    return World(
        rank=rank, size=_number(given, "WORLD_SIZE"), local_rank=_number(given, "LOCAL_RANK", rank),
        local_size=_number(given, "LOCAL_WORLD_SIZE", 0) or None, address=given.get("MASTER_ADDR"),
        port=_number(given, "MASTER_PORT", 0) or None, launcher="torchrun",
    )  # fmt: skip


def _slurm(given: Mapping[str, str]) -> World | None:
    """Only inside a step of srun: a batch script has SLURM's variables too, and is one process."""
    if "SLURM_STEP_NUM_TASKS" not in given or "SLURM_PROCID" not in given:
        return None
    hosts = given.get("SLURM_STEP_NODELIST") or given.get("SLURM_JOB_NODELIST") or ""
    step = f"{_number(given, 'SLURM_JOB_ID', 0)}.{_number(given, 'SLURM_STEP_ID', 0)}"  # several may share a host
    port = _number(given, "MASTER_PORT", 0) or _port_of(step)
    return World(
        rank=_number(given, "SLURM_PROCID"), size=_number(given, "SLURM_STEP_NUM_TASKS"),
        local_rank=_number(given, "SLURM_LOCALID", 0),
        address=given.get("MASTER_ADDR") or first_host(hosts), port=port, launcher="slurm",
    )  # fmt: skip


def _open_mpi(given: Mapping[str, str]) -> World | None:
    if "OMPI_COMM_WORLD_RANK" not in given:
        return None
    size, local = _number(given, "OMPI_COMM_WORLD_SIZE"), _number(given, "OMPI_COMM_WORLD_LOCAL_SIZE", 0)
    address = given.get("MASTER_ADDR") or ("127.0.0.1" if size == local else None)
    return World(
        rank=_number(given, "OMPI_COMM_WORLD_RANK"), size=size,
        local_rank=_number(given, "OMPI_COMM_WORLD_LOCAL_RANK", 0), local_size=local or None, address=address,
        port=_number(given, "MASTER_PORT", 0) or _port_of(given.get("PMIX_NAMESPACE", "")), launcher="openmpi",
    )  # fmt: skip


def _port_of(job: str) -> int:
    """A port that all processes of a job reckon alike, and other jobs otherwise: below those that systems deal out."""
    return 15000 + zlib.crc32(job.encode()) % 17000


def first_host(hosts: str) -> str | None:
    """The first host of SLURM's list: "rack[2-3]gpu[03-07,9],big1" begins with rack2gpu03."""
    found = re.match(r"\s*((?:[^,\[\s]|\[[^\]]*\])+)", hosts)
    return None if found is None else re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found[1])


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\s*\d+\s*", text):
        raise EngineError(f"the environment variable {name} is {text!r}, expected a whole number")
    return int(text)
