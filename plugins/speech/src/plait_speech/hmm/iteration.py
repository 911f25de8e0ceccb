"""What is one iteration of EM: how are frames aligned, is it time for more mixtures, has the fit converged?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from plait.model import Progress, State
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.estimation import Dead, Rules, maximize, split
from plait_speech.hmm.training import Align, Reduce, Statistics

_HALVINGS = 6  # of the split's depth, before it is put off


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When mixtures split and how long a fit goes on; see `GmmHmmOptions`. It knows no data."""

    mixtures: int
    split_every: int
    split_depth: float
    tolerance: float
    viterbi_iterations: int
    seed: int
    old_means: bool = False

    def alignment(self, iteration: int) -> Align:
        """How iteration 1, 2, ... aligns."""
        return "viterbi" if iteration <= self.viterbi_iterations else "baum-welch"


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What EM asks of the data.

    Args:
        expect: the E step, `training.expect` of these data.
        likelihood: its log-likelihood alone, nats, float64 [].
        reduce: sums a tensor over the processes of a training.
        named: takes what is dead and what was before, and an iteration; says what has just died, gives JSON values.
    """

    expect: Callable[[HmmBank, Align], Statistics]
    likelihood: Callable[[HmmBank, Align], Tensor]
    reduce: Reduce
    named: Callable[[Sequence[Dead], Sequence[Any], int], list[list[int | None]]]


def begin(bank: HmmBank, floor: Tensor) -> State:
    """The state before the first iteration.

    Args:
        floor: the smallest variance of each dimension, [dims].
    """
    values = {"shape": bank.shape(), "iteration": 0, "log_likelihood": None, "dead": []}
    return State({**bank.tensors(), "floor": floor}, values)


def iterate(state: State, schedule: Schedule, evidence: Evidence) -> tuple[State, Progress]:
    """One iteration of EM, and a split where one is due. What is dead keeps its parameters and is named.

    `log_likelihood`, nats per frame, is that of the parameters it starts from: of best paths while it re-aligns, which
    is below the full one, so the number never falls. Nor does it at a split: one that would lower it is made half as
    deep, and at last put off.
    """
    bank, floor = HmmBank.of(state.tensors, state.values["shape"]), state.tensors["floor"]
    iteration = int(state.values["iteration"]) + 1
    how = schedule.alignment(iteration)
    statistics = evidence.expect(bank, how).reduced(evidence.reduce)
    reached = float(statistics.log_likelihood / statistics.frames)
    new, dead = maximize(bank, statistics, Rules(floor=floor, old_means=schedule.old_means))
    names = evidence.named(dead, state.values["dead"], iteration)
    previous = state.values["log_likelihood"]
    small = previous is not None and reached - previous < schedule.tolerance
    grown = new
    if new.mixtures < schedule.mixtures:
        if small or iteration % schedule.split_every == 0:
            grown = _grown(new, floor, how, reached, int(statistics.frames), iteration, schedule, evidence)
        small = small and grown is new and iteration % schedule.split_every == 0  # no split is to be had any more
    converged = small and how == schedule.alignment(iteration + 1)
    changed = grown is not new or how != schedule.alignment(iteration + 1)
    values = {"shape": grown.shape(), "iteration": iteration, "dead": names}
    values["log_likelihood"] = None if changed else reached  # gains are counted within one stage
    metrics = {"log_likelihood": reached, "mixtures": float(bank.mixtures), "dead": float(len(names))}
    return State({**grown.tensors(), "floor": floor}, values), Progress(metrics, converged)


def _grown(
    bank: HmmBank, floor: Tensor, how: Align, reached: float, frames: int, iteration: int, schedule: Schedule,
    evidence: Evidence,
) -> HmmBank:  # fmt: skip
    """The bank with twice the mixtures, no less likely than what was logged last; or as it is."""
    target = min(2 * bank.mixtures, schedule.mixtures)
    depth = schedule.split_depth
    for _ in range(_HALVINGS):
        wider = split(bank, target, depth=depth, seed=schedule.seed * 1000 + iteration, floor=floor)
        if float(evidence.reduce(evidence.likelihood(wider, how))) / frames >= reached:
            return wider
        depth /= 2
    return bank
