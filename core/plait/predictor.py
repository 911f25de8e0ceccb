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
        path: the run or model directory that it came from; None for a model that was ready-made, and is in no run.
    """

    def __init__(self, artifact: Artifact, *, path: Path | None) -> None:
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
    def optional(self) -> tuple[str, ...]:
        """Input ports that may be left out."""
        return self.artifact.spec.optional

    @property
    def returns(self) -> Mapping[str, str]:
        """Output ports and their types."""
        return self.artifact.spec.returns

    @property
    def ahead(self) -> int:
        """How many batches of inputs are worth handing over at once (`Model.ahead`)."""
        return self.artifact.model.ahead

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
            inputs: mappings from port names to values, or bare values where one port takes them (`bare_port`).
            batch_size: inputs of one forward. A model may look at more of them, to sort them by length.
        """
        return list(self.stream(inputs, batch_size=batch_size))

    def stream(self, inputs: Sequence[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """The same, a batch at a time (or as many as the model wants to see at once)."""
        task, problem, model = self.artifact.task, self.artifact.problem, self.artifact.model
        size = batch_size * self.ahead
        for first in range(0, len(inputs), size):
            answers: list[Prediction | None] = []
            examples = []
            for value in inputs[first : first + size]:
                try:
                    examples.append(task.parse(named(value, self.accepts, self.optional), problem))
                    answers.append(None)
                except InputError as error:
                    answers.append(Prediction(error="; ".join(filter(None, [error.message, error.hint]))))
            predictions = iter(model.predict_all(examples, batch_size=batch_size) if examples else [])
            for answer in answers:
                yield task.present(next(predictions), problem) if answer is None else answer

    def live(self, source: Any) -> Iterator[Prediction]:
        """Answers while one input arrives: one after each piece, which may still change, and the final one last.

        Args:
            source: what the task's `pieces` takes: a path, an open binary file such as a pipe, or pieces from Python.

        Raises:
            InputError: the task or the model needs a whole input, or something is wrong with this one.
        """
        task, problem = self.artifact.task, self.artifact.problem
        live = self.artifact.model.live()
        for piece in task.pieces(source, problem):
            yield task.present(live.accept(piece), problem)
        yield task.present(live.finish(), problem)

    def __or__(self, other: Stage) -> Composition:
        from plait.composition import compose

        return compose(self, other)


def load(
    path: str | Path, registry: Registry | None = None, *, options: Mapping[str, Any] | None = None
) -> Predictor | Composition:
    """The predictor of a run directory, a model directory, or a saved composition; or of a registered model that only
    predicts, by its name: `plait.load("speech/espeak", options={"voice": "de"})`.

    Args:
        path: a directory, which wins, or a name.
        options: values of the `model` block: any for a name, and for a run those that may be changed afterwards, which
            only say how answers are found ({"decoding": {"beam": 8}}).

    Raises:
        RunError: there is none in the directory.
        IntegrityError: a file of it is missing or changed.
        PluginError: a plugin that it needs is absent or older.
    """
    from plait.composition import COMPOSITION, load_composition
    from plait.readymade import hint_for, is_ready_made, ready_made

    directory = Path(path)
    registry = registry or Registry.discover()
    if not directory.is_dir() and is_ready_made(str(path), registry):
        return ready_made(str(path), registry, options=options)
    if (directory / COMPOSITION).is_file():
        if options:
            raise RunError(f"{directory}: a composition is as it was saved; change a part's options before composing")
        return load_composition(directory, registry)
    if (directory / "plait.json").is_file():
        return Predictor(load_model(directory, registry, changes=options), path=directory)
    if (directory / "model").is_dir():
        return Predictor(load_model(directory / "model", registry, changes=options), path=directory)
    if (directory / "run.json").is_file():
        from plait.run import Run

        status = Run.open(directory).status
        raise RunError(
            f"{directory}: the run has no model yet (its status is {status})",
            hint=f"go on with: plait train --out {directory} --resume",
        )
    if not directory.is_dir():
        siblings = [each.name for each in directory.parent.iterdir()] if directory.parent.is_dir() else []
        hint = did_you_mean(directory.name, siblings) or hint_for(str(path), registry)
        raise RunError(f"{directory}: no such directory", hint=hint)
    raise RunError(f"{directory}: neither a run, nor a model directory, nor a composition")


def bare_port(accepts: Mapping[str, str], optional: Sequence[str] = ()) -> str | None:
    """The port that a bare value goes to: the only one, or the only one that is not optional, or the first where all
    are; None where a value must say its port."""
    required = [port for port in accepts if port not in optional]
    return required[0] if len(required) == 1 else None if required else next(iter(accepts), None)


def named(value: Any, accepts: Mapping[str, str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """Port values by name; a bare value goes to its port (`bare_port`).

    Raises:
        InputError: a port is missing or unknown, or a bare value was given for several ports.
    """
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in accepts]
        missing = [port for port in accepts if port not in value and port not in optional]
        if unknown or missing:
            said = [f"unknown {', '.join(unknown)}"] if unknown else []
            said += [f"missing {', '.join(missing)}"] if missing else []
            raise InputError(f"ports: {'; '.join(said)}; expected {', '.join(accepts)}")
        return value
    port = bare_port(accepts, optional)
    if port is None:
        raise InputError(f"expected a mapping with the ports {', '.join(accepts)}, not a bare {type(value).__name__}")
    return {port: value}


def checked(predictions: Sequence[Prediction]) -> Iterator[Prediction]:
    """The predictions; the first that is an error is raised."""
    for position, prediction in enumerate(predictions):
        if prediction.error is not None:
            raise InputError(f"input {position}: {prediction.error}" if len(predictions) > 1 else prediction.error)
        yield prediction
