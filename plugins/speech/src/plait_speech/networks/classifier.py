"""What do all networks that classify utterances share: stacking, loss and decoding?"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.evaluation import ClassPrediction
from plait.model import Batch, Model, NeuralModel, Output
from plait.task import Problem, Split
from plait_speech.networks.given import on_its_own, take_given
from plait_speech.networks.layout import Layout
from plait_speech.networks.processor import NetworkOptions, SpeechProcessor, fit_processor, take_processor


class UtteranceClassifier(NeuralModel):
    """A network that gives one class to an utterance of any length. Subclasses know what happens to its frames.

    It knows samples through its processor only.
    """

    Options: ClassVar[type[NetworkOptions]] = NetworkOptions
    ProcessorType = SpeechProcessor

    options: NetworkOptions
    processor: SpeechProcessor

    def __init__(self, *, options: NetworkOptions, problem: Problem, processor: SpeechProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes: list[str] = []
        width = self.make_layers(processor.features.dims)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, len(problem["labels"]))

    @abstractmethod
    def make_layers(self, dims: int) -> int:
        """Set the layers for frames of `dims` values; returns the width of what `embed` gives."""

    @abstractmethod
    def embed(self, frames: Tensor, layout: Layout) -> Tensor:
        """What an utterance is to the last layer, [batch, width], from the batch's stacked frames, [frames, dims]."""

    @classmethod
    def fit_processor(
        cls, *, options: NetworkOptions, problem: Problem, train: Split | None, seed: int
    ) -> SpeechProcessor:
        return fit_processor(options, problem, train)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: NetworkOptions, problem: Problem, train: Split | None
    ) -> SpeechProcessor:
        return take_processor(processor, options, problem)

    @classmethod
    def build(cls, *, options: NetworkOptions, problem: Problem, processor: SpeechProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        model.notes += take_given(model, options)
        return model

    @classmethod
    def load(cls, directory: Path, *, options: NetworkOptions, problem: Problem) -> Self:
        return super().load(directory, options=on_its_own(options), problem=problem)

    def start_from(self, other: Model) -> list[str]:
        notes = super().start_from(other)
        if list(other.problem["labels"]) != list(self.problem["labels"]):
            self.head.reset_parameters()  # as many classes are not the same classes
            notes = [note for note in notes if not note.startswith("head.")]
            notes.append("head is newly initialised: the other run has other labels")
        return notes

    def forward(self, batch: Batch) -> Output:
        """The loss, where the batch has targets, and logits [batch, classes]; a batch may be empty."""
        features, lengths = batch["features"], batch["lengths"]
        empty = not len(features)
        if empty:  # one frame of zeros keeps every parameter in the graph, and is cut away again
            features, lengths = features.new_zeros(1, 1, features.shape[2]), lengths.new_ones(1)
        there = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        embedding = self.embed(features[there], Layout.of(lengths))
        logits = self.head(self.dropout(embedding)).float()
        logits = logits[:0] if empty else logits
        targets, extra = batch.get("label"), {"embedding": embedding}
        if targets is None:
            return Output(loss=None, logits=logits, extra=extra)
        smoothing = self.options.label_smoothing if self.training else 0.0
        loss = logits.sum() if empty else F.cross_entropy(logits, targets, label_smoothing=smoothing)
        return Output(loss=loss, logits=logits, extra=extra)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        """Probabilities, and the embedding that the last layer decides by (an x-vector, Snyder et al. 2018)."""
        rows = torch.softmax(output.logits.detach().float(), dim=-1).cpu().numpy()
        embeddings = output.extra["embedding"].detach().float().cpu().numpy()
        return [ClassPrediction(row, embedding) for row, embedding in zip(rows, embeddings[: len(rows)], strict=True)]
