"""How does an alignment look: the waveform, the spectrogram and the model's states over time?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plait.figures import BLUE, GREY, ORANGE, drawn
from plait_speech.alignment.spans import Alignment
from plait_speech.audio import Utterance
from plait_speech.features import Features

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 2_000  # of the waveform: more make the file larger, not the picture
_HIGHEST = 16_000  # Hz


def alignment_picture(utterance: Utterance, alignment: Alignment) -> bytes:
    """An utterance over time as SVG: its waveform, its log mel spectrogram and, where the model has some, its states.

    The words are shaded and named. Where the utterance's `more["alignment"]` has reference times, they are dashed.
    """
    reference = utterance.more.get("alignment") or ()
    features = Features(kind="log-mel", rate=min(utterance.rate, _HIGHEST), mels=40, deltas=0, normalize="none")
    mel = features.extract([utterance])[0].numpy().T
    samples, seconds = utterance.samples, utterance.seconds
    size = max(1, len(samples) // _MOST_POINTS)
    whole = samples[: len(samples) // size * size].reshape(-1, size)

    def draw(figure: Figure) -> None:
        rows = 3 if alignment.states else 2
        axes = figure.subplots(rows, 1, sharex=True, height_ratios=[1, 1.4, 1.2][:rows])
        wave, spectrum = axes[0], axes[1]
        time = (np.arange(len(whole)) + 0.5) * size / utterance.rate
        wave.fill_between(time, whole.min(axis=1), whole.max(axis=1), color=BLUE, linewidth=0.5)
        wave.set_ylabel("amplitude")
        extent = (0.0, mel.shape[1] * features.step, 0.0, float(len(mel)))
        spectrum.imshow(mel, origin="lower", aspect="auto", extent=extent, interpolation="nearest", rasterized=True)
        spectrum.set_ylabel("mel band")
        if alignment.states:
            _states(axes[2], alignment)
        top = max(float(np.abs(samples).max()), 1e-6)
        for index, span in enumerate(alignment.spans):
            wave.text((span.start + span.end) / 2, 1.05 * top, span.unit[:16], ha="center", va="bottom")
            for each in axes:
                each.axvspan(span.start, span.end, color=(ORANGE, GREY)[index % 2], alpha=0.15, linewidth=0)
        for each in axes:
            for edge in sorted({edge for span in reference for edge in (span.start, span.end)}):
                each.axvline(edge, color=GREY, linestyle="--", linewidth=0.8)
        wave.set_ylim(-1.1 * top, 1.4 * top)
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0, seconds)

    return drawn(draw, 7.5, 4.8 if alignment.states else 3.4)


def _states(axes: Any, alignment: Alignment) -> None:
    values = np.array([np.nan if each is None else each for each in alignment.states], np.float64)
    time = np.arange(len(values) + 1) * alignment.step
    axes.stairs(values, time, baseline=None, color=BLUE, linewidth=1.4)
    axes.set_ylabel("state of the word")
