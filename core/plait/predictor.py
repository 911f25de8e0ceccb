"""How does a loaded run answer questions?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.artifact import Artifact, load_model
from plait.errors import InputError, RunError, did_you_mean
from plait.task import Prediction
from plait_registry.registry import Registry

if TYPE_CHECKING:
    from plait.composition import Composition, Stage


class Predictor:
    """A fitted model as a function from raw inputs to predictions, with typed ports, so that predictors compose.

    It does not know how the model was fitted.

    Args:
        artifact: what was loaded.
        path: the run or model directory that it came from.
    """

    def __init__(self, artifact: Artifact, *, path: Path) -> None:
        self.artifact = artifact
        self.path = path

    @property
    def name(self) -> str:
        """What messages call it: its task."""
        return self.artifact.spec.name

    @property
    def accepts(self) -> Mapping[str, str]:
        """Input ports and their types."""
        return self.artifact.spec.accepts

    @property
    def returns(self) -> Mapping[str, str]:
        """Output ports and their types."""
        return self.artifact.spec.returns

    def __call__(self, inputs: Any) -> Any:
        """One input gives a `Prediction`; a list or tuple of inputs gives a list of them.

        Raises:
            InputError: the input, or one of them, is wrong.
        """
        if isinstance(inputs, list | tuple):
            return list(checked(self.predict(inputs)))
        return next(checked(self.predict([inputs])))

    def predict(self, inputs: Sequence[Any], *, batch_size: int = 64) -> list[Prediction]:
        """One prediction for each input, in order; a wrong input gives one whose `error` says why.

        Args:
            inputs: mappings from port names to values, or bare values where the task has one input port.
            batch_size: inputs of one forward.
        """
        return list(self.stream(inputs, batch_size=batch_size))

    def stream(self, inputs: Sequence[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """The same, a batch at a time."""
        task, problem = self.artifact.task, self.artifact.problem
        for first in range(0, len(inputs), batch_size):
            answers: list[Prediction | None] = []
            examples = []
            for value in inputs[first : first + batch_size]:
                try:
                    examples.append(task.parse(named(value, self.accepts), problem))
                    answers.append(None)
                except InputError as error:
                    answers.append(Prediction(error="; ".join(filter(None, [error.message, error.hint]))))
            predictions = iter(self.artifact.model.predict(examples) if examples else [])
            for answer in answers:
                yield task.present(next(predictions), problem) if answer is None else answer

    def __or__(self, other: Stage) -> Composition:
        from plait.composition import compose

        return compose(self, other)


def load(path: str | Path, registry: Registry | None = None) -> Predictor | Composition:
    """The predictor of a run directory, a model directory, or a saved composition.

    Raises:
        RunError: there is none in the directory.
        IntegrityError: a file of it is missing or changed.
        PluginError: a plugin that it needs is absent or older.
    """
    from plait.composition import COMPOSITION, load_composition

    directory = Path(path)
    registry = registry or Registry.discover()
    if (directory / COMPOSITION).is_file():
        return load_composition(directory, registry)
    if (directory / "plait.json").is_file():
        return Predictor(load_model(directory, registry), path=directory)
    if (directory / "model").is_dir():
        return Predictor(load_model(directory / "model", registry), path=directory)
    if (directory / "run.json").is_file():
        from plait.run import Run

        status = Run.open(directory).status
        raise RunError(
            f"{directory}: the run has no model yet (its status is {status})",
            hint=f"go on with: plait train --out {directory} --resume",
        )
    if not directory.is_dir():
        siblings = [each.name for each in directory.parent.iterdir()] if directory.parent.is_dir() else []
        raise RunError(f"{directory}: no such directory", hint=did_you_mean(directory.name, siblings))
    raise RunError(f"{directory}: neither a run, nor a model directory, nor a composition")


def named(value: Any, accepts: Mapping[str, str]) -> Mapping[str, Any]:
    """Port values by name; a bare value goes to the only port.

    Raises:
        InputError: a port is missing or unknown, or a bare value was given for several ports.
    """
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in accepts]
        missing = [port for port in accepts if port not in value]
        if unknown or missing:
            said = [f"unknown {', '.join(unknown)}"] if unknown else []
            said += [f"missing {', '.join(missing)}"] if missing else []
            raise InputError(f"ports: {'; '.join(said)}; expected {', '.join(accepts)}")
        return value
    if len(accepts) != 1:
        raise InputError(f"expected a mapping with the ports {', '.join(accepts)}, not a bare {type(value).__name__}")
    return {next(iter(accepts)): value}


def checked(predictions: Sequence[Prediction]) -> Iterator[Prediction]:
    """The predictions; the first that is an error is raised."""
    for position, prediction in enumerate(predictions):
        if prediction.error is not None:
            raise InputError(f"input {position}: {prediction.error}" if len(predictions) > 1 else prediction.error)
        yield prediction
