"""How does a recogniser follow speech that is still being spoken?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from plait.live import Live
from plait_speech.features import Features
from plait_speech.live import FrameStream, Piece
from plait_speech.networks.encoder import RecurrentEncoder
from plait_speech.recognition.transcripts import Transcript


class LiveRecognition(Live):
    """One utterance as it is spoken: frames, hidden states and the text so far, each made once. It knows no decoder: it
    hands hidden states to one.

    A text lags six frames and one window behind the sound, 85 ms at the usual settings.

    Args:
        features: must not need the whole recording, see `FrameStream`.
        encoder: a forward one, in evaluation mode.
        advance: takes further hidden states, [states, width].
        text: gives the text so far; with True, the final one.
    """

    def __init__(
        self, features: Features, encoder: RecurrentEncoder, *, advance: Callable[[Tensor], None],
        text: Callable[[bool], Transcript],
    ) -> None:  # fmt: skip
        self._frames, self._encoder = FrameStream(features), encoder.stream()
        self._advance, self._text = advance, text

    def accept(self, piece: Piece) -> Transcript:
        self._follow(self._frames.accept(*piece), last=False)
        return self._text(False)

    def finish(self) -> Transcript:
        self._follow(self._frames.finish(), last=True)
        return self._text(True)

    def _follow(self, frames: Tensor, *, last: bool) -> None:
        with torch.inference_mode():
            hidden = self._encoder.accept(frames, last=last)
            if len(hidden):
                self._advance(hidden)
