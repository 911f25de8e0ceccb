"""Which linear function of features predicts a target best, with a penalty on its size?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from plait.evaluation import ClassPrediction
from plait.task import Problem
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.predictions import LabelSetPrediction, NumberPrediction

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """Outputs are features times `weights`, plus `bias`.

    Args:
        weights: [features, outputs].
        bias: [outputs].
    """

    weights: Array
    bias: Array

    def outputs(self, features: Any) -> Array:
        """[examples, outputs]: logits, or scaled numbers."""
        found: Array = np.asarray(features @ self.weights) + self.bias
        return found


def targets_of(examples: Sequence[TextExample], problem: Problem) -> Array:
    """[examples, outputs]: one or several ones of labels, or the scaled number."""
    if problem["target"] == "number":
        return np.array([[(each.label - problem["mean"]) / problem["deviation"]] for each in examples])
    index = {label: position for position, label in enumerate(problem["labels"])}
    table = np.zeros((len(examples), len(index)))
    for row, each in enumerate(examples):
        table[row, [index[label] for label in ((each.label,) if isinstance(each.label, str) else each.label)]] = 1
    return table


def log_ratios(features: Any, targets: Array) -> Array:
    """How much likelier a feature is in a class than outside it, log, with one more of each: [features, outputs].

    The naive Bayes weights of Wang and Manning (2012), for each class against the rest.
    """
    inside = np.asarray(features.T @ targets) + 1.0
    outside = np.asarray(features.sum(axis=0)).reshape(-1, 1) - inside + 2.0
    ratios: Array = np.log(inside / inside.sum(0)) - np.log(outside / outside.sum(0))
    return ratios


def fit_linear(
    features: Any, targets: Array, *, kind: str, strength: float, scale: Array | None = None, iterations: int = 200
) -> tuple[Linear, float]:
    """Softmax, logistic or ridge regression by L-BFGS.

    Args:
        features: [examples, features], sparse or dense.
        targets: [examples, outputs], see `targets_of`.
        kind: "class", "labels" or "number".
        strength: the inverse of the L2 penalty, as scikit-learn's C; the bias is free.
        scale: [features, outputs], by which features are multiplied for each output; None: ones.

    Returns:
        The function of unscaled features, and the mean loss with its penalty, nats (squared deviations of numbers).
    """
    count, width, outputs = features.shape[0], features.shape[1], targets.shape[1]
    scaled = np.ones((1, 1)) if scale is None else scale

    def loss(flat: Array) -> tuple[float, Array]:
        free, bias = flat[: width * outputs].reshape(width, outputs), flat[width * outputs :]
        logits = np.asarray(features @ (scaled * free)) + bias
        value, slope = _loss(logits, targets, kind)
        gradient = scaled * np.asarray(features.T @ slope) + free / (strength * count)
        total = value + float(np.square(free).sum()) / (2 * strength * count)
        return total, np.concatenate([gradient.reshape(-1), slope.sum(0)])

    found = minimize(
        loss, np.zeros((width + 1) * outputs), jac=True, method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": 1e-9, "gtol": 1e-6},
    )  # fmt: skip
    free, bias = found.x[: width * outputs].reshape(width, outputs), found.x[width * outputs :]
    return Linear(scaled * free, bias), float(found.fun)


def _loss(logits: Array, targets: Array, kind: str) -> tuple[float, Array]:
    """The mean loss, and its slope by each logit."""
    count = len(logits)
    if kind == "class":
        normal = logsumexp(logits, axis=1, keepdims=True)
        return float(((normal - logits) * targets).sum() / count), (np.exp(logits - normal) - targets) / count
    if kind == "labels":
        losses = np.logaddexp(0, logits) - logits * targets
        return float(losses.sum() / count), (expit(logits) - targets) / count
    return float(np.square(logits - targets).sum() / (2 * count)), (logits - targets) / count


def predictions_of(outputs: Array, problem: Problem) -> list[Any]:
    """Predictions of a problem's kind."""
    if problem["target"] == "class":
        shares = np.exp(outputs - logsumexp(outputs, axis=1, keepdims=True)) if len(outputs) else outputs
        return [ClassPrediction(row) for row in shares]
    if problem["target"] == "labels":
        return [LabelSetPrediction(row) for row in expit(outputs)]
    return [NumberPrediction(float(row[0]) * problem["deviation"] + problem["mean"]) for row in outputs]
