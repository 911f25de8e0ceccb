"""What is said? Hidden Markov models of words, trained on whole transcripts and joined into one network."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import DataError, did_you_mean
from plait.model import IterativeModel, Model, Progress, State
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.features import Features
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.chains import ChainCorpus, expect_chains, likelihood_chains, segment_chains
from plait_speech.hmm.classifier import reducer
from plait_speech.hmm.decoding import Decoded, decode
from plait_speech.hmm.estimation import Dead, Rules, maximize, variance_floor
from plait_speech.hmm.inheriting import Earlier
from plait_speech.hmm.iteration import Evidence, Schedule, begin, iterate
from plait_speech.hmm.memory import check_memory
from plait_speech.hmm.options import GaussianOptions, make_features
from plait_speech.hmm.units import OFFSETS, Inventory, flat_bank
from plait_speech.recognition.transcripts import Transcript

logger = logging.getLogger("plait")

_AT_ONCE = 64  # utterances decoded together
_LIVE = 6  # arrays of [positions, frames] that the E step has at once


class NetworkOptions(GaussianOptions):
    """The recipe's `model` block of `speech/hmm-network` and `speech/hmm-alignment`."""

    topology: Literal["left-right", "bakis"] = "bakis"
    """left-right (stay or go on) or bakis (also jump over one state); words are left from their last state."""
    jump: Literal[2] = 2
    """bakis: how far a transition reaches at most."""
    mixtures: int = Field(default=4, ge=1, le=64)
    """Gaussians of each state; they grow 1, 2, 4 by splitting."""
    viterbi_iterations: int = Field(default=3, ge=0)
    """Iterations that re-align along best paths before Baum-Welch takes over."""
    masking: float = Field(default=0.0, ge=0, lt=1)
    """As in speech/gmm-hmm, where it is 0.003. It hides soft beginnings and ends of words too: on strings of digits
    0.003 puts their boundaries 25 ms off instead of 12, and word errors stay (0.7 for 0.85 %)."""
    insertion_penalty: float = Field(default=40.0)
    """Nats that every word costs when it is recognised; more makes fewer words. Frames are taken for independent, so
    that a spurious short word gains tens of nats: on strings of training digits 0, 20, 40 and 80 gave word errors of
    1.4, 0.7, 0.6 and 0.7 %."""
    precision: Literal["float64", "float32"] = "float64"
    """float32 is quicker and agrees to seven digits of the log-likelihood."""


class HmmNetwork(IterativeModel):
    """A hidden Markov model for each word of the training transcripts and one state of silence, trained on whole
    utterances (see `chains`) and decoded as a loop of all words (see `decode`). It knows no language: every word may
    follow every other, and words that training never heard are never recognised. A word is what white space separates,
    so transcripts of phones make models of phones.

    The fit: the quietest tenth of the frames is silence and the rest is cut into equal parts, one for each state of the
    transcript's words (flat start); best paths; Baum-Welch; mixtures split on the way. It logs `log_likelihood`, nats
    per frame, which never falls (see `iterate`).
    """

    Options: ClassVar[type[NetworkOptions]] = NetworkOptions

    options: NetworkOptions

    def __init__(self, *, options: Any, problem: Problem, features: Features, inventory: Inventory, seed: int) -> None:
        self.options, self.problem, self.features, self.seed = options, problem, features, seed
        self.inventory = inventory
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.bank: HmmBank | None = None
        self.dead: list[list[int | None]] = []  # [0, state, mixture]: what kept its last good parameters
        self._corpus: tuple[Split, ChainCorpus] | None = None
        self._earlier: Earlier | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        features = make_features(options, problem, train)
        texts = [] if train is None else [train[index].text or "" for index in range(len(train))]
        units = tuple(sorted({unit for text in texts for unit in text.split()}))
        inventory = Inventory(units, options.states)
        return cls(options=options, problem=problem, features=features, inventory=inventory, seed=seed)

    def start_from(self, other: Model) -> list[str]:
        """Words that a run of `speech/gmm-hmm` (or of this model) has start from its models; say which it has not.

        Raises:
            TypeError: it has no hidden Markov models, or models of another shape.
        """
        earlier, asked = Earlier.of(other), self.features
        earlier.check(states=self.options.states, mixtures=self.options.mixtures, offsets=OFFSETS, tie=None)
        self._earlier, self.features = earlier, earlier.features
        return earlier.notes(self.inventory.units, asked)

    def models(self) -> tuple[HmmBank, list[str]]:
        """The words' models one by one [units, ...], without the silence, and the words."""
        return self.inventory.apart(self._fitted()), list(self.inventory.units)

    def start(self, data: Split, engine: Engine) -> State:
        """A flat start, or the models of another run.

        Raises:
            DataError: no transcript has a word, an utterance has no transcript, is not finite, or is too short for its
                words.
        """
        if not self.inventory.units:
            raise DataError("no word in any training transcript", hint="the column `text` says what is said")
        corpus, reduce, dims = self._read(data), reducer(engine), self.features.dims
        double = [block.values.double() for block in corpus.blocks]
        sums = reduce(sum((each.sum(0) for each in double), torch.zeros(2 * dims, dtype=torch.float64)))
        frames = reduce(torch.tensor(float(corpus.frames), dtype=torch.float64))
        mean, variance, floor = variance_floor(frames, sums[:dims], sums[dims:], self.options.variance_floor)
        bank = flat_bank(self.inventory, self.options.topology, mean, variance).to(self.dtype)
        counts = segment_chains(bank, corpus, self._loudness).reduced(reduce)
        bank, _ = maximize(bank, counts, Rules(floor=floor))
        if self._earlier is not None:
            bank = self._earlier.widened(bank, seed=self.seed)
            words = self._earlier.into(self.inventory.apart(bank), self.inventory.units, inner=True)
            bank = self.inventory.together(words, bank)
        return begin(bank, floor)

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of EM, and a split where one is due. What is dead keeps its parameters and is named."""
        corpus, options = self._read(data), self.options
        schedule = Schedule(
            mixtures=options.mixtures, split_every=options.split_every, split_depth=options.split_depth,
            tolerance=options.tolerance, viterbi_iterations=options.viterbi_iterations, seed=self.seed,
        )  # fmt: skip
        evidence = Evidence(
            expect=lambda bank, align: expect_chains(bank, corpus, align),
            likelihood=lambda bank, align: likelihood_chains(bank, corpus, align),
            reduce=reducer(engine),
            named=self._named,
        )
        return iterate(state, schedule, evidence)

    def finish(self, state: State) -> None:
        self.bank, self.dead = HmmBank.of(state.tensors, state.values["shape"]), list(state.values["dead"])

    def predict(self, examples: Sequence[Utterance]) -> list[Any]:
        """What is said, a `Transcript` each; its score is the log probability of the best path, nats."""
        units = self.inventory.units
        return [
            Transcript(" ".join(units[unit] for unit, _, _ in each.parts), each.log_probability)
            for each in self.decoded(examples)
        ]

    def decoded(self, examples: Sequence[Utterance]) -> list[Decoded]:
        """The words of each utterance, and their frames."""
        bank, found = self._fitted(), []
        for first in range(0, len(examples), _AT_ONCE):
            frames = self.features.extract(list(examples[first : first + _AT_ONCE]))
            found += decode(bank, self.inventory, frames, insertion_penalty=self.options.insertion_penalty)
        return found

    def corpus(self, examples: Sequence[Utterance]) -> ChainCorpus:
        """Utterances with transcripts as chains of the words' models.

        Raises:
            DataError: one has no transcript, a word that training never heard, or asks for more memory than is free.
        """
        known = {unit: index for index, unit in enumerate(self.inventory.units)}
        units = []
        for each in examples:
            if each.text is None:
                raise DataError(f"{each.id}: has no transcript", hint="the column `text` says what is said")
            unknown = next((word for word in each.text.split() if word not in known), None)
            if unknown is not None:
                raise DataError(
                    f"{each.id}: the word {unknown!r} is none of the {len(known)} that the model knows",
                    hint=did_you_mean(unknown, known),
                )
            units.append([known[word] for word in each.text.split()])
        lengths = [self.features.frames(each.seconds) for each in examples]
        width = torch.finfo(self.dtype).bits // 8
        needed = [
            width * frames * (_LIVE * len(self.inventory.chain(own)) + 2 * self.features.dims)
            for frames, own in zip(lengths, units, strict=True)
        ]
        check_memory(
            examples, needed, together=False, hint="cut long recordings at their pauses (start and end), or float32"
        )
        frames = self.features.extract(list(examples))
        for each, own in zip(examples, frames, strict=True):
            if not own.isfinite().all():
                raise DataError(f"{each.id}: has frames that are not finite", hint="leave the recording out")
        return ChainCorpus.of(frames, units, self.inventory, self.dtype)

    def save(self, directory: Path) -> None:
        bank = self._fitted()
        save_tensors(bank.tensors(), directory / "model.safetensors")
        state: dict[str, Any] = {"features": self.features.as_json(), "shape": bank.shape(), "dead": self.dead}
        state |= {"units": list(self.inventory.units), "seed": self.seed}
        (directory / "hmm.json").write_text(json.dumps(state, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "hmm.json").read_text(encoding="utf-8"))
        inventory = Inventory(tuple(state["units"]), options.states)
        features = Features.from_json(state["features"])
        model = cls(options=options, problem=problem, features=features, inventory=inventory, seed=state["seed"])
        model.bank = HmmBank.of(load_tensors(directory / "model.safetensors"), state["shape"])
        model.dead = state["dead"]
        return model

    def _read(self, data: Split) -> ChainCorpus:
        if self._corpus is None or self._corpus[0] is not data:
            examples: list[Utterance] = [data[index] for index in range(len(data))]
            corpus = self.corpus(examples)
            self._check_lengths(examples, corpus)
            self._corpus = (data, corpus)
        return self._corpus[1]

    def _check_lengths(self, examples: Sequence[Utterance], corpus: ChainCorpus) -> None:
        short = []
        for each, own in zip(examples, corpus.units, strict=True):
            frames, least = self.features.frames(each.seconds), self.shortest(own)
            if frames < least:
                short.append(f"{each.id} ({frames} frames for {len(own)} words, which take {least})")
        if short:
            raise DataError(
                f"{len(short)} utterances are too short for their transcripts: {', '.join(short[:5])}",
                hint="is the transcript right? or fewer model.states, or model.topology=bakis",
                details={"utterances": short[:100], "total": len(short)},
            )

    def shortest(self, units: Sequence[int]) -> int:
        """Frames of the shortest utterance that can be these units."""
        return self.inventory.shortest(len(units), self.options.topology)

    def _loudness(self, frames: Tensor) -> Tensor:
        """Of frames [frames, dims]: the first cepstrum, or the mean of the bands."""
        return frames[:, 0] if self.features.kind == "mfcc" else frames[:, : self.features.mels].mean(1)

    def _named(self, dead: Sequence[Dead], before: Sequence[Any], iteration: int) -> list[list[int | None]]:
        found = [[each.model, each.emission, each.mixture] for each in dead]
        for each, one in zip(found, dead, strict=True):
            if each not in before:
                place = self.inventory.name(one.emission)
                part = "" if one.mixture is None else f", mixture {one.mixture}"
                logger.warning(
                    "iteration %d: no frames are left for %s%s: last good parameters kept", iteration, place, part
                )
        return found

    def _fitted(self) -> HmmBank:
        if self.bank is None:
            raise RuntimeError("the hidden Markov models are not fitted yet: finish() or load() comes first")
        return self.bank
