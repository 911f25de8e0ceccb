"""How do samples become the feature frames that a model was fitted on?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from plait.errors import DataError, IntegrityError
from plait_speech.audio import Utterance, resample

Kind = Literal["mfcc", "log-mel", "fbank"]
Normalization = Literal["none", "mean", "mean-variance", "global"]

_BLOCK = 512  # frames that are transformed at a time; see `_static`
_INT16 = 32_768.0  # Kaldi reads 16-bit samples unscaled
_FLOOR = torch.finfo(torch.float32).eps  # under the logarithm, as Kaldi has it
_LIFTER = 22  # Kaldi's --cepstral-lifter
_DELTA_REACH = 2  # frames on each side of the regression that a delta is (HTK book, equation 5.16)
_SMALLEST_DEVIATION = 1e-3  # a dimension that never changes is left as it is, not blown up


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The recipe for feature frames, as JSON-able settings. It knows no label, no file and no model.

    The frames of an utterance depend on that utterance alone, bit for bit, whichever others are extracted with it.
    An utterance shorter than one window is padded with zeros to one, so that there is always a frame.

    Args:
        kind: "fbank", Kaldi's log mel filter bank (compute-fbank-feats --dither=0 --use-energy=false; equal to
            torchaudio.compliance.kaldi.fbank); "mfcc", its cosine transform with liftering (compute-mfcc-feats, C0 in
            place of the energy); "log-mel", a Hann window without pre-emphasis, as networks like it.
        rate: Hz; utterances at another rate are resampled.
        window, step: seconds from the first to the last sample of a frame, and from frame to frame.
        mels: triangular filters, equally wide on the mel scale 1127 ln(1 + f / 700).
        coefficients: of "mfcc", the first of which is C0.
        deltas: how many times the regression over two frames on each side is appended: 0, 1 or 2.
        low, high: the filter bank's range, Hz; a high of 0 or below counts from the Nyquist frequency, as in Kaldi.
        preemphasis: of "fbank" and "mfcc".
        masking: the part of an utterance's mean power that is added to every bin, before the logarithm, as white noise
            would. What lies far below the speech (the room, the microphone, the codec) then no longer tells recordings
            apart: 0.001 masks what is more than 30 dB down.
        normalize: "mean" subtracts each utterance's mean (CMN); "mean-variance" also divides by its standard deviation
            (CMVN); "global" does that with `mean` and `deviation`, which `fitted` sets; "none".
        mean, deviation: of the training frames, one a dimension, under "global".
    """

    kind: Kind = "mfcc"
    rate: int = 16_000
    window: float = 0.025
    step: float = 0.010
    mels: int = 23
    coefficients: int = 13
    deltas: int = 2
    low: float = 20.0
    high: float = 0.0
    preemphasis: float = 0.97
    masking: float = 0.0
    normalize: Normalization = "mean"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        top = self.rate / 2
        high = self.high if self.high > 0 else top + self.high
        wrong = {
            "window and step": not self.step > 0 or not self.window * self.rate >= 2,
            "mels": self.mels < 1,
            "coefficients": self.kind == "mfcc" and not 1 <= self.coefficients <= self.mels,
            "deltas": self.deltas not in (0, 1, 2),
            "masking": not 0 <= self.masking < 1,
            "low and high": not 0 <= self.low < high <= top,
            "kind": self.kind not in ("mfcc", "log-mel", "fbank"),
            "normalize": self.normalize not in ("none", "mean", "mean-variance", "global"),
        }
        if any(wrong.values()):
            raise ValueError(f"features cannot be made: {', '.join(name for name, bad in wrong.items() if bad)}")

    @property
    def dims(self) -> int:
        """Values of a frame."""
        return self._static_dims * (1 + self.deltas)

    def frames(self, seconds: float) -> int:
        """How many frames an utterance of this length has."""
        return max(1, 1 + (round(seconds * self.rate) - self._length) // self._hop)

    def extract(self, utterances: Sequence[Utterance], *, warps: Sequence[float] | None = None) -> list[Tensor]:
        """The frames of each utterance, float32 [frames, dims], in order.

        Args:
            warps: for each utterance, by how much its spectrum is stretched (vocal tract length perturbation, Jaitly
                and Hinton 2013): 1.1 reads it as of a speaker whose formants are a tenth higher.
        """
        found: list[Tensor] = []
        for frames, lengths in self._static(utterances, warps):
            for _ in range(self.deltas):
                frames = torch.cat((frames, _deltas(frames[:, -self._static_dims :], lengths)), dim=1)
            found += [self._normalized(each) for each in torch.split(frames, lengths)]
        return found

    def fitted(self, utterances: Sequence[Utterance]) -> Self:
        """These settings with the mean and standard deviation of these utterances' frames, under "global"; else
        themselves."""
        if self.normalize != "global":
            return self
        frames = torch.cat(replace(self, normalize="none").extract(utterances)).double()
        deviation = frames.std(dim=0, correction=0).clamp_(min=_SMALLEST_DEVIATION)
        return replace(self, mean=tuple(frames.mean(dim=0).tolist()), deviation=tuple(deviation.tolist()))

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The features that `as_json` described.

        Raises:
            IntegrityError: unknown or missing settings, or values that cannot be.
        """
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
            }
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"these are no settings of speech features: {error}") from error

    # From samples to static frames

    @property
    def _length(self) -> int:
        return round(self.window * self.rate)

    @property
    def _hop(self) -> int:
        return max(1, round(self.step * self.rate))

    @property
    def _static_dims(self) -> int:
        return self.coefficients if self.kind == "mfcc" else self.mels

    def _static(
        self, utterances: Sequence[Utterance], warps: Sequence[float] | None
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Static frames of several utterances at a time, one below the other, and how many each has.

        Blocks of one size, the last one filled up with zeros, keep a frame's numbers independent of how many others
        there are: a matrix product of another shape may sum in another order. They also stay in the cache, and unlike
        batches padded to the longest utterance they waste nothing.
        """
        if any(each.frames is not None for each in utterances):
            for index, each in enumerate(utterances):
                own = None if warps is None else warps[index : index + 1]
                yield from self._static([each], own) if each.frames is None else [self._given(each)]
            return
        for start, end in _groups([len(each.samples) for each in utterances]):
            framed = [self._framed(each) for each in utterances[start:end]]
            lengths = [len(each) for each in framed]
            together = torch.cat(framed)
            power = torch.cat([self._power(block)[:count] for block, count in _blocks(together)])
            if self.masking:
                power = torch.cat([each + self.masking * each.mean() for each in torch.split(power, lengths)])
            if warps is None:
                bank = self._bank(1.0, power.shape[1])
                static = torch.cat([self._static_of(block @ bank)[:count] for block, count in _blocks(power)])
            else:  # an utterance at a time: most have a bank of their own
                pairs = zip(torch.split(power, lengths), warps[start:end], strict=True)
                static = torch.cat([self._static_of(each @ self._bank(warp, power.shape[1])) for each, warp in pairs])
            yield static, lengths

    def _given(self, utterance: Utterance) -> tuple[Tensor, list[int]]:
        """Static frames that were made elsewhere; nothing warps or masks them."""
        assert utterance.frames is not None
        frames = torch.from_numpy(utterance.frames)
        if frames.shape[1] != self._static_dims:
            raise DataError(
                f"{utterance.id or 'the utterance'} has frames of {frames.shape[1]} values that were made elsewhere, "
                f"and the model's own have {self._static_dims} ({self.kind})",
                hint=f"for cepstra: model.kind=mfcc, model.coefficients={frames.shape[1]}, where the model has these",
            )
        return frames, [len(frames)]

    def _bank(self, warp: float, bins: int) -> Tensor:
        return _mel_bank(self.mels, bins, self.rate, self.low, self.high, warp)

    def _static_of(self, mel: Tensor) -> Tensor:
        """Static features, [frames, static dims], of what comes through the mel filters."""
        values = mel.clamp_(min=_FLOOR).log_()
        return values @ _cosines(self.mels, self.coefficients) if self.kind == "mfcc" else values

    def _framed(self, utterance: Utterance) -> Tensor:
        """Windows of samples, [frames, window], a view; the last incomplete one is left out (Kaldi's snip-edges)."""
        samples = torch.from_numpy(resample(utterance.samples, utterance.rate, self.rate))
        if len(samples) < self._length:
            samples = F.pad(samples, (0, self._length - len(samples)))
        return samples.unfold(0, self._length, self._hop)

    def _power(self, block: Tensor) -> Tensor:
        """Power spectra, [frames, bins]."""
        size = 1 << (self._length - 1).bit_length()
        if self.kind == "log-mel":
            block = block * _window("hann", self._length)
            return _squared(torch.fft.rfft(block, n=size))
        block = block * _INT16
        block = block - block.mean(dim=1, keepdim=True)
        before = torch.cat((block[:, :1], block[:, :-1]), dim=1)
        block = (block - self.preemphasis * before) * _window("povey", self._length)
        return _squared(torch.fft.rfft(block, n=size))

    def _normalized(self, frames: Tensor) -> Tensor:
        if self.normalize in ("mean", "mean-variance"):
            frames = frames - frames.mean(dim=0)
            if self.normalize == "mean-variance":
                frames = frames / frames.square().mean(dim=0).sqrt().clamp_(min=_SMALLEST_DEVIATION)
        elif self.normalize == "global" and self.mean:
            frames = (frames - torch.tensor(self.mean)) / torch.tensor(self.deviation)
        return frames.contiguous()


def _squared(spectrum: Tensor) -> Tensor:
    return spectrum.real**2 + spectrum.imag**2


def _groups(lengths: Sequence[int], most: int = 1 << 21) -> Iterator[tuple[int, int]]:
    """Ranges of utterances that together have about `most` samples: 2M samples are 21 MB of windows at 25/10 ms."""
    start, held = 0, 0
    for index, length in enumerate(lengths):
        held += length
        if held >= most or index == len(lengths) - 1:
            yield start, index + 1
            start, held = index + 1, 0


def _blocks(rows: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Rows in blocks of `_BLOCK`, the last one filled up with zeros, and how many rows of each count."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        count = len(block)
        yield (block if count == _BLOCK else F.pad(block, (0, 0, 0, _BLOCK - count))), count


def _deltas(frames: Tensor, lengths: Sequence[int]) -> Tensor:
    """Regression slopes over two frames on each side, within each utterance; its ends are repeated outwards."""
    counts = torch.tensor(lengths)
    last = (counts.cumsum(0) - 1).repeat_interleave(counts)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    here = torch.arange(len(frames))
    total = torch.zeros_like(frames)
    for reach in range(1, _DELTA_REACH + 1):
        after, before = (here + reach).minimum(last), (here - reach).maximum(first)
        total += reach * (frames[after] - frames[before])
    return total / (2 * sum(reach**2 for reach in range(1, _DELTA_REACH + 1)))


@lru_cache(maxsize=16)
def _window(kind: str, length: int) -> Tensor:
    if kind == "hann":
        return torch.hann_window(length, periodic=True)
    return torch.hann_window(length, periodic=False).pow(0.85)  # Povey's: like Hamming's, but zero at its ends


@lru_cache(maxsize=128)
def _mel_bank(mels: int, bins: int, rate: int, low: float, high: float, warp: float) -> Tensor:
    """Triangles on the mel scale, [bins, mels]; a warp stretches the frequency axis below 80 % of the Nyquist
    frequency, and what lies above is drawn in linearly so that the range stays."""
    top = rate / 2
    high = high if high > 0 else top + high
    edges = torch.linspace(_mel(low), _mel(high), mels + 2, dtype=torch.float64)
    frequencies = torch.arange(bins, dtype=torch.float64) * (rate / (2 * (bins - 1)))
    if warp != 1.0:
        knee = 0.8 * high * min(1.0, 1.0 / warp)
        above = high - (high - warp * knee) / (high - knee) * (high - frequencies)
        frequencies = torch.where(frequencies <= knee, frequencies * warp, above)
    at = 1127.0 * torch.log1p(frequencies / 700.0)
    rising = (at[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at[:, None]) / (edges[2:] - edges[1:-1])
    bank = torch.minimum(rising, falling).clamp_(min=0)
    bank[-1] = 0  # Kaldi leaves the Nyquist bin out
    return bank.float()


def _mel(frequency: float) -> float:
    return 1127.0 * math.log1p(frequency / 700.0)


@lru_cache(maxsize=16)
def _cosines(mels: int, coefficients: int) -> Tensor:
    """The orthonormal DCT-II and Kaldi's lifter, [mels, coefficients]."""
    order = torch.arange(coefficients, dtype=torch.float64)
    centre = torch.arange(mels, dtype=torch.float64)[:, None] + 0.5
    matrix = torch.cos(math.pi / mels * centre * order) * math.sqrt(2 / mels)
    matrix[:, 0] = math.sqrt(1 / mels)
    return (matrix * (1 + _LIFTER / 2 * torch.sin(math.pi * order / _LIFTER))).float()
