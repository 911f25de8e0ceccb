"""How do logits become a loss that runs can compare, and a prediction?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from plait.errors import RecipeError
from plait.evaluation import ClassPrediction
from plait.model import Batch, Output
from plait_vision.image_classification.preparation import NetworkOptions


class ClassificationLoss(nn.Module):
    """Cross-entropy in nats. In training with label smoothing and class weights; in evaluation plain, so that runs
    compare. It knows no network.

    The class weights are not part of the saved state: nothing but training needs them.

    Args:
        weights: for each class; None: all alike.
        label_smoothing: part of the target that is spread over all classes.
    """

    def __init__(self, weights: Sequence[float] | None, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch; with class weights their weighted sum over the number of examples, so that the loss stays
        a mean over `Batch.count` terms whichever classes a batch holds. Zero for an empty batch.

        Args:
            logits: [batch, classes].
            targets: int64 [batch].
        """
        logits = logits.float()  # a half-precision softmax would lose the small probabilities
        if len(logits) == 0:
            return logits.sum()  # zero, and every parameter has a gradient of zero
        if not self.training:
            return F.cross_entropy(logits, targets)
        if self.weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        total = F.cross_entropy(logits, targets, self.weights, reduction="sum", label_smoothing=self.label_smoothing)
        return total / len(logits)


def classification_loss(options: NetworkOptions, labels: Sequence[str], counts: Sequence[int] | None) -> ClassificationLoss:
    """The loss that the options ask for.

    Args:
        counts: training examples of each class; None where nothing is trained.

    Raises:
        RecipeError: class_weights is a list of another length than the labels.
    """
    weights: Sequence[float] | None = None
    if options.class_weights == "balanced" and counts is not None:
        weights = [sum(counts) / (len(labels) * max(1, count)) for count in counts]
    elif not isinstance(options.class_weights, str):
        weights = options.class_weights
        if len(weights) != len(labels):
            raise RecipeError(
                f"model.class_weights has {len(weights)} values, and there are {len(labels)} classes",
                hint=f"in this order: {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}",
            )
    return ClassificationLoss(weights, label_smoothing=options.label_smoothing)


def classify(network: Callable[[Tensor], Tensor], loss: ClassificationLoss, batch: Batch) -> Output:
    """The loss, where the batch has targets, and logits [batch, classes] of a batch of images."""
    logits = network(batch["image"])
    targets = batch.get("label")
    return Output(loss=None if targets is None else loss(logits, targets), logits=logits)
