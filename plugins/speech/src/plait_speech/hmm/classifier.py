"""What do all hidden-Markov classifiers of utterances share: features, a flat start, scores, alignments, files?"""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import ClassPrediction
from plait.model import IterativeModel, Model, Progress, State
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.features import Features
from plait_speech.hmm.bank import End, HmmBank
from plait_speech.hmm.estimation import Dead
from plait_speech.hmm.inference import Online, StatePath, best_paths, score
from plait_speech.hmm.inheriting import Earlier
from plait_speech.hmm.iteration import begin
from plait_speech.hmm.options import (
    GaussianOptions,
    check_lengths,
    flat_start,
    make_corpus,
    make_features,
    topology_of,
    where,
)
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.training import Corpus, Reduce

logger = logging.getLogger("plait")

_AT_ONCE = 512  # utterances scored together


class HmmClassifier(IterativeModel):
    """A hidden Markov model for each class; the class whose model gives an utterance the highest likelihood is
    predicted. Subclasses know how an iteration is done.

    Probabilities are softmax(score_scale * log p(O | class)), all classes equally frequent.
    """

    Options: ClassVar[type[GaussianOptions]] = GaussianOptions

    options: GaussianOptions
    dtype: torch.dtype = torch.float64
    end: End = "any"
    min_duration: int = 1

    def __init__(self, *, options: Any, problem: Problem, features: Features, seed: int) -> None:
        self.options, self.problem, self.features, self.seed = options, problem, features, seed
        self.bank: HmmBank | None = None
        self.dead: list[list[int | None]] = []  # [model, state, mixture]: what kept its last good parameters
        self._corpus: tuple[Split, Corpus] | None = None
        self._earlier: Earlier | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        features = make_features(options, problem, train)
        return cls(options=options, problem=problem, features=features, seed=seed)

    @abstractmethod
    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration, from what `start` or `step` gave."""

    @property
    def labels(self) -> list[str]:
        return list(self.problem["labels"])

    def start_from(self, other: Model) -> list[str]:
        """Labels that another run of hidden Markov models has start from its models; say which it has not.

        Raises:
            TypeError: it has no hidden Markov models, or models of another shape.
        """
        earlier, asked = Earlier.of(other), self.features
        _, _, offsets, tie = topology_of(self.options, self.min_duration)
        earlier.check(states=self.options.states, mixtures=self.options.mixtures, offsets=offsets, tie=tie)
        self._earlier, self.features = earlier, earlier.features
        return earlier.notes(self.labels, asked)

    def models(self) -> tuple[HmmBank, list[str]]:
        """The fitted models, and the labels they are of."""
        return self._fitted(), self.labels

    def start(self, data: Split, engine: Engine) -> State:
        """A flat start, or the models of another run.

        Raises:
            DataError: an utterance is unlabelled, not finite, or too short for a model that ends in its last state.
        """
        corpus, options = self._read(data), self.options
        bank, floor, absent = flat_start(
            options, corpus, self.features.dims, len(self.labels),
            end=self.end, min_duration=self.min_duration, reduce=reducer(engine),
        )  # fmt: skip
        check_lengths(bank, corpus, data)
        for index in absent:
            logger.warning("label %r has no training utterance: it will never be predicted", self.labels[index])
        if self._earlier is not None:
            bank = self._earlier.into(self._earlier.widened(bank, seed=self.seed), self.labels)
        return begin(bank, floor)

    def finish(self, state: State) -> None:
        self.bank, self.dead = HmmBank.of(state.tensors, state.values["shape"]), list(state.values["dead"])

    def predict(self, examples: Sequence[Utterance]) -> list[ClassPrediction]:
        found: list[ClassPrediction] = []
        for first in range(0, len(examples), _AT_ONCE):
            totals = self.log_likelihoods(examples[first : first + _AT_ONCE])
            rows = torch.softmax(self.options.score_scale * totals, 1).numpy()
            found += [ClassPrediction(probabilities=row) for row in rows]
        return found

    def log_likelihoods(self, examples: Sequence[Utterance]) -> Tensor:
        """log p(O | class), nats, float64 [examples, classes]. An utterance that is too short to reach the last state
        of any model may end anywhere instead."""
        bank, frames = self._fitted(), self._frames(examples)
        if not frames:
            return torch.zeros(0, len(self.labels), dtype=torch.float64)
        totals = score(bank, torch.cat(frames), Packing.of([len(each) for each in frames]))
        short = (~totals.isfinite().any(1)).nonzero()[:, 0].tolist()
        if short:
            own = [frames[index] for index in short]
            free = HmmBank.of({**bank.tensors(), "log_end": torch.zeros_like(bank.log_end)}, bank.shape())
            totals[short] = score(free, torch.cat(own), Packing.of([len(each) for each in own]))
        return totals

    def align(self, examples: Sequence[Utterance]) -> list[StatePath]:
        """The most likely states of each utterance under the model of its own label.

        Raises:
            DataError: an utterance has no label that the model knows.
        """
        labels = self.labels
        for each in examples:
            if each.label not in labels:
                raise DataError(f"{each.id}: label {each.label!r} is none of the model's", hint=", ".join(labels[:20]))
        frames = self._frames(examples)
        if not frames:
            return []
        packing, own = Packing.of([len(each) for each in frames]), [labels.index(str(each.label)) for each in examples]
        return best_paths(self._fitted(), torch.cat(frames), packing, own)

    def online(self) -> Online:
        """A scorer that is fed feature frames as they come."""
        return Online(self._fitted())

    def save(self, directory: Path) -> None:
        bank = self._fitted()
        save_tensors(bank.tensors(), directory / "model.safetensors")
        state = {"features": self.features.as_json(), "shape": bank.shape(), "dead": self.dead, "seed": self.seed}
        (directory / "hmm.json").write_text(json.dumps(state, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "hmm.json").read_text(encoding="utf-8"))
        features = Features.from_json(state["features"])
        model = cls(options=options, problem=problem, features=features, seed=state["seed"])
        model.bank = HmmBank.of(load_tensors(directory / "model.safetensors"), state["shape"])
        model.dead = state["dead"]
        return model

    def _read(self, data: Split) -> Corpus:
        if self._corpus is None or self._corpus[0] is not data:
            self._corpus = (data, make_corpus(self.features, data, self.labels, self.dtype, self.options))
        return self._corpus[1]

    def _frames(self, examples: Sequence[Utterance]) -> list[Tensor]:
        dtype = self._fitted().mean.dtype
        return [each.to(dtype) for each in self.features.extract(list(examples))]

    def _named(self, dead: Sequence[Dead], before: Sequence[Any], iteration: int) -> list[list[int | None]]:
        """What is dead, as JSON values; a warning says what has just died."""
        found = [[each.model, each.emission, each.mixture] for each in dead]
        for each in found:
            if each not in before:
                place = where(each, self.labels)
                logger.warning("iteration %d: no frames are left for %s: last good parameters kept", iteration, place)
        return found

    def _fitted(self) -> HmmBank:
        if self.bank is None:
            raise RuntimeError("the hidden Markov models are not fitted yet: finish() or load() comes first")
        return self.bank


def reducer(engine: Engine) -> Reduce:
    """Sums a tensor over the processes of a training."""
    return lambda value: engine.reduce(value).cpu()
