"""How does any network of timm become a model: by which preprocessing, and from which weights?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import timm
import torch
from pydantic import Field, JsonValue, field_validator
from timm.models import get_pretrained_cfg
from torch import nn

from plait.errors import DataError, RecipeError, UnknownNameError, did_you_mean
from plait.randomness import seeded
from plait.task import Problem, Split
from plait_vision.image_classification.classifier import ImageClassifier
from plait_vision.image_classification.given_weights import find_config
from plait_vision.image_classification.preparation import (
    NetworkOptions,
    count_classes,
    each_channel,
    fit_network_processor,
    side_pair,
)
from plait_vision.image_classification.processor import Augment, Crop, ImageProcessor, Interpolation

_STEP = 32  # pixels: the last map of most convolutional networks is 32 times smaller than the image
_CONVOLUTIONS = 4  # transformers have one or a few, for the patches; convolutional networks have more
_CROPS: Mapping[str, Crop] = {"center": "center", "squash": "squash", "border": "pad"}
_INTERPOLATIONS: Mapping[str, Interpolation] = {"nearest": "nearest", "bilinear": "bilinear"}  # others: bicubic
_OURS = {
    "num_classes": "the data's labels decide it",
    "in_chans": "use model.channels",
    "img_size": "use model.image_size",
    "drop_rate": "use model.dropout",
    "pretrained": "use model.pretrained",
    "checkpoint_path": "use model.weights",
    "pretrained_cfg": "use model.weights, model.mean, model.std, model.image_size",
    "pretrained_cfg_overlay": "use model.weights, model.mean, model.std, model.image_size",
    "cache_dir": "set the environment variable HF_HOME",
    "features_only": "a classifier needs the whole network",
    "out_indices": "a classifier needs the whole network",
}


class TimmOptions(NetworkOptions):
    """The `model` block of timm/*."""

    pretrained: bool = False
    """Download timm's weights of this name from the Hugging Face hub: the only thing that asks the network."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed on to timm.create_model: {"drop_path_rate": 0.1}."""
    augment: Augment = "light"
    """In training: none; light (zoom, shift and turn a little); randaugment (light, and two of RandAugment's)."""

    @field_validator("arguments")
    @classmethod
    def _not_ours(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in arguments:
            if name in _OURS:
                raise ValueError(f"{name!r} is not for timm to decide: {_OURS[name]}")
        return arguments


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said of given weights: the fields of timm's `pretrained_cfg`, and who says it."""

    values: Mapping[str, Any]
    origin: str
    certain: bool


class TimmClassifier(ImageClassifier):
    """An image classification network of timm, by its timm name. It knows no training set and no hub unless asked.

    Random weights are the default. Given weights bring their preprocessing (size, mean, standard deviation, crop) where
    it is known; the saved model holds it, and needs neither the weights' file nor the hub again.
    """

    Options: ClassVar[type[TimmOptions]] = TimmOptions

    options: TimmOptions

    def __init__(self, *, options: TimmOptions, problem: Problem, processor: ImageProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        kernels = sum(isinstance(module, nn.Conv2d) for module in self.network.modules())
        self.prefers_channels_last = kernels > _CONVOLUTIONS

    @classmethod
    def variants(cls) -> Sequence[str]:
        return tuple(timm.list_models())

    @classmethod
    def fit_processor(cls, *, options: TimmOptions, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        defaults = architecture(options.name)
        declared = _declared(options)
        if declared is None:
            processor = _for_random_weights(options, problem, train, defaults)
        else:
            processor = _for_given_weights(options, problem, train, declared)
        _try_out(options, processor)
        return processor

    @classmethod
    def make_network(cls, options: TimmOptions, processor: ImageProcessor) -> nn.Module:
        network: nn.Module = create_network(options, processor)
        return network

    @classmethod
    def build(cls, *, options: TimmOptions, problem: Problem, processor: ImageProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if options.weights is not None:
            declared = _declared(options)
            if declared is not None and not declared.certain and (options.mean is None or options.std is None):
                model.notes.append(
                    f"{options.weights} does not say how its images were normalised: mean {list(processor.mean)} and "
                    f"std {list(processor.std)} are {declared.origin}; set model.mean and model.std if they were others"
                )
        return model

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the classifier's modules in `network`."""
        named = self.network.pretrained_cfg.get("classifier")
        return (named,) if isinstance(named, str) else tuple(named or ())


def variant(name: str) -> str:
    """The timm name in a model's name: "timm/resnet18" -> "resnet18"."""
    return name.rsplit("timm/", 1)[-1]


@cache
def architecture(name: str) -> Any:
    """timm's `PretrainedCfg` for a model's name.

    Raises:
        UnknownNameError: timm has no such network, or no weights of such a tag.
    """
    known, asked = timm.list_models(), variant(name)
    plain, _, tag = asked.partition(".")
    if plain not in known:
        raise UnknownNameError(
            f"timm has no network {asked!r} (timm {timm.__version__}, {len(known)} networks)",
            hint=did_you_mean(asked, known) or "`plait show timm/` lists them",
        )
    try:
        return get_pretrained_cfg(asked)
    except RuntimeError as error:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
        raise UnknownNameError(
            f"timm has no weights {tag!r} of {plain!r}", hint=f"there are {', '.join(tags) or 'none'}"
        ) from error


def create_network(options: TimmOptions, processor: ImageProcessor) -> Any:
    """The network for a preprocessing: as many inputs and outputs as it has channels and labels.

    Raises:
        RecipeError: timm cannot build it with these arguments.
        DataError: its pretrained weights cannot be had.
    """
    defaults = architecture(options.name)
    given: dict[str, Any] = dict(options.arguments)
    if options.dropout is not None:
        given["drop_rate"] = options.dropout
    if defaults.fixed_input_size:
        given["img_size"] = processor.image_size
    given |= {"num_classes": len(processor.labels), "in_chans": processor.channels}
    try:
        return timm.create_model(variant(options.name), pretrained=options.pretrained, **given)
    except (TypeError, ValueError, AssertionError, AttributeError, KeyError, RuntimeError) as error:
        described = ", ".join(f"{name}={value}" for name, value in given.items())
        raise RecipeError(
            f"timm cannot build {options.name} with {described}: {str(error) or type(error).__name__}",
            hint="check model.arguments and model.image_size",
        ) from error
    except Exception as error:  # the hub fails in the ways of its HTTP library
        if not options.pretrained:
            raise
        raise DataError(
            f"model.pretrained: weights {defaults.hf_hub_id or defaults.url!r} of {options.name} cannot be had: "
            f"{str(error).splitlines()[0]}",
            hint="without a network fill the hub's cache beforehand, or use model.weights=FILE",
        ) from error


def _declared(options: TimmOptions) -> Declared | None:
    """What is known of the weights that the options name; None for random weights."""
    if options.pretrained:
        values = architecture(options.name).to_dict()
        return Declared(values, f"those of timm's weights {values.get('hf_hub_id')}", certain=True)
    if options.weights is None:
        return None
    config = find_config(options.weights)
    if config is None:
        values = architecture(options.name).to_dict()
        return Declared(values, f"timm's defaults for {variant(options.name)}", certain=False)
    plain = variant(options.name).partition(".")[0]
    if config["architecture"].partition(".")[0] != plain:
        raise RecipeError(
            f"{options.weights}: its config.json says {config['architecture']!r}, and model.name is {options.name!r}",
            hint=f"set model.name=timm/{config['architecture']}",
        )
    arguments = {name: value for name, value in (config.get("model_args") or {}).items() if name not in _OURS}
    if any(options.arguments.get(name) != value for name, value in arguments.items()):
        raise RecipeError(
            f"{options.weights}: its network was made with {arguments}", hint=f"set model.arguments to {arguments}"
        )
    values = {**architecture(options.name).to_dict(), **(config.get("pretrained_cfg") or {})}
    return Declared(values, f"those of {options.weights}'s config.json", certain="pretrained_cfg" in config)


def _for_random_weights(options: TimmOptions, problem: Problem, train: Split | None, defaults: Any) -> ImageProcessor:
    """A network that takes one size gets its own; others get the images', in steps of 32 up to their own."""
    height, width = defaults.input_size[1:]
    if options.image_size is None and defaults.fixed_input_size:
        options = options.model_copy(update={"image_size": (height, width)})
    least = max(defaults.min_input_size[1:]) if defaults.min_input_size else 0
    if options.image_size is None and max(problem["height"], problem["width"]) < least:
        options = options.model_copy(update={"image_size": least})
    return fit_network_processor(options, problem, train, most=max(height, width), step=_STEP)


def _for_given_weights(
    options: TimmOptions, problem: Problem, train: Split | None, declared: Declared
) -> ImageProcessor:
    values = declared.values
    channels = options.channels or int(values["input_size"][0])
    mean = _for_channels(values["mean"], channels) if options.mean is None else options.mean
    std = _for_channels(values["std"], channels) if options.std is None else options.std
    named = [name for name in ("mean", "std") if getattr(options, name) is not None]
    origins = [f"model.{name}" for name in named] + [declared.origin] * (len(named) < 2)
    return ImageProcessor(
        labels=tuple(problem["labels"]),
        image_size=side_pair(values["input_size"][1:] if options.image_size is None else options.image_size),
        channels=channels,
        mean=each_channel("mean", mean, channels),
        std=each_channel("std", std, channels),
        interpolation=options.interpolation or _INTERPOLATIONS.get(values["interpolation"], "bicubic"),
        crop=options.crop or _CROPS.get(values.get("crop_mode") or "center", "center"),
        crop_fraction=float(values.get("crop_pct") or 1.0),
        augment=options.augment,
        flip=options.flip,
        class_counts=count_classes(options, problem, train),
        origin=", ".join(origins),
    )


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or standard deviation of weights for RGB, for a network that is to take grey images."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _try_out(options: TimmOptions, processor: ImageProcessor) -> None:
    """Build the network without memory and send an image through, so that a size that it cannot take fails here.

    Raises:
        RecipeError: it cannot take images of this size.
    """
    size = processor.image_size
    if size == tuple(architecture(options.name).input_size[1:]) and not options.arguments:
        return
    plain = options.model_copy(update={"pretrained": False})
    with seeded(0), torch.device("meta"):
        network = create_network(plain, processor).eval()
        try:
            with torch.no_grad():
                network(torch.empty(1, processor.channels, *size))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise RecipeError(
                f"{options.name} cannot take images of {size[0]}x{size[1]}: {str(error) or type(error).__name__}",
                hint=f"set model.image_size to another size; its own is {architecture(options.name).input_size[1]}",
            ) from error
