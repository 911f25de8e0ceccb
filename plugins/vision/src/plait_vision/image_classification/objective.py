"""How do logits become a loss that runs can compare, and a prediction?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from plait.errors import RecipeError
from plait.evaluation import ClassPrediction
from plait.model import Batch, Output
from plait_vision.image_classification.preparation import NetworkOptions
from plait_vision.image_classification.processor import ImageProcessor


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
        """Mean over the batch; with class weights the weighted sum over the number of examples, so that the loss stays
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


def classification_loss(options: NetworkOptions, processor: ImageProcessor) -> ClassificationLoss:
    """The loss that the options ask for.

    Raises:
        RecipeError: class_weights is a list of another length than the labels.
    """
    labels, counts = processor.labels, processor.class_counts
    weights: Sequence[float] | None = None
    if counts:
        weights = [sum(counts) / (len(labels) * max(1, count)) for count in counts]
    elif not isinstance(options.class_weights, str):
        weights = options.class_weights
        if len(weights) != len(labels):
            raise RecipeError(
                f"model.class_weights has {len(weights)} values, and there are {len(labels)} classes",
                hint=f"in this order: {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}",
            )
    return ClassificationLoss(weights, label_smoothing=options.label_smoothing)


def classify(network: nn.Module, loss: ClassificationLoss, batch: Batch) -> Output:
    """The loss, where the batch has targets, and logits [batch, classes] of a batch of images, possibly of none."""
    images = batch["image"]
    if len(images) == 0:
        with _running_statistics(network):  # one black image keeps every parameter in the graph, and is cut away again
            logits = network(images.new_zeros(1, *images.shape[1:]))[:0]
    else:
        logits = _logits(network, images)
    targets = batch.get("label")
    return Output(loss=None if targets is None else loss(logits, targets), logits=logits)


def class_predictions(logits: Tensor) -> list[ClassPrediction]:
    """Softmax of logits [batch, classes], float32."""
    rows = torch.softmax(logits.detach().float(), dim=-1).cpu().numpy()
    return [ClassPrediction(probabilities=row) for row in rows]


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    try:
        logits: Tensor = network(images)
    except ValueError as error:
        # Where a feature map has shrunk to one pixel, one image alone has no variance, and batch norm refuses it. An
        # epoch's last batch may well be of one image, so that one is normalised as in evaluation.
        if len(images) > 1 or "more than 1 value per channel" not in str(error):
            raise
        with _running_statistics(network):
            logits = network(images)
    return logits


@contextmanager
def _running_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, batch norm uses its running statistics and does not change them."""
    changed = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    for module in changed:
        module.train(False)
    try:
        yield
    finally:
        for module in changed:
            module.train(True)
