"""Which of the weights that a user names fit a network, and what happens to the rest?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from plait.errors import DataError, RecipeError
from plait.model import NeuralModel
from plait.options import ModelOptions
from plait.weights import read_weights

_PREFIXES = ("module.", "_orig_mod.", "network.", "timm_model.", "model.")  # of wrappers, Plait's own among them
_NOT_A_WEIGHT = "num_batches_tracked"  # a counter that older checkpoints lack


def load_given(network: nn.Module, path: str, *, head: Sequence[str]) -> list[str]:
    """Fill a network with the weights in a file or directory; say what was left as it was.

    Tensors are taken by name, or by position where every name differs and every shape fits in order. The classifier is
    left out where it is for another number of classes.

    Args:
        head: names of the classifier's modules.

    Raises:
        DataError: the weights cannot be read, or something other than the classifier does not fit.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_NOT_A_WEIGHT)}
    given = _unwrapped(read_weights(Path(path)), own)
    notes = []
    if not given.keys() & own.keys():
        given = _renamed_by_position(given, own, head, path)
        notes.append(f"{path}: no name fits, so all {len(given)} tensors were taken by position; every shape fits")
    in_head = [name for name in own if name.startswith(tuple(f"{each}." for each in head))]
    outside = [name for name in given if name not in own and not name.startswith(tuple(f"{each}." for each in head))]
    _check(given, {name: own[name] for name in own if name not in in_head}, outside, path)
    if any(name not in given or given[name].shape != own[name].shape for name in in_head):
        classes = next((len(given[name]) for name in in_head if name in given), None)
        notes.append(
            f"{path}: its classifier is " + (f"for {classes} classes" if classes else "absent")
            + f"; ours for {len(own[in_head[-1]])} classes is newly initialised"
        )  # fmt: skip
        given = {name: tensor for name, tensor in given.items() if name not in in_head}
    network.load_state_dict({name: tensor for name, tensor in given.items() if name in own}, strict=False)
    return notes


def find_config(path: str) -> dict[str, Any] | None:
    """timm's config.json beside the weights: "architecture", "pretrained_cfg"; None where there is none of timm's.

    Raises:
        DataError: it is not JSON.
    """
    given = Path(path)
    file = (given if given.is_dir() else given.parent) / "config.json"
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: not readable as JSON ({error})", hint="mend it, or keep the weights elsewhere"
        ) from error
    return config if isinstance(config, dict) and "architecture" in config else None


def without_sources(options: ModelOptions) -> Any:
    """The options of a saved model, which needs neither the file nor the run that it once started from."""
    update: dict[str, Any] = {"weights": None, "from_": None}
    if "pretrained" in type(options).model_fields:
        update["pretrained"] = False
    return options.model_copy(update=update)


def take_over(model: NeuralModel, other: Any, *, head: Sequence[str]) -> list[str]:
    """Fill a classifier with another run's weights; the head only where the labels are the same, in the same order.

    Args:
        head: names of the classifier's modules in `model.network`.

    Returns:
        A line for each tensor that is newly initialised.

    Raises:
        RecipeError: the other model is another kind, or none of its weights fit.
    """
    if type(other) is not type(model):
        raise RecipeError(
            f"model.from: the run holds a {type(other).__name__}, and model.name={model.options.name} is a "
            f"{type(model).__name__}",
            hint=f"set model.name={other.options.name}",
        )
    weights = other.state_dict()
    prefixes = tuple(f"network.{each}." for each in head)
    if other.processor.labels != model.processor.labels:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(prefixes)}
    own = model.state_dict()
    if not any(name in own and own[name].shape == weights[name].shape for name in weights if _is_trunk(name, prefixes)):
        raise RecipeError(
            f"model.from: none of the weights of {other.options.name} fit {model.options.name}",
            hint="use the same model.name and model options as the run",
        )
    return model.take_weights(weights)


def _is_trunk(name: str, prefixes: tuple[str, ...]) -> bool:
    return not name.startswith(prefixes) and not name.endswith(_NOT_A_WEIGHT)


def _unwrapped(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without counters, and without the prefixes of wrappers as long as no name is ours."""
    given = {name: tensor for name, tensor in weights.items() if not name.endswith(_NOT_A_WEIGHT)}
    while given and not given.keys() & own.keys():
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in given)), None)
        if prefix is None:
            break
        given = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return given


def _renamed_by_position(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], head: Sequence[str], path: str
) -> dict[str, Tensor]:
    """The given tensors under our names, first to first and last to last."""
    if len(given) != len(own):
        raise DataError(
            f"{path}: none of its {len(given)} tensors has the name of one of the network's {len(own)}",
            hint=f"its first is {next(iter(given), 'nothing')!r}, ours {next(iter(own))!r}: another architecture?",
        )
    heads = tuple(f"{each}." for each in head)
    for (theirs, tensor), (ours, wanted) in zip(given.items(), own.items(), strict=True):
        if tensor.shape != wanted.shape and not ours.startswith(heads):
            raise DataError(
                f"{path}: no tensor has a name that the network has, and by position {theirs!r} has shape "
                f"{list(tensor.shape)} where {ours!r} has {list(wanted.shape)}",
                hint="is it another architecture? model.channels and model.image_size change shapes too",
            )
    return dict(zip(own, given.values(), strict=True))


def _check(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], unknown: Sequence[str], path: str) -> None:
    faults = [f"{name} is missing" for name in wanted if name not in given]
    faults += [
        f"{name} has shape {list(given[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    faults += [f"{name} is not in the network" for name in unknown]
    if faults:
        more = f"\n  and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise DataError(
            f"{path}: {len(faults)} tensors do not fit the network:\n  " + "\n  ".join(faults[:8]) + more,
            hint="is it another architecture? model.channels and model.image_size change shapes too",
            details={"total": len(faults), "faults": faults[:50]},
        )
