"""What is learned: who is speaking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from plait.errors import DataError
from plait.evaluation import ClassPrediction, Evaluator
from plait.listing import Media, several
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits
from plait_registry.specs import Metric
from plait_speech.classification import ClassificationOptions, SpeechClassification
from plait_speech.recordings import SpeechSplit, recordings_of
from plait_speech.speaker_recognition.verification import EER, SpeakerEvaluator, embedding_of


class SpeakerOptions(ClassificationOptions):
    """The recipe's `data` block of speech/speaker-recognition."""

    media: ClassVar[Media] = recordings_of("speaker")


class SpeakerRecognition(SpeechClassification):
    """A model learns to tell the training speakers apart; it is judged by whether its embeddings tell any two speakers
    apart (verification), and where it knows the speakers also by naming them (identification). It knows no model.

    With `data.split=speaker` nobody who is tested was heard in training: that is what verification is for.
    """

    Options: ClassVar[type[DataOptions]] = SpeakerOptions
    metric: ClassVar[Metric] = EER
    open_set: ClassVar[bool] = True

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """As `SpeechClassification.read`; the label is who speaks.

        Raises:
            DataError: also where a split could not be judged: it has one speaker, or everybody once.
        """
        splits = super().read(source, problem)
        for name in ("valid", "test"):
            part = splits[name]
            if isinstance(part, SpeechSplit) and len(part):
                counts = Counter(part.speakers)
                _check_trials(name, counts)
        return splits

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:  # type: ignore[override]  # it judges more
        return SpeakerEvaluator(problem["labels"])

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        """The most probable of the training speakers, and the embedding, by whose cosine two recordings compare."""
        known = super().present(prediction, problem)
        outputs: Mapping[str, Any] = {
            **known.outputs,
            "embedding": np.asarray(embedding_of(prediction), np.float64).tolist(),
        }
        return Prediction(known.prediction, known.scores, outputs)


def _check_trials(split: str, counts: Counter[str]) -> None:
    if len(counts) < 2:
        raise DataError(
            f"{split} has one speaker only: {next(iter(counts))!r}; verification compares two or more",
            hint=f"name several: data.{split}_speaker=[ann,bob], or raise data.{split}_fraction",
        )
    if max(counts.values()) < 2:
        raise DataError(
            f"every speaker of {split} has one recording ({several(counts)}): no two are by the same",
            hint=f"add recordings, or raise data.{split}_fraction",
        )
