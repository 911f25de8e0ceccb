"""How is a row classified by densities: naive Bayes in closed form, mixtures of it by EM?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.evaluation import ClassPrediction
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_tabular.densities import Densities
from plait_tabular.encoding import RowEncoder
from plait_tabular.rows import Row

JITTER = 0.5  # how far, in a class's standard deviations, its components start from its mean


class MixtureOptions(ModelOptions):
    """The recipe's `model` block."""

    components: int = Field(default=3, ge=1)
    """Components of each class; one is naive Bayes, which a single step fits."""
    tolerance: float = Field(default=1e-4, gt=0)
    """The gain of a step, in nats per row, below which the fit has converged."""


class Mixture(IterativeModel):
    """A mixture of naive Bayes components for each class (Hastie and Tibshirani 1996, with diagonal covariances).

    It knows columns only through its encoder.
    """

    Options = MixtureOptions
    options: MixtureOptions

    def __init__(self, *, options: MixtureOptions, problem: Problem, encoder: RowEncoder, seed: int) -> None:
        self.options, self.problem, self.encoder, self.seed = options, problem, encoder, seed
        self.densities: Densities | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        assert train is not None  # the task reads no data without training rows
        return cls(options=options, problem=problem, encoder=RowEncoder.fit(problem, train), seed=seed)

    def start(self, data: Split, engine: Engine) -> State:
        """Each class's components at its mean, moved apart by noise that is equal on every rank."""
        features, own = self._encoded(data)
        start = Densities.fit(features, own / self.options.components, self.encoder.groups, engine)
        if self.options.components > 1:
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.randn(start.mean.shape, dtype=torch.float64, generator=generator)
            start.mean.add_(JITTER * noise * start.variance.sqrt())
        return State(start.tensors(), {"log_posterior": None})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One step of EM. It reports the log posterior, nats per row, of the parameters that it started from."""
        features, own = self._encoded(data)
        before = Densities.of(state.tensors)
        joint = before.joint(features).masked_fill(own == 0, -torch.inf)  # a row's components are those of its class
        evidence = joint.logsumexp(1)
        after = Densities.fit(features, torch.exp(joint - evidence[:, None]), self.encoder.groups, engine)
        rows = float(engine.reduce(float(len(data))))
        posterior = (float(engine.reduce(evidence.sum())) + before.prior()) / rows
        previous = state.values["log_posterior"]
        small = previous is not None and posterior - previous < self.options.tolerance
        converged = small or self.options.components == 1
        return State(after.tensors(), {"log_posterior": posterior}), Progress({"log_posterior": posterior}, converged)

    def finish(self, state: State) -> None:
        self.densities = Densities.of(state.tensors)

    def predict(self, examples: Sequence[Row]) -> list[ClassPrediction]:
        assert self.densities is not None  # `finish` or `load` came first
        joint = self.densities.joint(self.encoder.encode(examples).double())
        classes = joint.view(len(examples), len(self.encoder.labels), self.options.components).logsumexp(2)
        return [ClassPrediction(row) for row in classes.softmax(1).numpy()]

    def save(self, directory: Path) -> None:
        assert self.densities is not None
        save_tensors(self.densities.tensors(), directory / "model.safetensors")
        state = {"encoder": self.encoder.as_json(), "seed": self.seed}
        (directory / "mixture.json").write_text(json.dumps(state, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "mixture.json").read_text(encoding="utf-8"))
        encoder = RowEncoder.from_json(state["encoder"])
        model = cls(options=options, problem=problem, encoder=encoder, seed=state["seed"])
        model.densities = Densities.of(load_tensors(directory / "model.safetensors"))
        return model

    def _encoded(self, data: Split) -> tuple[Tensor, Tensor]:
        """Features, float64 [rows, features], and which components are of each row's class, [rows, components]."""
        rows: list[Row] = [data[index] for index in range(len(data))]
        own = torch.nn.functional.one_hot(self.encoder.targets(rows), len(self.encoder.labels))
        return self.encoder.encode(rows).double(), own.repeat_interleave(self.options.components, 1).double()
