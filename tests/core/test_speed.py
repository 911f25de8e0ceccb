"""One kernel for an update, how much arithmetic a step is, and how fast a device is meant to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from plait.engine.fusing import fuse
from plait.engine.local import LocalEngine, total_norm
from plait.engine.peaks import find_peak, named_peak
from plait.errors import EngineError
from plait.model import Batch
from plait.options import EngineOptions
from plait.training.flops import Arithmetic
from tests.core.engine_cases import ADAMW, SGD, Deep, batches, make, step
from tests.core.test_gradient import train

CPU = torch.device("cpu")


def updated(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for number in range(3):
        for parameter in parameters:
            torch.manual_seed(number)
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return [each.detach() for each in parameters]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_a_fused_optimizer_is_the_one_that_torch_makes(kind: Any) -> None:
    def made(**options: Any) -> torch.optim.Optimizer:
        torch.manual_seed(0)
        optimizer: torch.optim.Optimizer = kind(nn.Linear(40, 30).parameters(), 0.1, **options)
        return optimizer

    ours = made()
    assert fuse(ours, CPU, True)
    for one, other in zip(updated(ours), updated(made(fused=True)), strict=True):
        assert torch.equal(one, other)


def test_auto_leaves_the_cpu_to_the_arithmetic_of_a_loop_written_by_hand() -> None:
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    assert not fuse(optimizer, CPU, "auto")
    assert not optimizer.param_groups[0]["fused"]
    with pytest.raises(EngineError, match="no fused RMSprop"):
        fuse(torch.optim.RMSprop(nn.Linear(2, 2).parameters()), CPU, True)


@pytest.mark.parametrize("stage", [None, 1, 3])
def test_a_fused_training_goes_on_from_its_shards_bit_for_bit(stage: int | None, tmp_path: Path) -> None:
    def fitted(*, cut: bool) -> dict[str, torch.Tensor]:
        engine, _, _ = make(stage, {**ADAMW}, kind=Deep, fused=True)
        torch.manual_seed(0)
        for number, (x, y) in enumerate(batches(4)):
            if cut and number == 2:
                place = tmp_path / str(stage)
                place.mkdir()
                engine.copy_shards().write(place)
                engine.close()
                engine, _, _ = make(stage, {**ADAMW}, kind=Deep, fused=True)
                engine.load_shards(place)
            step(engine, x, y)
        found = {name: tensor.clone() for name, tensor in engine.full_state_dict()}
        engine.close()
        return found

    whole = fitted(cut=False)
    for name, tensor in fitted(cut=True).items():
        assert torch.equal(tensor, whole[name]), name


def test_operations_are_those_of_the_matrix_products() -> None:
    layer, arithmetic = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)), Arithmetic()
    assert arithmetic.of(Batch({"x": torch.zeros(2, 6)}, 2, 2)) == 0
    for rows in (3, 7):  # the first is counted
        batch = Batch({"x": torch.zeros(rows, 6)}, rows, rows)
        with arithmetic.counting(batch):
            layer(batch["x"])
        assert arithmetic.of(batch) == pytest.approx(3 * 2 * rows * (6 * 5 + 5 * 4))


def test_attention_and_convolutions_count() -> None:
    batch = Batch({"x": torch.zeros(2, 3, 8, 8)}, 2, 2)
    arithmetic = Arithmetic()
    with arithmetic.counting(batch):
        nn.Conv2d(3, 4, 3, padding=1)(batch["x"])
    assert arithmetic.of(batch) == pytest.approx(3 * 2 * 2 * 8 * 8 * 4 * 3 * 9)
    arithmetic, queries = Arithmetic(), torch.zeros(2, 3, 8, 16)
    with arithmetic.counting(Batch({"x": queries}, 2, 2)):
        nn.functional.scaled_dot_product_attention(queries, queries, queries)
    assert arithmetic.of(Batch({"x": queries}, 2, 2)) == pytest.approx(3 * 2 * 2 * 3 * 8 * 8 * 16 * 2)


def test_a_device_that_is_known_has_a_peak_and_another_one_has_what_the_recipe_says() -> None:
    assert named_peak("NVIDIA H100 PCIe", torch.bfloat16) == 756e12
    assert named_peak("NVIDIA H100 80GB HBM3", torch.bfloat16) == 989e12
    assert named_peak("NVIDIA A100-SXM4-80GB", torch.float32) == 19.5e12
    assert named_peak("Abacus 3", torch.float32) is None
    assert find_peak(EngineOptions(), CPU, torch.float32) is None
    assert LocalEngine(EngineOptions(device="cpu", peak_tflops=0.5)).peak == 0.5e12


def test_a_run_logs_how_much_it_computed(tmp_path: Path) -> None:
    run = train(tmp_path / "run", epochs=2, log_every=1, engine={"peak_tflops": 0.1})
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["speed"] for line in lines if "speed" in line]
    assert speeds
    for each in speeds:
        assert each["flops_per_second"] > 0
        assert each["utilisation"] == pytest.approx(each["flops_per_second"] / 0.1e12, abs=1e-4)


def test_counting_changes_no_bit(tmp_path: Path) -> None:
    """A resumed run counts in another step than one that was not interrupted."""
    engines = [make(None, {**SGD}, kind=Deep)[0] for _ in range(2)]
    arithmetic = Arithmetic()
    for engine, counted in zip(engines, (True, False), strict=True):
        torch.manual_seed(0)
        for x, y in batches(2):
            batch = Batch({"x": x, "y": y}, len(x), len(x))
            engine.train()
            if counted:
                with arithmetic.counting(batch):
                    output = engine.forward(batch)
            else:
                output = engine.forward(batch)
            assert output.loss is not None
            engine.backward(output.loss, scale=1.0)
            engine.step()
    one, other = (dict(each.full_state_dict()) for each in engines)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_norm_of_gradients_is_torchs_own(count: int) -> None:
    torch.manual_seed(count)
    gradients = [torch.randn(3 + each, 5) * 10.0**each for each in range(count)]
    assert torch.equal(total_norm(gradients), torch.nn.utils.get_total_norm(gradients))


class Asked(TorchDispatchMode):
    """Counts the numbers that are read from tensors: for each, a program waits until the device has come that far."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.numbers += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", [None, 0])
def test_a_step_reads_its_losses_and_its_norm_and_nothing_else(stage: int | None) -> None:
    """On a device they come together, before the update is begun (`read`); the trainer asks for no more."""
    engine, _, _ = make(stage, {**SGD}, kind=Deep)
    (x, y), *_ = batches(1)
    engine.train()
    losses = []
    for part in (slice(0, 5), slice(5, None)):
        output = engine.forward(Batch({"x": x[part], "y": y[part]}, len(x[part]), len(x[part])))
        assert output.loss is not None
        engine.backward(output.loss, scale=0.5)
        losses.append(float(output.loss.detach()))
    with Asked() as asked:
        result = engine.step()
    assert asked.numbers == 3
    assert result.applied
    assert result.losses == losses
    engine.close()
