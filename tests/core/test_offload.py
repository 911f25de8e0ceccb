"""Optimizer state on a disk (engine.offload=nvme): the same steps, and nothing left behind."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.api import layers, with_classes
from plait.config import resolve
from plait.engine.mapped import MappedFiles
from plait.engine.settings import deepspeed_config
from plait.errors import EngineError, RecipeError, StorageError
from plait.options import EngineOptions
from plait_registry.registry import Registry
from tests.core.engine_cases import Deep, batches, make, step
from tests.figures import Figure
from tests.processes import run
from tests.toys import Net, Points

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""As in test_memory: glibc would keep the buffers that were gathered."""
RULES: list[dict[str, Any]] = [
    {"optimizer": "sgd", "momentum": 0.0},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "adam"},
    {"optimizer": "adamw", "weight_decay": 0.1, "average": 0.9},
    {"optimizer": "rmsprop", "momentum": 0.9},
]


def on_disk(folder: Path) -> dict[str, str]:
    return {"offload": "nvme", "offload_directory": str(folder)}


def mapped(folder: Path) -> int:
    """Bytes of files of a folder that this process has in its address space; they have no names any more."""
    ranges = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if f"{folder}/" in line]
    return sum(int(end, 16) - int(start, 16) for start, end in (each.split("-") for each in ranges))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['optimizer']}-{rule.get('momentum', '')}")
@pytest.mark.parametrize("stage", [2, 3])
def test_where_the_state_is_changes_no_bit_of_a_step(stage: int, rule: dict[str, Any], tmp_path: Path) -> None:
    """Weights, averages and every moment after four steps of two micro-batches, and after a checkpoint of them is read
    back; against the same without offload."""

    def fitted(**options: Any) -> dict[str, torch.Tensor]:
        engine, _, _ = make(stage, {"learning_rate": 0.01, "clip": None, **rule}, kind=Deep, **options)
        torch.manual_seed(0)
        for x, y in batches(3):
            step(engine, x, y, micro=2)
        engine.copy_shards().write(tmp_path)
        step(engine, *batches(1)[0])
        engine.load_shards(tmp_path)
        torch.manual_seed(1)
        step(engine, *batches(4)[3], micro=2)
        found = dict(engine.copy_shards().pieces)
        with engine.averaged():
            found |= {name: tensor.clone() for name, tensor in engine.full_state_dict()}
        engine.close()
        return found

    (tmp_path / "disk").mkdir()
    expected, found = fitted(), fitted(**on_disk(tmp_path / "disk"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_masters_moments_averages_and_copies_are_in_files_without_names(stage: int, tmp_path: Path) -> None:
    engine, model, optimizer = make(stage, {"optimizer": "adamw", "average": 0.9}, kind=Wide, **on_disk(tmp_path))
    whole = 4 * sum(getattr(each, "ds_numel", each.numel()) for each in model.parameters() if each.requires_grad)
    held = mapped(tmp_path)
    assert whole * 4 <= held <= whole * 4.1 + 2**16
    step(engine, *batches(1)[0])
    engine.load_shards(written(engine.copy_shards(), tmp_path / "shards"))
    step(engine, *batches(1)[0])
    assert mapped(tmp_path) == held  # an update and a checkpoint that is read put nothing elsewhere
    copy = engine.copy_shards()
    assert mapped(tmp_path) >= held + 0.9 * whole * 4
    assert [each.name for each in tmp_path.iterdir()] == ["shards"]
    del copy
    engine.close()
    assert mapped(tmp_path) == 0
    assert optimizer.state == {}


class Wide(Deep):
    """With tensors that are worth a file each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.Sequential(torch.nn.Linear(5, 20000), torch.nn.Tanh(), torch.nn.Linear(20000, 5))


Wide.__abstractmethods__ = frozenset()


def written(shards: Any, folder: Path) -> Path:
    folder.mkdir()
    shards.write(folder)
    return folder


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of at most a mebibyte: what a full disk says, and without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_is_told_before_a_step(tmp_path: Path, small_files: None) -> None:
    files = MappedFiles(tmp_path)
    assert files.copy(torch.arange(2**17)).sum() == 2**16 * (2**17 - 1)
    with pytest.raises(StorageError, match=r"offload_directory.*2,097,152 bytes"):
        files.zeros(torch.empty(2**19))
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such directory") as raised:
        make(2, {"optimizer": "sgd"}, **on_disk(tmp_path / "absent"))
    assert "fast disk" in str(raised.value.hint)


def test_on_the_cpu_offload_to_its_memory_says_that_it_saves_none(caplog: pytest.LogCaptureFixture) -> None:
    engine, _, _ = make(2, {"optimizer": "sgd"}, offload="cpu")
    engine.close()
    assert "the device is the CPU already" in caplog.text


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"offload": "nvme"}, "needs engine.offload_directory"),
        ({"offload_directory": "/tmp"}, "is for engine.offload=nvme alone"),
        ({"offload": "disk"}, "'cpu' or 'nvme'"),
    ],
)
def test_a_recipe_says_what_goes_together(named: dict[str, str], said: str) -> None:
    registry = with_classes(Registry.discover(), [Points, Net])
    recipe = layers("toy/points", {f"engine.{key}": value for key, value in named.items()}, environ={})
    with pytest.raises(RecipeError, match=said):
        resolve(recipe, registry)


def test_memory_that_an_update_takes_is_bounded() -> None:
    options = EngineOptions(zero_stage=3, offload="nvme", offload_directory="/tmp")
    zero = deepspeed_config(options, clip=None, elements=10**9)["zero_optimization"]
    assert zero["sub_group_size"] == 25_000_000
    given = options.model_copy(update={"config": {"zero_optimization": {"sub_group_size": 1000}}})
    assert deepspeed_config(given, clip=None, elements=10**9)["zero_optimization"]["sub_group_size"] == 1000


@pytest.mark.slow
@pytest.mark.figures(minutes=1)
def test_on_a_disk_a_large_model_takes_less_memory(tmp_path: Path, figure: Figure) -> None:
    """A hundred million parameters at ZeRO 3: anonymous memory, which the system cannot write to a file."""
    told = {}
    for offload in ("cpu", "nvme"):
        folder = tmp_path / offload
        run("tests.core.memory_cases:large", 1, folder, environ=MALLOC, stage=3, offload=offload)
        told[offload] = json.loads((folder / "told.json").read_text())[0]
        figure(
            f"100 M parameters, ZeRO 3, one process, offload={offload}: memory between steps, files left out",
            f"{told[offload]['anonymous']} MiB",
        )
    assert told["nvme"]["first"] == told["cpu"]["first"]
    parameters = 4 * told["cpu"]["parameters"] / 2**20
    assert told["cpu"]["anonymous"] - told["nvme"]["anonymous"] > 2.8 * parameters  # of 3: weights and two moments
