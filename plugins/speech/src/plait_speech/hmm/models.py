"""Which word is it? Gaussian-mixture hidden Markov models, one for each class, fitted by EM."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import Progress, State
from plait.task import Problem, Split
from plait_speech.features import Features
from plait_speech.hmm.bank import End
from plait_speech.hmm.classifier import HmmClassifier, reducer
from plait_speech.hmm.iteration import Evidence, Schedule, iterate
from plait_speech.hmm.options import GaussianOptions
from plait_speech.hmm.training import expect, likelihood


class GmmHmmOptions(GaussianOptions):
    """The recipe's `model` block of `speech/gmm-hmm`."""

    viterbi_iterations: int = Field(default=2, ge=0)
    """Iterations that re-align along best paths before Baum-Welch takes over; a large number: Viterbi training."""
    min_duration: int = Field(default=1, ge=1, le=16)
    """Frames that a state lasts at least."""
    end: End = "any"
    """any: an utterance may end in every state, so that short ones have a likelihood; last: only in the last."""
    old_means: bool = False
    """Variances around the last iteration's means, as hmmlearn's GMMHMM has them. The log-likelihood may fall."""
    precision: Literal["float64", "float32"] = "float64"
    """float32 is a quarter faster and agrees to seven digits of the log-likelihood."""


class GmmHmm(HmmClassifier):
    """Hidden Markov models with Gaussian-mixture states (Rabiner 1989), all classes fitted in one pass over packed
    utterances.

    The fit: equal parts of each utterance (flat start), Viterbi re-alignment, Baum-Welch, mixtures split on the way. It
    logs `log_likelihood`, nats per frame, which never falls (see `iterate`).
    """

    Options: ClassVar[type[GmmHmmOptions]] = GmmHmmOptions

    options: GmmHmmOptions

    def __init__(self, *, options: GmmHmmOptions, problem: Problem, features: Features, seed: int) -> None:
        super().__init__(options=options, problem=problem, features=features, seed=seed)
        self.end, self.min_duration = options.end, options.min_duration
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of EM, and a split where one is due. What is dead keeps its parameters and is named."""
        corpus, options = self._read(data), self.options
        schedule = Schedule(
            mixtures=options.mixtures, split_every=options.split_every, split_depth=options.split_depth,
            tolerance=options.tolerance, viterbi_iterations=options.viterbi_iterations, seed=self.seed,
            old_means=options.old_means,
        )  # fmt: skip
        evidence = Evidence(
            expect=lambda bank, align: expect(bank, corpus, align),
            likelihood=lambda bank, align: likelihood(bank, corpus, align),
            reduce=reducer(engine),
            named=self._named,
        )
        return iterate(state, schedule, evidence)
