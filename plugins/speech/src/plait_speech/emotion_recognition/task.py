"""What is learned: in which mood something is said."""

from __future__ import annotations

from typing import ClassVar

from plait_registry.specs import Metric
from plait_speech.classification import SpeechClassification


class EmotionRecognition(SpeechClassification):
    """One emotion an utterance, judged by unweighted average recall: emotions are never equally frequent, and neutral
    speech would win (Schuller et al. 2009, the INTERSPEECH emotion challenge). It knows no model.

    On speakers of the training data everything looks easy; `data.split=speaker`, or `data.test_speaker=NAME` for each
    speaker in turn (leave one speaker out), tells what is worth knowing.
    """

    metric: ClassVar[Metric] = Metric("recall_macro", True)
