"""What is fitted: the interfaces of a model."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from plait.errors import InputError
from plait.live import Live
from plait.options import ModelOptions
from plait.randomness import seeded
from plait.task import Problem, Split
from plait.weights import FORMAT, load_tensors, save_tensors

if TYPE_CHECKING:
    from plait.engine.base import Engine
    from plait.engine.peers import Peers
    from plait_registry.specs import ModelSpec


class Model(ABC):
    """What is fitted: preprocessing, parameters, decoding. It knows no data file, loop or rank.

    A model that is neither a `NeuralModel` nor an `IterativeModel` only predicts; its spec's trainer is None.
    """

    Options: ClassVar[type[ModelOptions]] = ModelOptions
    spec: ClassVar[ModelSpec | None] = None  # only for a class handed to `plait.train`; a plugin's hook returns its own

    options: ModelOptions
    problem: Problem

    ahead: ClassVar[int] = 1
    """How many batches of inputs are worth having at once: more than one where `predict_all` sorts them by length."""

    @classmethod
    @abstractmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        """A model ready to be fitted on `train`."""

    @abstractmethod
    def predict(self, examples: Sequence[Any]) -> Sequence[Any]:
        """One prediction for each example, in order; a list, or columns that look like one."""

    def predict_all(self, examples: Sequence[Any], *, batch_size: int) -> list[Any]:
        """The same for any number of examples, at most `batch_size` of them at a time."""
        parts = (examples[first : first + batch_size] for first in range(0, len(examples), batch_size))
        return [each for part in parts for each in self.predict(part)]

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write tensors as safetensors and everything else as JSON into an existing directory."""

    @classmethod
    @abstractmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        """Read what `save` wrote; `options` and `problem` are those it was created with."""

    def live(self) -> Live:
        """Answer for one input while it arrives.

        Raises:
            InputError: the model, or this one with its options, needs the whole input.
        """
        raise InputError(
            f"{self.options.name} needs its whole input; it cannot answer while one arrives",
            hint="predict from a whole input, without --live",
        )

    def start_from(self, other: Model) -> list[str]:
        """Take over what fits from a fitted model of the same class (`model.from=RUN`); say what did not fit."""
        raise NotImplementedError(f"{type(self).__name__} cannot start from another run")

    @classmethod
    def variants(cls) -> Sequence[str]:
        """For a family: the names of its members, after the family's prefix."""
        return ()


@dataclass(frozen=True, slots=True)
class Key:
    """The identity of one visit of one example. All randomness of a sample is drawn from it, so that neither
    loader processes nor ranks matter."""

    seed: int
    epoch: int
    index: int

    def generator(self) -> np.random.Generator:
        """A generator of this key's own numbers."""
        return np.random.default_rng((self.seed, self.epoch, self.index))


@dataclass(slots=True)
class Batch:
    """Examples made ready for a forward.

    Args:
        tensors: inputs and targets by name, first dimension examples ([batch, ...]).
        count: the number of terms that the loss averages (examples, tokens), known before any forward.
        size: examples; 0 for the empty batch that keeps an idle rank in step.
        extra: what decoding needs and no device does.
        borrowed: its examples are another process's, and count nothing here.
        peers: the other processes' parts, set by an engine that trains on several.
    """

    tensors: dict[str, Tensor]
    count: int
    size: int
    extra: dict[str, Any] = field(default_factory=dict)
    borrowed: bool = False
    peers: Peers | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def get(self, name: str) -> Tensor | None:
        """A tensor, or None where the batch has none of that name: a target, when predicting."""
        return self.tensors.get(name)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; copies overlap where the memory is pinned."""
        return self._with({name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()})

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for torch's data loader."""
        return self._with({name: tensor.pin_memory() for name, tensor in self.tensors.items()})

    def _with(self, tensors: dict[str, Tensor]) -> Batch:
        return Batch(tensors, self.count, self.size, self.extra, self.borrowed, self.peers)

    def across(self, rows: Tensor) -> tuple[Tensor, int]:
        """The rows of all processes' parts of this micro-batch, [total, ...], and at which of them this part's begin:
        for a loss that compares the examples of a batch. As they are in evaluation and where there is one process.

        Collective: a forward asks for the same on every process. Gradients go back to where a row is from.

        Args:
            rows: numbers made of this part's examples, [rows, ...].
        """
        return (rows, 0) if self.peers is None else self.peers.rows(rows)


class Output(NamedTuple):
    """What a forward gives.

    Args:
        loss: mean over the batch's `count` terms; None where the batch has no targets.
        logits: what decoding starts from, [batch, ...].
        extra: further tensors by name.
    """

    loss: Tensor | None
    logits: Tensor
    extra: dict[str, Tensor] = {}  # noqa: RUF012  # a NamedTuple's default; nobody writes to it


class Processor(ABC):
    """Preprocessing, fitted once and saved with the weights: tokenizer, transform, features. Small and picklable,
    since loader processes get a copy."""

    def units(self, train: Split) -> Split:
        """What an epoch of training visits, one by one: by default the examples of the training split.

        A recommender may visit interactions or windows where the split has users, a language model packed blocks. The
        gradient trainer counts its epochs, batches and examples in these units and hands them to `collate`; evaluation
        collates the examples of its split. Depends on `train` only, and is the same on every rank; what is to
        differ from epoch to epoch (a crop, negatives) is drawn from keys in `collate`. A split in memory says so with
        an attribute `in_memory = True`.
        """
        return train

    def lengths(self, examples: Split) -> Sequence[int] | None:
        """How long each example (or unit) is, in any measure, where batches of like length save padding.

        Training then draws its batches from neighbours in length, and predicting sorts; None: length does not matter.
        """
        return None

    @abstractmethod
    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """Make a batch, possibly of no examples. Draws randomness from `keys` only."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """The fitted state as JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that are updated alike.

    Args:
        name: what the group is called in logs.
        parameters: names as in `named_parameters()`.
        decay: whether weight decay, L1 and L2 apply.
        learning_rate_scale: a factor on the learning rate.
    """

    name: str
    parameters: tuple[str, ...]
    decay: bool = True
    learning_rate_scale: float = 1.0


class NeuralModel(Model, nn.Module):
    """A network fitted by gradients. Subclasses write `__init__`, `fit_processor`, `forward` and `decode`."""

    ProcessorType: ClassVar[type[Processor]]

    prefers_channels_last: bool = False
    compares_examples: bool = False
    """Whether the loss of an example depends on the others of its batch (`Batch.across` has those of all processes)."""

    def __init__(self, *, options: Any, problem: Problem, processor: Any) -> None:
        nn.Module.__init__(self)
        self.options = options
        self.problem = problem
        self.processor = processor

    @classmethod
    @abstractmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Any:
        """Fit the preprocessing on `train`: on rank 0, then broadcast."""

    @classmethod
    def take_processor(cls, processor: Any, *, options: Any, problem: Problem, train: Split | None) -> Any:
        """The preprocessing of an earlier run that this model starts from (`model.from`), for this problem's labels."""
        return processor

    @classmethod
    def build(cls, *, options: Any, problem: Problem, processor: Any, seed: int) -> Self:
        """Initialise the network, whole, on every rank: the same weights for the same seed."""
        with seeded(seed):
            return cls(options=options, problem=problem, processor=processor)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        processor = cls.fit_processor(options=options, problem=problem, train=train, seed=seed)
        return cls.build(options=options, problem=problem, processor=processor, seed=seed)

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Loss and logits of a batch; always called through an engine."""

    @abstractmethod
    def decode(self, output: Output, batch: Batch) -> list[Any]:
        """One prediction for each example of the batch."""

    def predict_batch(self, batch: Batch, engine: Engine, output: Output | None = None) -> list[Any]:
        """Predict a moved batch. Generation and beam search override it.

        Args:
            output: the forward of this batch, where the caller has it already (evaluation needs its loss).
        """
        return self.decode(engine.forward(batch) if output is None else output, batch)

    def predict(self, examples: Sequence[Any]) -> list[Any]:
        engine = self._engine()
        engine.train(False)
        keys = [Key(0, 0, index) for index in range(len(examples))]
        with torch.inference_mode():
            return self.predict_batch(engine.move(self.processor.collate(examples, keys, training=False)), engine)

    def predict_all(self, examples: Sequence[Any], *, batch_size: int) -> list[Any]:
        lengths = self.processor.lengths(examples) if len(examples) > batch_size else None
        if lengths is None:
            return super().predict_all(examples, batch_size=batch_size)
        order = np.argsort(-np.asarray(lengths), kind="stable").tolist()  # longest first: too large a batch fails early
        found = super().predict_all([examples[index] for index in order], batch_size=batch_size)
        answers: list[Any] = [None] * len(examples)
        for index, answer in zip(order, found, strict=True):
            answers[index] = answer
        return answers

    def parameter_groups(self) -> list[ParameterGroup]:
        """Matrices and kernels decay; biases and the scales of normalisation (one dimension or less) do not."""
        named = [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]
        groups = [
            ParameterGroup("decay", tuple(name for name, parameter in named if parameter.ndim > 1)),
            ParameterGroup("no_decay", tuple(name for name, parameter in named if parameter.ndim <= 1), decay=False),
        ]
        return [group for group in groups if group.parameters]

    def save(self, directory: Path) -> None:
        named = {self.name_in_file(name): tensor for name, tensor in self.state_dict().items()}
        save_tensors(named, directory / "model.safetensors", FORMAT)
        self.save_assets(directory)

    def name_in_file(self, name: str) -> str:
        """What a tensor of the state is called in `model.safetensors`, also where an engine writes it; `load` of a
        model that calls them otherwise than itself knows them so."""
        return name

    def save_assets(self, directory: Path) -> None:
        """Write what is not a weight; an engine writes sharded weights itself."""
        text = json.dumps(self.processor.as_json(), indent=1, ensure_ascii=False)
        (directory / "processor.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "processor.json").read_text(encoding="utf-8"))
        model = cls.build(options=options, problem=problem, processor=cls.ProcessorType.from_json(state), seed=0)
        model.load_state_dict(load_tensors(directory / "model.safetensors"))
        return model

    def start_from(self, other: Model) -> list[str]:
        if not isinstance(other, NeuralModel):
            raise TypeError(f"{type(other).__name__} has no network weights")
        return self.take_weights(other.state_dict())

    def take_weights(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Copy the tensors whose names and shapes fit; one line for each of ours that was left as initialised."""
        own = self.state_dict()
        fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
        self.load_state_dict(fitting, strict=False)
        left = []
        for name, tensor in own.items():
            if name not in fitting:
                found = f"has shape {list(weights[name].shape)}" if name in weights else "is absent"
                left.append(f"{name} {list(tensor.shape)} is newly initialised: in the given weights it {found}")
        return left

    def _engine(self) -> Engine:
        """The engine that `predict` runs on: this process, where the parameters are."""
        engine = self.__dict__.get("_prediction_engine")
        parameter = next(self.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        if engine is None or engine.device != device:
            from plait.engine.local import LocalEngine
            from plait.options import EngineOptions

            engine = LocalEngine(EngineOptions(device=str(device), precision="fp32"))
            engine.setup(self, None, clip=None, average=None)
            self.__dict__["_prediction_engine"] = engine  # not a submodule, not part of the state
        result: Engine = engine
        return result


@dataclass(frozen=True, slots=True)
class State:
    """Where an iterative fit stands: what the next step needs, as tensors and JSON values."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step of an iterative fit reports.

    Args:
        metrics: scalars to log, such as a log-likelihood in nats per frame.
        converged: True ends the fit.
    """

    metrics: Mapping[str, float]
    converged: bool = False


class IterativeModel(Model):
    """A model fitted by EM, alternating least squares, or in closed form (one step)."""

    @abstractmethod
    def start(self, data: Split, engine: Engine) -> State:
        """The state before the first step; `data` is this rank's part of the training split."""

    @abstractmethod
    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration; statistics are summed over ranks by `engine.reduce`. Depends on `state` and `data` only."""

    @abstractmethod
    def finish(self, state: State) -> None:
        """Set the fitted parameters; `predict` and `save` work after it. Called again after further steps."""
