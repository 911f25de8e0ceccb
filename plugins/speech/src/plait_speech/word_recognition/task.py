"""What is learned: which word, of a known few, is said."""

from __future__ import annotations

from plait_speech.classification import SpeechClassification


class WordRecognition(SpeechClassification):
    """One word an utterance, judged by accuracy. It knows no model."""
