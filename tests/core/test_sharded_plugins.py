"""Real models of the plugins at every ZeRO stage, on two processes: what they learn is what one process learns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import plait
from plait.weights import load_tensors
from tests.core.plugin_cases import TINY, train
from tests.figures import Figure
from tests.processes import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.figures(minutes=4),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux"),
]
STAGES = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models at all stages in one start of two processes, and each once in this one."""
    folder = tmp_path_factory.mktemp("plugins")
    run("tests.core.plugin_cases:trained", 2, folder, names=list(TINY), stages=STAGES, processes=2)
    for name in TINY:
        train(name, folder / f"{name}-local")
    return folder


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", TINY)
def test_two_processes_learn_what_one_learns(trained: Path, name: str, stage: int, figure: Figure) -> None:
    expected, found = (plait.Run.open(trained / f"{name}-{each}") for each in ("local", stage))
    assert found.status == "finished"
    pairs = zip(losses(found), losses(expected), strict=True)
    largest = max(abs(one - by_one) / abs(by_one) for one, by_one in pairs)
    figure(f"losses of plugins' models on two processes from those of one, relative: ZeRO {stage}", largest)
    assert largest <= 2e-6
    for split, metrics in expected.metrics.items():
        assert found.metrics[split] == pytest.approx(metrics, rel=1e-4)
    weights = load_tensors(found.path / "model" / "model.safetensors")
    for key, tensor in load_tensors(expected.path / "model" / "model.safetensors").items():
        assert (weights[key] - tensor).abs().max() <= 1e-4, key  # Adam divides small differences by small numbers


def losses(trained: plait.Run) -> list[float]:
    """Of each step."""
    lines = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"]["loss"] for line in lines if line["split"] == "train"]
