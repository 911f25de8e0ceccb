"""How images become a network's input, in training and otherwise."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image

from plait.errors import InputError, IntegrityError, RecipeError
from plait.model import Key
from plait_vision.image_classification.networks import CnnOptions
from plait_vision.image_classification.preparation import fit_network_processor, measure_pixels, take_network_processor
from plait_vision.image_classification.processor import Augment, Crop, ImageProcessor, Interpolation
from plait_vision.images import ImageExample

PHOTO = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def processor(
    size: tuple[int, int] = (30, 40),
    channels: int = 3,
    *,
    augment: Augment = "none",
    flip: bool = False,
    crop: Crop = "squash",
    crop_fraction: float = 1.0,
    interpolation: Interpolation = "bilinear",
) -> ImageProcessor:
    return ImageProcessor(
        labels=("cat", "dog"), image_size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels,
        augment=augment, flip=flip, crop=crop, crop_fraction=crop_fraction, interpolation=interpolation,
    )  # fmt: skip


def keys(count: int) -> list[Key]:
    return [Key(seed=7, epoch=1, index=index) for index in range(count)]


def pixels(one: ImageProcessor, image: np.ndarray) -> np.ndarray:
    """Values 0..255, [height, width, channels], of one image."""
    batch = one.collate([ImageExample(image)], keys(1), training=False)
    return np.asarray(batch["image"][0].permute(1, 2, 0) * 255)


def test_values_are_normalised_and_labels_become_indices() -> None:
    one = ImageProcessor(labels=("cat", "dog"), image_size=(1, 2), channels=1, mean=(0.5,), std=(0.25,))
    image = np.array([[[0], [255]]], dtype=np.uint8)
    batch = one.collate([ImageExample(image, "dog"), ImageExample(image, "cat")], keys(2), training=True)
    assert batch["image"].tolist() == [[[[-2.0, 2.0]]]] * 2
    assert batch["label"].tolist() == [1, 0]
    assert (batch.count, batch.size) == (2, 2)


def test_an_empty_batch_has_the_shapes_of_a_full_one() -> None:
    batch = processor().collate([], [], training=True)
    assert batch["image"].shape == (0, 3, 30, 40)
    assert batch["label"].shape == (0,)
    assert batch["label"].dtype == torch.int64
    assert (batch.count, batch.size) == (0, 0)


def test_inputs_without_labels_have_no_targets() -> None:
    assert processor().collate([ImageExample(PHOTO)], keys(1), training=False).get("label") is None
    with pytest.raises(InputError, match=r"'a\.png' has no label"):
        processor().collate([ImageExample(PHOTO, id="a.png")], keys(1), training=True)


def test_an_unknown_label_is_named_with_a_near_one() -> None:
    with pytest.raises(InputError, match=r"(?s)'a\.png' has the label 'dogs'.*'dog'"):
        processor().collate([ImageExample(PHOTO, "dogs", "a.png")], keys(1), training=False)


@pytest.mark.parametrize(
    ("ours", "pillows"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_resizing_is_pillows(ours: Interpolation, pillows: Image.Resampling) -> None:
    wanted = np.asarray(Image.fromarray(PHOTO).resize((16, 12), pillows)).astype(float)
    assert np.abs(pixels(processor((12, 16), interpolation=ours), PHOTO) - wanted).max() <= 1.01  # a rounding apart


def test_colour_to_grey_is_pillows_and_grey_to_colour_repeats() -> None:
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))
    assert np.array_equal(pixels(processor(channels=1), PHOTO).round()[:, :, 0], grey)
    coloured = pixels(processor(), grey[:, :, None]).round()
    assert all(np.array_equal(coloured[:, :, channel], grey) for channel in range(3))


def test_sixteen_bits_are_scaled_by_their_own_largest_value() -> None:
    deep = PHOTO.astype(np.uint16) * 257
    assert np.allclose(pixels(processor(), deep), PHOTO, atol=1e-3)


def test_crops_keep_the_aspect_ratio_and_squashing_does_not() -> None:
    wide = np.zeros((10, 20, 3), dtype=np.uint8)
    wide[:, 5:15] = 255  # a white square in the middle
    assert pixels(processor((10, 10), crop="center"), wide).min() == 255
    padded = pixels(processor((10, 10), crop="pad"), wide)
    assert np.allclose(padded[[0, 1, -2, -1]], 0)  # the border is the mean, here 0
    assert padded[3:7, 4:6].min() == 255
    squashed = pixels(processor((10, 10), crop="squash"), wide)
    assert squashed[:, 4:6].min() == 255
    assert squashed[:, [0, 9]].max() == 0
    assert pixels(processor((5, 5), crop="center", crop_fraction=0.5), wide[:, 5:15]).shape == (5, 5, 3)


@pytest.mark.parametrize("augment", ["light", "randaugment"])
def test_augmentation_depends_on_the_key_alone(augment: Augment) -> None:
    one = processor((16, 16), augment=augment, flip=True)
    examples = [ImageExample(np.roll(PHOTO, shift, axis=0), "cat") for shift in range(6)]
    before = torch.get_rng_state()
    together = one.collate(examples, keys(6), training=True)["image"]
    assert torch.equal(before, torch.get_rng_state())
    apart = [one.collate([examples[at]], [keys(6)[at]], training=True)["image"][0] for at in range(6)]
    assert torch.equal(together, torch.stack(apart))
    plain = one.collate(examples, keys(6), training=False)["image"]
    assert not torch.equal(together, plain)
    assert torch.equal(plain, processor((16, 16)).collate(examples, keys(6), training=True)["image"])


def test_flips_happen_only_when_asked_for() -> None:
    arrow = np.zeros((8, 8, 1), dtype=np.uint8)
    arrow[:, :4] = 255  # bright on the left
    for flip, expected in ((False, range(1)), (True, range(20, 45))):
        one = processor((8, 8), 1, augment="light", flip=flip)
        images = one.collate([ImageExample(arrow, "cat")] * 64, keys(64), training=True)["image"]
        mirrored = images[..., :4].sum((1, 2, 3)) < images[..., 4:].sum((1, 2, 3))
        assert int(mirrored.sum()) in expected


def test_a_processor_survives_json_and_refuses_what_is_none() -> None:
    one = processor(augment="light")
    assert ImageProcessor.from_json(json.loads(json.dumps(one.as_json()))) == one
    for damage in ({"colour": 1}, {"std": [0.0, 1.0, 1.0]}, {"crop": "zoom"}):
        with pytest.raises(IntegrityError, match=r"processor\.json"):
            ImageProcessor.from_json(one.as_json() | damage)


def test_a_batch_of_ready_images_costs_little() -> None:
    one = processor((64, 64))
    examples = [ImageExample(np.zeros((64, 64, 3), dtype=np.uint8), "cat")] * 16
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        one.collate(examples, keys(16), training=True)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 2e-3  # 0.2 ms on an idle core


PROBLEM = {"labels": ["cat", "dog"], "channels": 3, "height": 30, "width": 100}


def test_mean_and_std_are_those_of_the_training_images() -> None:
    train = [ImageExample(np.full((2, 2, 1), value, dtype=np.uint8), "cat") for value in (0, 255)]
    assert measure_pixels(train, channels=1) == ((0.5,), (0.5,))
    fitted = fit_network_processor(CnnOptions(name="vision/cnn"), PROBLEM, train, most=64, step=8)
    assert (fitted.image_size, fitted.mean, fitted.std) == ((32, 64), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(RecipeError, match=r"model\.mean and model\.std"):
        fit_network_processor(CnnOptions(name="vision/cnn"), PROBLEM, None, most=64)


def test_what_the_options_say_wins() -> None:
    options = CnnOptions(name="vision/cnn", image_size=8, channels=1, mean=0.1, std=(0.2,), crop="pad")
    fitted = fit_network_processor(options, PROBLEM, None, most=64)
    assert (fitted.image_size, fitted.channels, fitted.mean, fitted.std) == ((8, 8), 1, (0.1,), (0.2,))
    assert fitted.crop == "pad"
    with pytest.raises(RecipeError, match=r"model\.mean has 2 values"):
        fit_network_processor(CnnOptions(name="vision/cnn", mean=(0.1, 0.2), std=1), PROBLEM, None, most=64)


def test_a_run_to_start_from_gives_its_preprocessing_for_new_labels() -> None:
    earlier = processor((16, 16))
    taken = take_network_processor(earlier, CnnOptions(name="vision/cnn", std=0.5), PROBLEM | {"labels": ["ant"]}, None)
    assert (taken.image_size, taken.mean, taken.std, taken.labels) == ((16, 16), (0.0,) * 3, (0.5,) * 3, ("ant",))
    assert taken.augment == "light"  # the options', not the earlier run's
