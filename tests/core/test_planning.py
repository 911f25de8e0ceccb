"""What a training would take, against what one really holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.api import layers, with_classes
from plait.config import resolve
from plait.engine.shards import ShardIndex
from plait.errors import RecipeError
from plait.planning import Plan, activation_bytes, plan
from plait_registry.registry import Registry
from tests.core.engine_cases import Deep, batches, part
from tests.core.test_gradient import train
from tests.toys import Means, Net, Points, points


def planned(model: str = "toy/net", **engine: Any) -> Plan:
    registry = with_classes(Registry.discover(), [Points, Net, Means])
    named = {f"engine.{key}": value for key, value in engine.items()}
    named |= {"model.name": model}
    if model == "toy/net":
        named |= {"trainer.batch_size": 16, "trainer.epochs": 3}
    recipe = resolve(layers("toy/points", named, environ={}), registry)
    return plan(recipe, registry, data=points())


def test_steps_and_shares_are_those_of_a_run() -> None:
    found = planned(processes=3)
    assert (found.examples, found.steps_per_epoch, found.steps) == (72, 5, 15)
    assert (found.micro_batch_size, found.accumulation) == (6, 1)  # 16 examples on 3 processes: 6, 5, 5


def test_stages_shard_what_they_say() -> None:
    found = planned(processes=2)
    held = {(each.zero_stage, each.offload): each for each in found.memory}
    whole = found.trained * 4
    assert [held[stage, None].optimizer for stage in range(4)] == [2 * whole, whole, whole, whole]
    assert [held[stage, None].gradients for stage in range(4)] == [whole, whole, whole / 2, whole / 2]
    assert [held[stage, None].weights for stage in range(4)] == [whole, 1.5 * whole, 1.5 * whole, whole / 2]
    assert held[2, "cpu"].peak < held[2, None].peak
    assert held[3, "nvme"].steady == 1.5 * whole
    assert held[3, "nvme"].disk == 1.5 * whole  # master weights and two moments of half the elements
    assert held[3, "nvme"].peak == held[3, "cpu"].peak
    assert held[3, "nvme"].host == held[3, "cpu"].host - 1.5 * whole == 1.5 * whole  # the weights, gradients twice
    assert found.memory[0] is held[0, None]  # what the recipe asks for comes first


def test_the_plan_of_one_process_is_what_a_run_holds(tmp_path: Path) -> None:
    run = train(tmp_path / "run", epochs=1, optimizer="adamw", weight_decay=0.0)
    index = ShardIndex(max((run.path / "checkpoints").iterdir()))

    def held(*slots: str) -> int:
        return 4 * sum(math.prod(shape) for slot in slots for shape in index.shapes[slot].values())

    found = planned()
    assert held("optimizer.exp_avg", "optimizer.exp_avg_sq") == found.memory[0].optimizer
    assert held("parameter") == found.memory[0].weights == 4 * found.parameters


def test_recomputed_activations_are_fewer() -> None:
    from plait.engine.activations import checkpoint_activations

    x, y = batches(1, size=64)[0]
    whole = activation_bytes(Deep(), part(x, y))
    model = Deep()
    assert checkpoint_activations(model) == 3
    assert activation_bytes(model, part(x, y)) < 0.75 * whole
    with pytest.raises(RecipeError, match="no repeated blocks"):
        checkpoint_activations(torch.nn.Linear(2, 2))


def test_a_model_without_batches_is_refused() -> None:
    with pytest.raises(RecipeError, match="fitted by iteration"):
        planned("toy/means")


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned()
    assert list(tmp_path.iterdir()) == []
