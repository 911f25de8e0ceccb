"""What is decided about CUDA devices, on a machine that has none: torch is told what to say of them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from plait.engine.deepspeed import check_options
from plait.engine.local import find_device, find_precision
from plait.engine.peaks import named_peak
from plait.engine.world import World
from plait.errors import EngineError
from plait.model import Batch
from plait.options import EngineOptions
from plait.training.batches import Plan, _Collate
from tests.toys import PointProcessor, points


@dataclass
class Cuda:
    """What torch says of this machine's devices; whoever makes a context on one is remembered."""

    count: int = 2
    generation: int = 8
    current: int | None = None

    def install(self, patch: pytest.MonkeyPatch) -> Cuda:
        def look(device: Any = None) -> Any:
            self.current = self.current or 0
            return SimpleNamespace(major=self.generation)

        def set_device(device: torch.device) -> None:
            self.current = device.index

        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: self.count)
        patch.setattr(torch.cuda, "current_device", lambda: look() and 0)
        patch.setattr(torch.cuda, "get_device_properties", look)
        patch.setattr(torch.cuda, "set_device", set_device)
        patch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
        return self


def test_a_launcher_touches_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context would take half a gigabyte of the first one, beside its rank, or all of it in exclusive mode."""
    cuda = Cuda().install(monkeypatch)
    check_options(EngineOptions(processes=2, precision="bf16"), World(size=2, launcher="plait"))
    assert find_device("auto").type == "cuda"
    assert cuda.current is None


def test_each_process_of_a_host_takes_the_device_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda().install(monkeypatch)
    assert World(rank=3, size=4, local_rank=1).device("auto") == torch.device("cuda", 1)
    assert cuda.current == 1
    with pytest.raises(EngineError, match="process 2 of this host has no CUDA device: torch finds 2"):
        World(rank=2, size=3, local_rank=2).device("cuda")


def test_a_named_device_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda().install(monkeypatch)
    assert World().device("cuda:1") == torch.device("cuda", 1)
    assert cuda.current == 1
    with pytest.raises(EngineError, match="each of 2 processes needs a device of its own"):
        World(rank=1, size=2, local_rank=1).device("cuda:1")


def test_a_scheduler_may_show_each_process_its_own_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(count=1).install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert World(rank=1, size=2, local_rank=1, launcher="slurm").device("auto") == torch.device("cuda", 0)


def test_a_device_that_only_emulates_bfloat16_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A V100 or T4: slower in bf16 than in fp32."""
    Cuda(generation=7).install(monkeypatch)
    assert find_precision("auto", torch.device("cuda", 0)) is torch.float32
    Cuda(generation=9).install(monkeypatch)
    assert find_precision("auto", torch.device("cuda", 0)) is torch.bfloat16


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A10", 125), ("NVIDIA A10G", 70), ("NVIDIA L40", 181),
        ("NVIDIA L4", 121), ("NVIDIA GH200 480GB", 989), ("NVIDIA GB200", 2500), ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA RTX A4000", None), ("NVIDIA RTX A1000", None),
    ],
)  # fmt: skip
def test_a_peak_is_of_the_device_and_of_none_with_a_longer_name(name: str, teraflops: int | None) -> None:
    assert named_peak(name, torch.bfloat16) == (None if teraflops is None else teraflops * 1e12)


def test_the_thread_that_pins_batches_leaves_examples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's would take a column apart into objects, on CUDA only."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 0)
    examples = points(3)
    collate = _Collate(examples, PointProcessor(["a", "b", "c"]), 0, training=False, keep_examples=True)
    made = collate[Plan(0, (0, 1, 2))]
    pinned = pin_memory(made)
    assert pinned.examples is made.examples
    assert pinned.batch["x"] is not made.batch["x"]
    assert torch.equal(pinned.batch["x"], made.batch["x"])
    assert isinstance(pinned.batch, Batch)
