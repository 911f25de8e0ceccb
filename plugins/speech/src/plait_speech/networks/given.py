"""How do weights that a user names get into a network, and how does a saved network forget them?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plait.model import NeuralModel
from plait.options import ModelOptions
from plait.weights import read_weights


def take_given(model: NeuralModel, options: ModelOptions) -> list[str]:
    """Copy the weights of `model.weights`, where there is such a file; a note for each of ours that it lacks.

    Raises:
        DataError: the file is absent, or no file of weights.
    """
    if options.weights is None:
        return []
    return [f"{options.weights}: {note}" for note in model.take_weights(read_weights(Path(options.weights)))]


def on_its_own(options: Any) -> Any:
    """The options of a model that has its weights, and needs neither file nor run that they came from."""
    return options.model_copy(update={"weights": None, "from_": None})
