"""How do our hidden Markov models become hmmlearn's and back, and how does hmmlearn itself fit them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import EngineError, RecipeError
from plait.model import Progress, State
from plait.task import Split
from plait_speech.hmm.bank import HmmBank, log_arcs_of
from plait_speech.hmm.classifier import HmmClassifier
from plait_speech.hmm.estimation import Dead, dead_of, split
from plait_speech.hmm.options import GaussianOptions
from plait_speech.hmm.training import Corpus

_WIDEST = 4  # offsets of a band: with more, a dense matrix is as quick


class HmmlearnOptions(GaussianOptions):
    """The recipe's `model` block of `speech/hmmlearn`."""

    mixtures: int = Field(default=1, ge=1, le=64)
    """Gaussians of each state; 1 is hmmlearn's GaussianHMM, more its GMMHMM, whose likelihood may fall."""
    implementation: Literal["auto", "log", "scaling"] = "auto"
    """hmmlearn's; auto: scaling, and log where that underflows or there are mixtures. On spoken digits scaling took
    0.4 of log's time."""


class Hmmlearn(HmmClassifier):
    """The same classifier with hmmlearn's own `GaussianHMM` or `GMMHMM` behind it: the reference, class by class.

    It starts where `speech/gmm-hmm` starts, and each iteration is one of `fit`'s. Beside hmmlearn's re-estimation it
    keeps the variance floor, and the last good parameters of a state that died. It runs in one process.
    """

    Options: ClassVar[type[HmmlearnOptions]] = HmmlearnOptions

    options: HmmlearnOptions

    def start(self, data: Split, engine: Engine) -> State:
        """A flat start.

        Raises:
            RecipeError: hmmlearn is not installed.
            EngineError: there are several processes; hmmlearn's statistics cannot be summed over them.
            DataError: an utterance is unlabelled or not finite.
        """
        import_hmmlearn()
        if engine.world_size > 1:
            raise EngineError(
                f"{self.options.name} fits in one process, and engine.processes is {engine.world_size}",
                hint="engine.processes=1, or speech/gmm-hmm",
            )
        return super().start(data, engine)

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of hmmlearn for each class."""
        corpus, options = self._read(data), self.options
        bank, floor = HmmBank.of(state.tensors, state.values["shape"]), state.tensors["floor"]
        iteration = int(state.values["iteration"]) + 1
        found, total = [], 0.0
        for index, (frames, lengths) in enumerate(_by_class(corpus)):
            fitted = to_hmmlearn(bank, index, iterations=1)
            if lengths:
                total += _iterate(fitted, frames, lengths, options.implementation)
            found.append(fitted)
        reached = total / max(corpus.frames, 1)
        new, dead = _kept(bank, found, floor)
        names = self._named(dead, state.values["dead"], iteration)
        previous = state.values["log_likelihood"]
        small = previous is not None and reached - previous < options.tolerance
        grown = new.mixtures < options.mixtures and (small or iteration % options.split_every == 0)
        if grown:
            target = min(2 * new.mixtures, options.mixtures)
            new = split(new, target, depth=options.split_depth, seed=self.seed * 1000 + iteration, floor=floor)
        values = {"shape": new.shape(), "iteration": iteration, "dead": names}
        values["log_likelihood"] = None if grown else reached
        metrics = {"log_likelihood": reached, "mixtures": float(bank.mixtures), "dead": float(len(names))}
        return State({**new.tensors(), "floor": floor}, values), Progress(metrics, small and not grown)


def to_hmmlearn(bank: HmmBank, model: int, *, iterations: int = 10) -> Any:
    """One model as a fitted `hmmlearn.hmm.GaussianHMM`, or `GMMHMM` where it has mixtures; it scores, decodes, samples,
    and `fit` goes on from it (its own initialisation is switched off).

    Args:
        iterations: how many of them `fit` does.

    Raises:
        RecipeError: hmmlearn is not installed.
        ValueError: the model must end in its last state, which hmmlearn's cannot say.
    """
    hmm = import_hmmlearn()
    if not bank.log_end.isfinite().all():
        raise ValueError("hmmlearn's models may end in every state; this one must end in its last (end='last')")
    tie = list(bank.tie)
    mean, variance = (_array(each[model][tie]) for each in (bank.mean, bank.variance))
    if bank.mixtures == 1:
        made = hmm.GaussianHMM(
            bank.states, "diag", covars_prior=0, n_iter=iterations, tol=-np.inf, init_params="", params="stmc"
        )
        made.means_, made.covars_ = mean[:, 0], variance[:, 0]
    else:
        made = hmm.GMMHMM(
            bank.states,
            bank.mixtures,
            covariance_type="diag",
            n_iter=iterations,
            tol=-np.inf,
            init_params="",
            params="stmcw",
        )
        made.weights_ = _shares(bank.log_weight[model][tie])
        made.means_, made.covars_ = mean, variance
    made.n_features = bank.dims
    made.startprob_ = _shares(bank.log_start[model])
    transitions = bank.transitions()[model].double()
    made.transmat_ = (transitions / transitions.sum(1, keepdim=True)).numpy()
    return made


def from_hmmlearn(models: Sequence[Any]) -> HmmBank:
    """Fitted hmmlearn models of one shape as a bank, float64.

    Args:
        models: `GaussianHMM` or `GMMHMM` with diagonal or spherical covariances.

    Raises:
        ValueError: there is none, one is not fitted, of another kind, or differs from the first in its shape.
    """
    if not models:
        raise ValueError("no models were given; expected fitted hmmlearn.hmm.GaussianHMM or GMMHMM objects")
    parts = [_parameters(index, model) for index, model in enumerate(models)]
    for index, part in enumerate(parts):
        if part[2].shape != parts[0][2].shape:
            raise ValueError(
                f"model {index} has [states, mixtures, dims] {list(part[2].shape)}, and model 0 has "
                f"{list(parts[0][2].shape)}; a bank is of one shape"
            )
    start, transitions, mean, variance, weight = (torch.stack(list(each)) for each in zip(*parts, strict=True))
    offsets = _band(transitions)
    return HmmBank(
        log_start=start.log(), log_arcs=log_arcs_of(transitions, offsets), log_end=torch.zeros_like(start),
        log_weight=weight.log(), mean=mean, variance=variance, offsets=offsets, tie=tuple(range(start.shape[1])),
    )  # fmt: skip


def _parameters(index: int, model: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Start, transitions, mean, variance and weights of one hmmlearn model."""
    kind = type(model).__name__
    if not all(hasattr(model, name) for name in ("covariance_type", "means_", "transmat_", "startprob_")):
        raise ValueError(f"model {index} is {kind}, or is not fitted; expected a fitted GaussianHMM or GMMHMM")
    if model.covariance_type not in ("diag", "spherical"):
        raise ValueError(
            f"model {index} has {model.covariance_type!r} covariances; only diag and spherical are diagonal"
        )
    mean = torch.tensor(np.asarray(model.means_), dtype=torch.float64)
    if hasattr(model, "weights_"):
        weight = torch.tensor(np.asarray(model.weights_), dtype=torch.float64)
        variance = torch.tensor(np.asarray(model.covars_), dtype=torch.float64)
        variance = variance if model.covariance_type == "diag" else variance[..., None].expand(mean.shape)
    else:  # a GaussianHMM's covars_ gives full matrices of diagonal ones, and wrong ones of spherical ones after fit
        weight, mean = torch.ones(len(mean), 1, dtype=torch.float64), mean[:, None]
        variance = torch.tensor(np.asarray(model._covars_), dtype=torch.float64)
        variance = variance.reshape(len(variance), 1, -1).expand(mean.shape)
    start, transitions = (torch.tensor(np.asarray(each), dtype=torch.float64) for each in
                          (model.startprob_, model.transmat_))  # fmt: skip
    return start, transitions, mean, variance.contiguous(), weight


def _band(transitions: Tensor) -> tuple[int, ...] | None:
    """The band that holds every transition of every model; None where there is none worth having."""
    steps = {int(target - origin) for _, origin, target in transitions.nonzero().tolist()} | {0}
    return tuple(sorted(steps)) if min(steps) == 0 and len(steps) <= _WIDEST else None


def _iterate(model: Any, frames: Any, lengths: list[int], implementation: str) -> float:
    """One iteration of `fit`; the log-likelihood before it, nats."""
    gaussian = not hasattr(model, "weights_")
    model.implementation = (
        "scaling" if implementation == "scaling" or (implementation == "auto" and gaussian) else "log"
    )
    if not gaussian:
        # it would run k-means for every state, whatever init_params says: 4 s for ten words
        model._init = lambda *_: (model._init_covar_priors(), model._fix_priors_shape())
    with np.errstate(invalid="ignore", divide="ignore"):  # states that die: `_kept` finds them
        try:
            model.fit(frames, lengths)
        except ValueError as error:
            if "underflow" not in str(error) or implementation == "scaling":
                raise
            model.implementation = "log"  # the E step failed, so the parameters are still those of before
            model.fit(frames, lengths)
    return float(model.monitor_.history[0])


def _kept(bank: HmmBank, models: Sequence[Any], floor: Tensor) -> tuple[HmmBank, list[Dead]]:
    """What hmmlearn found, in the bank's own band; the old values where it found none."""
    parts = [_unchecked(model) for model in models]
    start, transitions, mean, variance, weight = (torch.stack(list(each)) for each in zip(*parts, strict=True))
    good = (mean.isfinite() & variance.isfinite() & (variance >= 0)).all(-1) & ((mean != 0).any(-1) | (weight > 0))
    old = bank.transitions()
    rows = transitions.isfinite().all(-1, keepdim=True) & (transitions.sum(-1, keepdim=True) > 0)
    weights = torch.where(weight.isfinite().all(-1, keepdim=True), weight, bank.log_weight.exp())
    starts = torch.where(start.isfinite().all(-1, keepdim=True), start, bank.log_start.exp())
    new = replace(
        bank,
        log_start=starts.log(),
        log_arcs=log_arcs_of(torch.where(rows, transitions, old), bank.offsets),
        log_weight=weights.log(),
        mean=torch.where(good[..., None], mean, bank.mean),
        variance=torch.maximum(torch.where(good[..., None], variance, bank.variance), floor),
    )
    return new, dead_of(good, bank)


def _unchecked(model: Any) -> tuple[Tensor, ...]:
    """As `_parameters`, without asking hmmlearn to validate: `covars_` refuses NaN."""
    mean = torch.from_numpy(np.array(model.means_))
    if hasattr(model, "weights_"):
        variance, weight = torch.from_numpy(np.array(model.covars_)), torch.from_numpy(np.array(model.weights_))
    else:
        mean, variance = mean[:, None], torch.from_numpy(np.array(model._covars_))[:, None]
        weight = torch.ones(mean.shape[:2], dtype=torch.float64)
    start, transitions = torch.from_numpy(np.array(model.startprob_)), torch.from_numpy(np.array(model.transmat_))
    return start, transitions, mean, variance, weight


def _by_class(corpus: Corpus) -> list[tuple[Any, list[int]]]:
    """Frames [frames, dims] and utterance lengths of each class, as hmmlearn takes them."""
    dims = corpus.values.shape[1] // 2
    lengths = corpus.packing.restore(corpus.packing.lengths).tolist()
    models = corpus.packing.restore(corpus.model).tolist()
    own = [[length for length, model in zip(lengths, models, strict=True) if model == index] for index in
           range(len(corpus.spans))]  # fmt: skip
    return [(corpus.values[begin:finish, :dims].numpy(), each) for (begin, finish), each in
            zip(corpus.spans, own, strict=True)]  # fmt: skip


def _array(values: Tensor) -> Any:
    return values.double().numpy()


def _shares(logs: Tensor) -> Any:
    """Probabilities that sum to 1 in float64, as hmmlearn checks."""
    return torch.softmax(logs.double(), -1).numpy()


def import_hmmlearn() -> Any:
    """The module `hmmlearn.hmm`.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        from hmmlearn import hmm
    except ImportError as error:
        raise RecipeError(
            "hmmlearn is not installed", hint="pip install 'plait-speech[hmmlearn]', or the model speech/gmm-hmm"
        ) from error
    return hmm
