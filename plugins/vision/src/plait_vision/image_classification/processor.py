"""How do images of any size become the one tensor that a network was fitted on?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.errors import InputError, IntegrityError, did_you_mean
from plait.model import Batch, Key, Processor
from plait.randomness import seeded
from plait_vision.images import ImageExample

Augment = Literal["none", "light", "randaugment"]
Crop = Literal["squash", "center", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]

_ZOOM = 0.1  # `light` enlarges or shrinks by up to this part, and shifts by up to this part of each side
_TURN = math.radians(10)
_LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)  # ITU-R 601-2 in 16-bit fixed point, as Pillow's "L" has it


@dataclass(frozen=True, kw_only=True)
class ImageProcessor(Processor):
    """The preprocessing of an image classifier. It knows no file, no network and no device.

    An image is converted to `channels`, resized (antialiased, rounded to 8 bits where it had 8) and cropped to
    `image_size`, scaled by its type's largest value to 0..1, and normalised: (value - mean) / std.

    Args:
        labels: class names, in the order of the target indices.
        image_size: (height, width) of the network's input.
        channels: 1 (grey, by ITU-R 601-2 luma) or 3 (RGB; a grey image is repeated).
        mean, std: for each channel, of values in 0..1.
        interpolation: of the resizing.
        crop: "squash" changes the aspect ratio, "center" cuts the longer side's ends off, "pad" adds borders of `mean`.
        crop_fraction: the part of each side that "squash" and "center" keep after resizing (timm's crop_pct).
        augment: in training "light" zooms and shifts by up to a tenth and turns by up to 10 degrees; "randaugment"
            first applies two of RandAugment's operations at magnitude 9 (Cubuk et al. 2019), on values of 8 bits.
        flip: whether an augmentation also mirrors every second image left to right.
        class_counts: training examples of each class, where the loss is to balance them; else ().
        origin: where mean and std come from, for reports.
    """

    labels: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    crop: Crop = "squash"
    crop_fraction: float = 1.0
    augment: Augment = "none"
    flip: bool = False
    class_counts: tuple[int, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or min(self.image_size) < 1 or not 0 < self.crop_fraction <= 1:
            raise ValueError(f"{self.channels} channels of {self.image_size}, of which {self.crop_fraction} is kept")
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} do not fit {self.channels} channels")
        for value, allowed in ((self.interpolation, Interpolation), (self.crop, Crop), (self.augment, Augment)):
            if value not in get_args(allowed):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(allowed))}")

    def collate(self, examples: Sequence[ImageExample], keys: Sequence[Key], *, training: bool) -> Batch:
        """Images and, where every example has a label, targets.

        Returns:
            "image": float32 [batch, channels, height, width]; "label": int64 [batch].

        Raises:
            InputError: an example has a label that the problem lacks, or none in training.
        """
        augmented = training and self.augment != "none" and len(examples) > 0
        pixels = self._pixels(examples)
        if augmented and self.augment == "randaugment":
            pixels = self._randaugmented(pixels, keys)
        if augmented:
            pixels = _jittered(pixels, keys, flip=self.flip)
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
        tensors = {"image": pixels.div_(255).sub_(mean).div_(std)}
        if training or all(example.label is not None for example in examples):
            tensors["label"] = torch.tensor([self._target(example) for example in examples], dtype=torch.int64)
        return Batch(tensors, count=len(examples), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields, or values that do not fit each other.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"processor.json does not describe an image processor: {error}") from error

    def _target(self, example: ImageExample) -> int:
        try:
            return self.labels.index(example.label)
        except ValueError:
            what = "has no label" if example.label is None else f"has the label {example.label!r}, which is not a class"
            raise InputError(
                f"image {example.id!r} {what}", hint=did_you_mean(example.label or "", self.labels)
            ) from None

    def _pixels(self, examples: Sequence[ImageExample]) -> Tensor:
        """Values 0..255, float32 [batch, channels, height, width]."""
        pixels = torch.empty(len(examples), self.channels, *self.image_size)
        images = [example.image for example in examples]
        if self.crop_fraction == 1 and images and _all_are(images, (*self.image_size, self.channels)):
            return pixels.copy_(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        for row, image in zip(pixels, images, strict=True):
            row.copy_(self._fitted(image))  # an image of one channel is repeated
        return pixels

    def _fitted(self, image: npt.NDArray[Any]) -> Tensor:
        """One image in the right size: uint8, or float32 0..255 where it was uint16; [1 or channels, height, width]."""
        if image.shape[2] == 3 and self.channels == 1:
            image = ((image.astype(np.uint32) @ _LUMA + 0x8000) >> 16).astype(image.dtype)[..., None]
        if image.dtype != np.uint8:
            image = image.astype(np.float32) / np.float32(257)  # 65535 -> 255
        pixels = torch.from_numpy(
            np.array(image.transpose(2, 0, 1), order="C")
        )  # a copy: Pillow's arrays are read-only
        height, width = self._resized(image.shape[0], image.shape[1])
        if (height, width) != tuple(pixels.shape[1:]):
            pixels = _resize(pixels, height, width, self.interpolation)
        return self._centred(pixels)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size to which an image is resized before it is cropped or padded."""
        goal = self.image_size
        if self.crop == "pad":
            scale = min(goal[0] / height, goal[1] / width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        goal = (math.floor(goal[0] / self.crop_fraction), math.floor(goal[1] / self.crop_fraction))
        if self.crop == "squash":
            return goal
        if goal[0] * width >= goal[1] * height:  # the height decides, and the width has some to spare
            return goal[0], max(goal[1], goal[0] * width // height)
        return max(goal[0], goal[1] * height // width), goal[1]

    def _centred(self, pixels: Tensor) -> Tensor:
        """Cut or pad to `image_size`, the same on both sides."""
        height, width = self.image_size
        top, left = round((pixels.shape[1] - height) / 2), round((pixels.shape[2] - width) / 2)
        if top >= 0 and left >= 0:
            return pixels[:, top : top + height, left : left + width]
        border = torch.tensor(self.mean).mul(255).view(-1, 1, 1).expand(self.channels, height, width).clone()
        border[:, -top : -top + pixels.shape[1], -left : -left + pixels.shape[2]] = pixels
        return border

    def _randaugmented(self, pixels: Tensor, keys: Sequence[Key]) -> Tensor:
        """RandAugment on 8-bit images; each draws from its own key."""
        from torchvision.transforms.v2 import InterpolationMode, RandAugment

        fill = [round(255 * value) for value in self.mean]
        augmentation = RandAugment(num_ops=2, magnitude=9, interpolation=InterpolationMode.BILINEAR, fill=fill)
        images = pixels.round().to(torch.uint8)
        with seeded(0):  # gives the global generators back as they were
            for row, image, key in zip(pixels, images, keys, strict=True):
                torch.manual_seed(int(key.generator().integers(2**62)))
                row.copy_(augmentation(image))
        return pixels


def _all_are(images: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> bool:
    return all(image.shape == shape and image.dtype == np.uint8 for image in images)


def _resize(pixels: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """[channels, height, width] to another size, antialiased; uint8 stays uint8, as in Pillow."""
    size = (height, width)
    if interpolation == "nearest":
        return F.interpolate(pixels[None], size, mode="nearest-exact")[0]
    resized = F.interpolate(pixels[None], size, mode=interpolation, antialias=True, align_corners=False)[0]
    return resized if resized.dtype == torch.uint8 else resized.clamp_(0, 255)  # bicubic overshoots


def _jittered(pixels: Tensor, keys: Sequence[Key], *, flip: bool) -> Tensor:
    """Sample the batch on grids that each key's own numbers zoom, turn, shift and mirror; borders repeat.

    The grids are made number by number: `affine_grid` multiplies matrices, whose last bits depend on the batch.
    """
    drawn = torch.from_numpy(np.stack([key.generator().random(6) for key in keys]).astype(np.float32))
    signed = 2 * drawn[:, :, None, None] - 1  # [batch, 6, 1, 1] in -1..1
    height, width = pixels.shape[2:]
    columns, rows = ((2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1 for side in (width, height))
    across, down = columns[None, None, :] * (width / height), rows[None, :, None]  # in units of half the height
    angle = signed[:, 0] * _TURN
    turned_across = across * torch.cos(angle) - down * torch.sin(angle)
    turned_down = across * torch.sin(angle) + down * torch.cos(angle)
    zoom = torch.exp(signed[:, 1:3] * math.log1p(_ZOOM))  # of width and height, apart
    shift = signed[:, 3:5] * (2 * _ZOOM)  # a side is 2 long in a grid's units
    mirror = torch.sign(signed[:, 5] + 1e-9) if flip else 1.0
    grid_across = turned_across * (height / width) * zoom[:, 0] * mirror + shift[:, 0]
    grid = torch.stack((grid_across, turned_down * zoom[:, 1] + shift[:, 1]), dim=-1)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
