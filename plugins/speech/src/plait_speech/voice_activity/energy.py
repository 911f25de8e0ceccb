"""Where is somebody speaking, as far as loudness tells?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plait_speech.audio import Samples
from plait_speech.voice_activity.segments import Flags, Segment, segments_of, smoothed

Floats = npt.NDArray[np.float64]

_SILENCE = -100.0  # dB of full scale: what digital silence counts as; 16-bit rounding alone makes -101
_BLOCK = 0.5  # seconds from one estimate of the floor to the next
_QUIET, _LOUD = 10, 95  # percentiles that stand for noise and for speech
_RELEASE = 3.0  # dB below the threshold at which speech that has begun ends
_LEAST, _MOST = 5.0, 15.0  # dB above the floor between which the threshold lies


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyDetector:
    """Speech is what is louder than the noise around it. It knows no spectrum: music and slamming doors are speech.

    The level of each frame, in dB, is compared with a threshold that lies between the noise floor (the tenth percentile
    of the levels around it) and speech (their 95th), and follows both. Speech that has begun goes on down to 3 dB below
    the threshold (hysteresis). Then short pauses are filled, clicks dropped, and segments widened (hangover).

    Args:
        window, step: of the frames, seconds.
        memory: seconds around a frame that floor and loudness are taken of.
        fraction: where between floor and loudness the threshold lies; at least 5, at most 15 dB above the floor.
        contrast: dB between floor and loudness below which nothing stands out, and nobody speaks.
        gap, shortest, margin: seconds; see `smoothed`.
    """

    window: float = 0.025
    step: float = 0.010
    memory: float = 4.0
    fraction: float = 0.35
    contrast: float = 6.0
    gap: float = 0.10
    shortest: float = 0.05
    margin: float = 0.01

    def segments(self, samples: Samples, rate: int) -> list[Segment]:
        """Where somebody speaks, seconds, in order.

        Args:
            samples: [samples], full scale -1..1.
            rate: Hz.
        """
        active = self.active(self.levels(samples, rate))
        seconds = len(samples) / rate
        found = segments_of(active, step=self.step, window=self.window, seconds=seconds)
        return smoothed(found, gap=self.gap, shortest=self.shortest, margin=self.margin, seconds=seconds)

    def levels(self, samples: Samples, rate: int) -> Floats:
        """The level of each frame without its mean, dB of full scale, [frames]; one frame at least."""
        length, hop = max(1, round(self.window * rate)), max(1, round(self.step * rate))
        padded = np.pad(samples.astype(np.float64), (0, max(0, length - len(samples))))
        sums, squares = (np.concatenate(([0.0], np.cumsum(each))) for each in (padded, padded**2))
        starts = np.arange(0, len(padded) - length + 1, hop)
        mean = (sums[starts + length] - sums[starts]) / length
        power = (squares[starts + length] - squares[starts]) / length - mean**2
        levels: Floats = 10 * np.log10(np.maximum(power, 10 ** (_SILENCE / 10)))
        return levels

    def active(self, levels: Floats) -> Flags:
        """Which frames are speech, [frames], before anything is smoothed."""
        threshold = self.threshold(levels)
        above, kept = levels >= threshold, levels >= threshold - _RELEASE
        # a run that is kept is speech where it is above the threshold once
        number = np.cumsum(np.diff(np.concatenate(([False], kept)).astype(np.int8)) == 1)
        loud = np.zeros(number[-1] + 1, bool)
        loud[number[above]] = True
        found: Flags = kept & loud[number]
        return found

    def threshold(self, levels: Floats) -> Floats:
        """The level from which a frame is speech, dB, [frames]; infinite where nothing stands out."""
        reach, hop = max(1, round(self.memory / self.step / 2)), max(1, round(_BLOCK / self.step))
        centres = np.arange(0, len(levels) + hop, hop)
        around = [levels[max(0, at - reach) : at + reach] for at in np.minimum(centres, len(levels) - 1)]
        percentiles = np.stack([np.percentile(each, (_QUIET, _LOUD)) for each in around])
        frames = np.arange(len(levels))
        floor, loudness = (np.interp(frames, centres, column) for column in percentiles.T)
        rise = np.clip(self.fraction * (loudness - floor), _LEAST, _MOST)
        result: Floats = np.where(loudness - floor >= self.contrast, floor + rise, np.inf)
        return result


def trim(samples: Samples, rate: int, *, margin: float = 0.05) -> tuple[int, int]:
    """The part of a recording from the first to the last speech in it, with a margin; all of it where nothing stands
    out.

    Args:
        samples: [samples], full scale -1..1.
        rate: Hz.
        margin: seconds that are kept before and behind.

    Returns:
        The first sample to keep and the one behind the last: `samples[start:end]`.
    """
    found = EnergyDetector(margin=margin).segments(samples, rate)
    if not found:
        return 0, len(samples)
    return round(found[0].start * rate), min(len(samples), round(found[-1].end * rate))
