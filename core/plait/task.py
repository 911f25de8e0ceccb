"""What is learned: the interface of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from plait.errors import InputError
from plait.options import DataOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from plait.evaluation import Evaluator
    from plait_registry.specs import TaskSpec

Problem = Mapping[str, Any]
"""What a model must know of the data: label names, id maps. JSON values only; saved in `model/`."""


class Split(Protocol):
    """One part of the data: it has a length and examples by position.

    A columnar split also has `table(columns)`, a pyarrow table, and may have `take(indices)`: the examples at these
    positions as one sequence that shares its columns, where a Python object for each would cost more than the step.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The parts of one data source, as a task has read them.

    Args:
        train, valid, test: the parts; None where the data have no such part. Example types may differ between them.
        refit: what a model fitted by iteration is fitted on once more, after it was judged on `valid`: train and valid
            together. That model is judged on `test` and saved. None: nothing of the kind. Models fitted by gradients,
            whose epochs `valid` has chosen, leave it alone.
        fingerprint: a hash of the data that training sees; a run refuses to resume on other data.
        index: a table with one row an example, columns `id` and `split`; saved in the run.
        notes: what a reader must know: counts of skipped examples, examples shared by two splits, synthetic data.
    """

    train: Split | None = None
    valid: Split | None = None
    test: Split | None = None
    refit: Split | None = None
    fingerprint: str = ""
    index: pa.Table | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Split | None:
        part: Split | None = {"train": self.train, "valid": self.valid, "test": self.test}[name]
        return part

    def names(self) -> list[str]:
        """The parts that exist, in the order train, valid, test."""
        return [name for name in ("train", "valid", "test") if self[name] is not None]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer as a user sees it.

    Args:
        prediction: the answer, a JSON value: "7", a transcript, a list of items.
        scores: what supports it, by name; None where the model has none.
        outputs: values of the task's output ports, for the next predictor in a composition.
        error: why there is no answer; the other fields are then empty.
    """

    prediction: Any = None
    scores: Mapping[str, float] | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


class Task(ABC):
    """What is learned: how data become examples, and how predictions are judged and shown.

    It knows no model, device or loop. Subclass it, name the subclass in a `TaskSpec`, and give `Options` where the
    recipe's `data` block needs more fields.
    """

    Options: ClassVar[type[DataOptions]] = DataOptions
    spec: ClassVar[TaskSpec | None] = None  # only for a class handed to `plait.train`; a plugin's hook returns its own

    def __init__(self, *, options: DataOptions, seed: int) -> None:
        self.options = options
        self.seed = seed

    @abstractmethod
    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read `source`: a path, a sequence of examples, or a mapping from split names to either.

        With the `problem` of a trained run, its maps are kept and a label that it lacks is an error.

        Raises:
            DataError: names file, line, field and what was expected, before any training.
        """

    @abstractmethod
    def problem(self, splits: Splits) -> Problem:
        """What a model must know of the data, as JSON values."""

    @abstractmethod
    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        """A fresh judge for predictions on `split`."""

    @abstractmethod
    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Any:
        """An example without target from values of the input ports (a path, an array, a text).

        Raises:
            InputError: what is wrong with this input.
        """

    def pieces(self, source: Any, problem: Problem) -> Iterator[Any]:
        """One input as it arrives, in the pieces that `Live.accept` takes: for tasks whose input has a time.

        Args:
            source: a path; an open binary file, which may be a pipe; or pieces from Python.

        Raises:
            InputError: the task takes whole inputs only, or what is wrong with this one.
        """
        raise InputError(f"{type(self).__name__} takes whole inputs; none arrives in pieces")

    @abstractmethod
    def present(self, prediction: Any, problem: Problem) -> Prediction:
        """What a model predicted, as a user and the next predictor see it."""


def select(split: Split, indices: Iterable[int]) -> Split:
    """The part of a split at `indices`, in that order, without copying examples; a range costs no memory."""
    return _Selection(split, indices if isinstance(indices, range) else list(indices))


def examples_at(split: Split, indices: Sequence[int]) -> Sequence[Any]:
    """The examples at `indices`, in that order: by the split's `take` where it has one, else one by one."""
    take = getattr(split, "take", None)
    if take is None:
        return [split[index] for index in indices]
    taken: Sequence[Any] = take(indices)
    return taken


class _Selection(Sequence[Any]):
    def __init__(self, split: Split, indices: Sequence[int]) -> None:
        self._split, self._indices = split, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._split[each] for each in self._indices[index]]
        return self._split[self._indices[index]]

    def take(self, indices: Sequence[int]) -> Sequence[Any]:
        """The examples at positions of the selection, as the split itself gives them."""
        return examples_at(self._split, [self._indices[index] for index in indices])

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The rows of a columnar split."""
        rows: pa.Table = self._split.table(columns)  # type: ignore[attr-defined]  # columnar only
        if isinstance(self._indices, range) and self._indices.step == 1:
            return rows.slice(self._indices.start, len(self._indices))  # copies nothing
        return rows.take(list(self._indices))
