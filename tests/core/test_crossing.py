"""Layers and losses that look across examples see those of all processes, or it is said that they do not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import plait
from plait.engine.peers import Peers
from plait.model import Batch
from plait.options import EngineOptions
from plait.training.batches import Order
from plait.training.crossing import seen_together
from plait.weights import load_tensors
from tests.core.crossing_cases import REAL, Cross, fit, fit_real, together
from tests.processes import run
from tests.toys import Points, points

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")
STAGES = [0, 1, 2, 3]


def test_rows_are_those_of_all_and_gradients_go_home() -> None:
    """An idle process's are nobody else's, and its loss still has a place among the others'."""
    rows = torch.arange(10.0).view(5, 2)

    def act(peers: Peers) -> Any:
        peers.borrowed = peers.rank == 2
        own = torch.split(rows, [3, 2])[peers.rank % 2].clone().requires_grad_()
        batch = peers.join(Batch({}, len(own), len(own), borrowed=peers.borrowed))
        every, first = batch.across(own)
        codes, _ = batch.across(torch.arange(len(own)) + 10 * peers.rank)
        (every.sum() * (0.0 if peers.borrowed else peers.rank + 1.0)).backward()
        return every.detach(), first, codes.tolist(), own.grad

    found = together(3, act)
    assert [first for _, first, _, _ in found] == [0, 3, 5]
    for every, _, codes, _ in found[:2]:
        assert torch.equal(every, rows)
        assert codes == [0, 1, 2, 10, 11]
    assert torch.equal(found[2][0], torch.cat((rows, rows[:3])))
    assert found[2][2] == [0, 1, 2, 10, 11, 20, 21, 22]
    assert [each[3].unique().tolist() for each in found] == [[3.0], [3.0], [0.0]]


def test_a_batch_alone_is_the_whole_batch() -> None:
    rows = torch.ones(3, 2)
    every, first = Batch({}, 3, 3).across(rows)
    assert every is rows
    assert first == 0


def test_pinning_and_moving_keep_whose_a_batch_is() -> None:
    batch = Batch({"x": torch.ones(2)}, 0, 2, {"a": 1}, borrowed=True)
    assert replace(batch.to(torch.device("cpu")), tensors={}) == replace(batch, tensors={})


@pytest.mark.parametrize(
    ("options", "processes", "micro", "said"),
    [
        ({}, 1, None, []),
        (
            {},
            1,
            8,
            ["sees the 8 examples of a micro-batch, not the 32", "loss compares the 8 examples"],
        ),
        ({}, 2, None, ["sees the 16 examples of one process's micro-batch, not the 32"]),
        ({"sync_batch_norm": True}, 2, None, []),
        ({"sync_batch_norm": True}, 2, 4, ["sees the 8 examples of a micro-batch", "compares the 8 examples"]),
        ({}, 3, 40, ["sees the 11 examples of one process's"]),
    ],
)
def test_what_sees_less_than_a_batch_is_told(
    options: dict[str, Any], processes: int, micro: int | None, said: list[str]
) -> None:
    model: Any = nn.Sequential(nn.BatchNorm1d(4))
    model.compares_examples = True
    order = Order(examples=100, epochs=1, batch_size=32, seed=0, micro_batch_size=micro, world_size=processes)
    engine: Any = SimpleNamespace(options=EngineOptions(**options))
    found = list(seen_together(model, order, engine))
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


def test_the_fit_says_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path / "run", compare=True, trainer={"micro_batch_size": 4, "max_steps": 3})
    lines = [each.message for each in caplog.records if "micro-batch" in each.message]
    assert ["batch norm sees" in lines[0], "the loss compares" in lines[1], len(lines)] == [True, True, 2]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage on two processes, in one start of them; at the last stage activations are computed again."""
    folder = tmp_path_factory.mktemp("crossing")
    trained(folder, 2)
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On three, one of which is idle at the end of each epoch."""
    folder = tmp_path_factory.mktemp("three")
    trained(folder, 3)
    return folder


def trained(folder: Path, processes: int) -> None:
    stages = [(f"stage-{stage}", {"zero_stage": stage, "activation_checkpointing": stage == 3}) for stage in STAGES]
    run("tests.core.crossing_cases:fits", processes, folder, cases=[(n, {"compare": True, **o}) for n, o in stages])
    fit(folder / "local", compare=True)


@linux
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_learn_what_one_learns(request: pytest.FixtureRequest, processes: int, stage: int) -> None:
    """Batch norm in five forms and a loss over pairs of examples, at the same global batch."""
    folder: Path = request.getfixturevalue("three" if processes == 3 else "two")
    assert_alike(folder / f"stage-{stage}", folder / "local")


@linux
def test_what_is_saved_is_a_plain_model(two: Path) -> None:
    registry, data = plait.registry(Points, Cross), {"test": points(40, seed=9)}
    told = [plait.evaluate(two / each, data, registry=registry).metrics["loss"] for each in ("stage-2", "local")]
    assert told[0] == pytest.approx(told[1], rel=1e-6)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_models_learn_on_three_processes_what_they_learn_on_one(real: Path, name: str) -> None:
    """Networks of the plugins and of timm with batch norm, and both losses that compare examples."""
    for stage in (0, 3):
        assert_alike(real / f"{name}-{stage}", real / f"{name}-local")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    cases = [(f"{name}-{stage}", name, {"zero_stage": stage}) for name in REAL for stage in (0, 3)]
    run("tests.core.crossing_cases:fits_real", 3, folder, cases=cases)
    for name in REAL:
        fit_real(name, folder / f"{name}-local")
    return folder


def assert_alike(found: Path, expected: Path) -> None:
    assert losses(found) == pytest.approx(losses(expected), rel=1e-6)
    weights = load_tensors(found / "model" / "model.safetensors")
    plain = load_tensors(expected / "model" / "model.safetensors")
    assert list(weights) == list(plain)
    for name, tensor in plain.items():
        largest = max(1.0, float(tensor.abs().max()))
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-5 * largest)


def losses(run: Path) -> list[float]:
    """Of each step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"]["loss"] for line in lines if line["split"] == "train"]
