"""Which word is it? Gaussian-mixture hidden Markov models, one for each class, fitted by EM."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import Progress, State
from plait.task import Problem, Split
from plait_speech.features import Features
from plait_speech.hmm.bank import End, HmmBank
from plait_speech.hmm.classifier import HmmClassifier, reducer
from plait_speech.hmm.estimation import Rules, maximize, split
from plait_speech.hmm.options import HmmOptions
from plait_speech.hmm.training import Align, Corpus, Reduce, expect, likelihood

_HALVINGS = 6  # of the split's depth, before it is put off


class GmmHmmOptions(HmmOptions):
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
    logs `log_likelihood`, nats per frame, of the parameters that an iteration starts from: that of best paths while it
    re-aligns, which is below the full one, so the number never falls. Nor does it at a split: one that would lower it
    is made half as deep, and at last put off.
    """

    Options: ClassVar[type[GmmHmmOptions]] = GmmHmmOptions

    options: GmmHmmOptions

    def __init__(self, *, options: GmmHmmOptions, problem: Problem, features: Features, seed: int) -> None:
        super().__init__(options=options, problem=problem, features=features, seed=seed)
        self.end, self.min_duration = options.end, options.min_duration
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of EM, and a split where one is due. What is dead keeps its parameters and is named."""
        corpus, options, reduce = self._read(data), self.options, reducer(engine)
        bank, floor = HmmBank.of(state.tensors, state.values["shape"]), state.tensors["floor"]
        iteration = int(state.values["iteration"]) + 1
        how = self._alignment(iteration)
        statistics = expect(bank, corpus, how).reduced(reduce)
        reached = float(statistics.log_likelihood / statistics.frames)
        new, dead = maximize(bank, statistics, Rules(floor=floor, old_means=options.old_means))
        names = self._named(dead, state.values["dead"], iteration)
        previous = state.values["log_likelihood"]
        small = previous is not None and reached - previous < options.tolerance
        grown = new
        if new.mixtures < options.mixtures:
            if small or iteration % options.split_every == 0:
                grown = self._grown(new, corpus, floor, how, reached, int(statistics.frames), iteration, reduce)
            small = small and grown is new and iteration % options.split_every == 0  # no split is to be had any more
        converged = small and how == self._alignment(iteration + 1)
        changed = grown is not new or how != self._alignment(iteration + 1)
        values = {"shape": grown.shape(), "iteration": iteration, "dead": names}
        values["log_likelihood"] = None if changed else reached  # gains are counted within one stage
        metrics = {"log_likelihood": reached, "mixtures": float(bank.mixtures), "dead": float(len(names))}
        return State({**grown.tensors(), "floor": floor}, values), Progress(metrics, converged)

    def _alignment(self, iteration: int) -> Align:
        return "viterbi" if iteration <= self.options.viterbi_iterations else "baum-welch"

    def _grown(
        self, bank: HmmBank, corpus: Corpus, floor: Tensor, how: Align, reached: float, frames: int, iteration: int,
        reduce: Reduce,
    ) -> HmmBank:  # fmt: skip
        """The bank with twice the mixtures, no less likely than what was logged last; or as it is."""
        target = min(2 * bank.mixtures, self.options.mixtures)
        depth = self.options.split_depth
        for _ in range(_HALVINGS):
            wider = split(bank, target, depth=depth, seed=self.seed * 1000 + iteration, floor=floor)
            if float(reduce(likelihood(wider, corpus, how))) / frames >= reached:
                return wider
            depth /= 2
        return bank
