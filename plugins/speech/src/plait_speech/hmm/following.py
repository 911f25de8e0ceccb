"""Which word is being said? What hidden Markov models make of an utterance before it has ended."""

from __future__ import annotations

import torch
from torch import Tensor

from plait.evaluation import ClassPrediction
from plait.live import Live
from plait_speech.features import Features
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.inference import Online
from plait_speech.live import FrameStream, Piece


class LiveClassification(Live):
    """One utterance as it is spoken, and how probable each class is so far: softmax(scale * log p(o_1..o_t | class)).
    The final answer is that of the whole utterance. It knows no task.

    Args:
        features: must not need the whole recording, see `FrameStream`.
        scale: a factor on log-likelihoods.
    """

    def __init__(self, bank: HmmBank, features: Features, *, scale: float) -> None:
        self._frames, self._online, self._scale = FrameStream(features), Online(bank), scale
        self._dtype = bank.mean.dtype

    def accept(self, piece: Piece) -> ClassPrediction:
        return self._judged(self._online.push(self._frames.accept(*piece).to(self._dtype)))

    def finish(self) -> ClassPrediction:
        begun = self._online.push(self._frames.finish().to(self._dtype))
        ended = self._online.finish()
        return self._judged(ended if ended.isfinite().any() else begun)  # too short for any last state: as `predict`

    def _judged(self, totals: Tensor) -> ClassPrediction:
        return ClassPrediction(probabilities=torch.softmax(self._scale * totals, 0).numpy())
