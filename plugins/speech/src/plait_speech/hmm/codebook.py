"""Which word is it? Discrete hidden Markov models on a codebook, fitted by hmmlearn's CategoricalHMM."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import DataError, EngineError
from plait.evaluation import ClassPrediction
from plait.model import IterativeModel, Progress, State
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.features import Features
from plait_speech.hmm.inference import forward
from plait_speech.hmm.options import HmmOptions, make_corpus, make_features, topology_of
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.reference import import_hmmlearn
from plait_speech.hmm.training import Corpus

logger = logging.getLogger("plait")

_ROUNDS = 20  # of Lloyd's algorithm
_CLUSTERED = 20_000  # frames that the codebook is made of, at most
_LEAST = 1e-4  # the probability of a code that a state never gave: it may be heard in a test
_TENSORS = ("start", "transitions", "emission", "codebook")


class CodebookOptions(HmmOptions):
    """The recipe's `model` block of `speech/hmmlearn-codebook`."""

    codes: int = Field(default=128, ge=2, le=4096)
    """Entries of the codebook: clusters of all training frames."""


class CodebookHmm(IterativeModel):
    """Discrete hidden Markov models (Rabiner 1989, section II): frames become the number of the nearest entry of a
    codebook (vector quantisation, k-means of training frames), and hmmlearn's `CategoricalHMM` learns for each class
    and state how probable each number is. It runs in one process.

    It logs `log_likelihood`, nats per frame, which never falls. A state that no frame is left for keeps its last
    probabilities. It knows no distance between codes: it is here for comparison, and for the least arithmetic.
    """

    Options: ClassVar[type[CodebookOptions]] = CodebookOptions

    options: CodebookOptions

    def __init__(self, *, options: Any, problem: Problem, features: Features, seed: int) -> None:
        self.options, self.problem, self.features, self.seed = options, problem, features, seed
        self.tensors: dict[str, Tensor] = {}
        self._coded: tuple[Split, list[tuple[Tensor, list[int]]]] | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        features = make_features(options, problem, train)
        return cls(options=options, problem=problem, features=features, seed=seed)

    def start(self, data: Split, engine: Engine) -> State:
        """A codebook, and equal parts of each utterance.

        Raises:
            RecipeError: hmmlearn is not installed.
            EngineError: there are several processes.
            DataError: an utterance is unlabelled or not finite, or there are fewer frames than codes.
        """
        import_hmmlearn()
        if engine.world_size > 1:
            raise EngineError(
                f"{self.options.name} fits in one process, and engine.processes is {engine.world_size}",
                hint="engine.processes=1, or speech/gmm-hmm",
            )
        corpus = self._corpus(data)
        frames = corpus.values[:, : self.features.dims]
        if len(frames) < self.options.codes:
            raise DataError(f"{len(frames)} training frames make no {self.options.codes} codes", hint="model.codes=16")
        codebook = clusters(frames, self.options.codes, seed=self.seed)
        start, _, _, _ = topology_of(self.options, 1)
        classes, states = len(self.problem["labels"]), self.options.states
        emission = torch.ones(classes, states, self.options.codes, dtype=torch.float64)
        for own, (codes, lengths) in zip(emission, self._by_class(data, codebook), strict=True):
            if not lengths:
                continue
            parts = torch.cat([torch.arange(length) * states // length for length in lengths])
            own.index_put_((parts, codes), torch.ones(len(codes), dtype=torch.float64), accumulate=True)
        for index, (_, lengths) in enumerate(self._by_class(data, codebook)):
            if not lengths:
                label = self.problem["labels"][index]
                logger.warning("label %r has no training utterance: it will never be predicted", label)
        tensors = {
            "start": start.exp().expand(classes, -1).clone(),
            "transitions": self._transitions().expand(classes, -1, -1).clone(),
            "emission": emission / emission.sum(-1, keepdim=True),
            "codebook": codebook,
        }
        heard = [bool(lengths) for _, lengths in self._by_class(data, codebook)]
        return State(tensors, {"heard": heard, "log_likelihood": None})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of hmmlearn for each class."""
        tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        total, frames = 0.0, 0
        for index, (codes, lengths) in enumerate(self._by_class(data, tensors["codebook"])):
            if lengths:
                total += _iterate(tensors, index, codes, lengths)
                frames += len(codes)
        reached, previous = total / max(1, frames), state.values["log_likelihood"]
        converged = previous is not None and reached - previous < self.options.tolerance
        return State(tensors, {**state.values, "log_likelihood": reached}), Progress(
            {"log_likelihood": reached}, converged
        )

    def finish(self, state: State) -> None:
        """Take the state's parameters; codes that a state never gave become improbable, not impossible."""
        self.tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        emission = self.tensors["emission"].clamp_min(_LEAST)
        self.tensors["emission"] = emission / emission.sum(-1, keepdim=True)
        self.tensors["start"][[index for index, heard in enumerate(state.values["heard"]) if not heard]] = 0

    def predict(self, examples: Sequence[Utterance]) -> list[ClassPrediction]:
        rows = torch.softmax(self.options.score_scale * self.log_likelihoods(examples), 1).numpy()
        return [ClassPrediction(probabilities=row) for row in rows]

    def log_likelihoods(self, examples: Sequence[Utterance]) -> Tensor:
        """log p(codes | class), nats, float64 [examples, classes]."""
        if not examples:
            return torch.zeros(0, len(self.problem["labels"]), dtype=torch.float64)
        frames = [each.double() for each in self.features.extract(list(examples))]
        packing = Packing.of([len(each) for each in frames])
        codes = nearest(torch.cat(frames), self.tensors["codebook"])[packing.source]
        emission = self.tensors["emission"].log()[:, :, codes]
        start, arcs = self.tensors["start"].log()[..., None], self.tensors["transitions"].log()[..., None]
        alpha = forward(emission, start, arcs, None, packing)
        return packing.restore(torch.logsumexp(alpha[..., packing.last], 1)).T

    def save(self, directory: Path) -> None:
        save_tensors(self.tensors, directory / "model.safetensors")
        state = {"features": self.features.as_json(), "seed": self.seed}
        (directory / "hmm.json").write_text(json.dumps(state, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "hmm.json").read_text(encoding="utf-8"))
        features = Features.from_json(state["features"])
        model = cls(options=options, problem=problem, features=features, seed=state["seed"])
        model.tensors = load_tensors(directory / "model.safetensors")
        return model

    def _corpus(self, data: Split) -> Corpus:
        return make_corpus(self.features, data, self.problem["labels"], torch.float64, self.options)

    def _transitions(self) -> Tensor:
        """The topology as a matrix, [states, states]."""
        _, arcs, offsets, _ = topology_of(self.options, 1)
        if offsets is None:
            return arcs.exp()
        matrix = torch.zeros(self.options.states, self.options.states, dtype=torch.float64)
        for band, offset in enumerate(offsets):
            own = torch.arange(self.options.states - offset)
            matrix[own, own + offset] = arcs[band, : len(own)].exp()
        return matrix

    def _by_class(self, data: Split, codebook: Tensor) -> list[tuple[Tensor, list[int]]]:
        """The codes of each class, int64 [frames], and its utterances' lengths."""
        if self._coded is None or self._coded[0] is not data:
            corpus = self._corpus(data)
            codes = nearest(corpus.values[:, : self.features.dims], codebook)
            lengths = corpus.packing.restore(corpus.packing.lengths).tolist()
            models = corpus.packing.restore(corpus.model).tolist()
            own = [
                [length for length, model in zip(lengths, models, strict=True) if model == index]
                for index in range(len(corpus.spans))
            ]
            found = [(codes[first:after], each) for (first, after), each in zip(corpus.spans, own, strict=True)]
            self._coded = (data, found)
        return self._coded[1]


def clusters(frames: Tensor, count: int, *, seed: int) -> Tensor:
    """Centres of frames by Lloyd's k-means, float64 [count, dims]: begun at frames that the seed draws, twenty rounds;
    a centre that nobody is near stays where it is."""
    frames = frames[:: max(1, len(frames) // _CLUSTERED)].double()
    order = torch.from_numpy(np.argsort(np.random.PCG64(seed).random_raw(len(frames)), kind="stable"))
    centres = frames[order[:count]].clone()
    for _ in range(_ROUNDS):
        own = nearest(frames, centres)
        sizes = torch.bincount(own, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, own, frames)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def nearest(frames: Tensor, centres: Tensor) -> Tensor:
    """The number of the nearest centre of each frame, int64 [frames]."""
    # |x - c|² without |x|², which all centres share
    distances = torch.addmm(centres.square().sum(1), frames.to(centres.dtype), centres.T, alpha=-2)
    return distances.argmin(1)


def _iterate(tensors: dict[str, Tensor], index: int, codes: Tensor, lengths: list[int]) -> float:
    """One iteration for a class, in place; the log-likelihood before it, nats."""
    hmm = import_hmmlearn()
    model = hmm.CategoricalHMM(
        tensors["start"].shape[1], n_iter=1, tol=-np.inf, init_params="", params="ste",
        n_features=tensors["emission"].shape[2],
    )  # fmt: skip
    names = {"start": "startprob_", "transitions": "transmat_", "emission": "emissionprob_"}
    for name, attribute in names.items():
        setattr(model, attribute, tensors[name][index].numpy().copy())
    with np.errstate(invalid="ignore", divide="ignore"):  # states that die: what they had is kept
        model.fit(codes[:, None].numpy(), lengths)
    for name, attribute in names.items():
        found, own = torch.from_numpy(np.array(getattr(model, attribute))), tensors[name][index]
        good = found.isfinite().all(-1, keepdim=True) & (found.sum(-1, keepdim=True) > 0)
        own.copy_(torch.where(good, found, own))
    return float(model.monitor_.history[0])
