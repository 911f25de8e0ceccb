"""Which process of how many is this one, according to whoever started it?"""

from __future__ import annotations

import os
import re
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
        for find in (_torchrun, _slurm, _open_mpi):
            world = find(given)
            if world is not None and world.size > 1:
                return world._checked()
        return cls()

    def device(self, name: str) -> torch.device:
        """The device of this process: of CUDA devices, the one of its number on its host.

        Raises:
            EngineError: there are fewer devices than processes.
        """
        import torch

        from plait.engine.local import find_device

        device = find_device(name)
        if device.type == "mps":
            return torch.device("cpu")
        if device.type == "cuda":
            if self.local_rank >= torch.cuda.device_count():
                count = torch.cuda.device_count()
                raise EngineError(
                    f"process {self.local_rank} of this host has no CUDA device: torch finds {count}",
                    hint="start as many processes as there are devices, or use engine.device=cpu",
                )
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        return device

    def _checked(self) -> World:
        if not 0 <= self.rank < self.size:
            raise EngineError(
                f"{self.launcher} says that this is process {self.rank} of {self.size}; ranks are 0 to {self.size - 1}"
            )
        if self.address is None or self.port is None:
            raise EngineError(
                f"{self.launcher} started {self.size} processes and does not say where rank 0 answers",
                hint="set MASTER_ADDR to the first host's name and MASTER_PORT to a free port on it",
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
    port = _number(given, "MASTER_PORT", 0) or 15000 + _number(given, "SLURM_JOB_ID", 0) % 20000
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
        port=_number(given, "MASTER_PORT", 29500), launcher="openmpi",
    )  # fmt: skip


def first_host(hosts: str) -> str | None:
    """The first host of SLURM's list: "gpu[03-07,9],big1" begins with gpu03."""
    found = re.match(r"\s*([^,\[\s]+)(?:\[([^\]]+)\])?", hosts)
    if found is None:
        return None
    return found[1] + (re.split(r"[-,]", found[2])[0] if found[2] else "")


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\s*\d+\s*", text):
        raise EngineError(f"the environment variable {name} is {text!r}, expected a whole number")
    return int(text)
