"""How does speech that is still being spoken become samples, and samples frames, as soon as each is complete?"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from plait.errors import InputError
from plait_speech.audio import AudioError, Samples, Utterance, read_audio, resample
from plait_speech.features import Features

PIECE = 0.1
"""Seconds of a piece, where a file or pipe is cut into them."""

Piece = tuple[Samples, int]
"""Samples, float32 mono at full scale -1..1, and their rate in Hz."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # WAV's format codes


def audio_pieces(source: Any, *, rate: int) -> Iterator[Piece]:
    """A recording as it arrives, in pieces of a tenth of a second.

    Args:
        source: a path; an open binary file, such as a pipe: WAV with 16-bit or float samples, or bare samples
            (16 bits, little-endian, one channel); or an iterable of (array, rate).
        rate: of bare samples, Hz.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(source, str | Path):
        try:
            samples, rate = read_audio(source)
        except AudioError as error:
            raise InputError(f"{source} {error}") from error
        size = max(1, round(PIECE * rate))
        yield from ((samples[start : start + size], rate) for start in range(0, len(samples), size))
    elif hasattr(source, "read"):
        yield from _piped(source, rate)
    elif isinstance(source, Iterable) and not isinstance(source, bytes):
        for number, piece in enumerate(source):
            try:
                yield read_audio(piece)
            except AudioError as error:
                raise InputError(f"piece {number} {error}") from error
    else:
        raise InputError(f"found {type(source).__name__}; expected a path, an open binary file, or pieces of audio")


def _piped(file: IO[bytes], rate: int) -> Iterator[Piece]:
    begin = _exactly(file, 12)
    kind, width, channels = _PCM, 2, 1
    if begin[:4] == b"RIFF" and begin[8:12] == b"WAVE":
        kind, width, channels, rate = _wav_header(file)
        begin = b""
    block = width * channels
    rest = begin
    while True:
        read = file.read(block * max(1, round(PIECE * rate)))
        rest += read
        whole = len(rest) - len(rest) % block
        if whole:
            values = np.frombuffer(rest[:whole], np.dtype("<i2") if kind == _PCM else np.dtype("<f4"))
            try:
                yield read_audio((values.reshape(-1, channels), rate))
            except AudioError as error:
                raise InputError(f"the audio that arrives {error}") from error
        rest = rest[whole:]
        if not read:
            return


def _wav_header(file: IO[bytes]) -> tuple[int, int, int, int]:
    """Format, bytes of a sample, channels and rate; the file then stands at its first sample."""
    found: tuple[int, int, int, int] | None = None
    while True:
        head = _exactly(file, 8)
        if len(head) < 8:
            raise InputError("the WAV file that arrives ends before its first sample")
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data" and found is not None:
            return found
        body = _exactly(file, size + size % 2)
        if name == b"fmt " and len(body) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if kind == _EXTENSIBLE and len(body) >= 26:
                kind = struct.unpack("<H", body[24:26])[0]
            if (kind, bits) not in ((_PCM, 16), (_FLOAT, 32)) or not channels:
                raise InputError(
                    f"the WAV file that arrives has samples of {bits} bits (format {kind})",
                    hint="expected 16-bit or float samples: sox FILE -b 16 -t wav - | plait predict RUN --live -",
                )
            found = kind, bits // 8, channels, rate


def _exactly(file: IO[bytes], count: int) -> bytes:
    """So many bytes, or what there is until the end: a pipe gives what it has."""
    found = io.BytesIO()
    while found.tell() < count and (read := file.read(count - found.tell())):
        found.write(read)
    return found.getvalue()


class FrameStream:
    """Feature frames of one recording as it arrives: each comes out with the last sample that it needs, and is, at the
    features' own rate, bit for bit the one that the whole recording has. It knows no model.

    Raises:
        InputError: frames depend on the whole recording: on its mean, or on frames after them.
    """

    def __init__(self, features: Features) -> None:
        whole = [
            name
            for name, needed in (
                (f"normalize={features.normalize}", features.normalize in ("mean", "mean-variance")),
                ("masking", features.masking > 0),
                (f"kind={features.kind} with deltas", features.deltas > 0),
            )
            if needed
        ]
        if whole:
            raise InputError(
                f"the features need the whole recording ({', '.join(whole)}), so that nothing can be said before its "
                "end",
                hint="train with model.kind=log-mel and model.normalize=global to predict --live",
            )
        self._features = features
        self._length = round(features.window * features.rate)
        self._hop = max(1, round(features.step * features.rate))
        self._held: Samples = np.zeros(0, np.float32)
        self._resampling: _ResampleStream | None = None
        self._rate = 0
        self._any = False

    def accept(self, samples: Samples, rate: int) -> Tensor:
        """Further samples at `rate` Hz, to the frames that they complete, [frames, dims].

        Raises:
            InputError: the rate is not that of the samples before.
        """
        if not self._rate:
            self._rate = rate
            if rate != self._features.rate:
                self._resampling = _ResampleStream(rate, self._features.rate)
        if rate != self._rate:
            raise InputError(f"samples at {rate} Hz follow samples at {self._rate} Hz; one input has one rate")
        return self._framed(samples if self._resampling is None else self._resampling.accept(samples))

    def finish(self) -> Tensor:
        """No sample follows: the frames that are left, [frames, dims]; a recording shorter than one window has one."""
        rest = self._framed(np.zeros(0, np.float32) if self._resampling is None else self._resampling.finish())
        if self._any or not len(self._held):
            return rest
        return self._features.extract([Utterance(self._held, self._features.rate)])[0]

    def _framed(self, samples: Samples) -> Tensor:
        self._held = np.concatenate((self._held, samples))
        count = (len(self._held) - self._length) // self._hop + 1
        if count < 1:
            return torch.zeros(0, self._features.dims)
        self._any = True
        part = self._held[: (count - 1) * self._hop + self._length]
        self._held = self._held[count * self._hop :]
        return self._features.extract([Utterance(part, self._features.rate)])[0]


class _ResampleStream:
    """`resample` for samples as they arrive: each comes out as soon as the filter has all that it needs."""

    def __init__(self, rate: int, to: int) -> None:
        ratio = Fraction(to, rate)
        if max(ratio.numerator, ratio.denominator) > 1_000:
            raise InputError(
                f"{rate} Hz cannot be resampled to {to} Hz as it arrives: their ratio is {ratio}",
                hint=f"send samples at {to} Hz",
            )
        self._rate, self._to = rate, to
        self._up, self._down = ratio.numerator, ratio.denominator
        reach = 7 * max(1, math.ceil(self._down / self._up)) + 1  # the filter's six zero crossings, and a margin
        self._margin = math.ceil(reach / self._down) * self._down
        self._held: Samples = np.zeros(self._margin, np.float32)

    def accept(self, samples: Samples) -> Samples:
        self._held = np.concatenate((self._held, samples))
        blocks = (len(self._held) - 2 * self._margin) // self._down
        if blocks < 1:
            return np.zeros(0, np.float32)
        seen = self._held[: 2 * self._margin + blocks * self._down]
        first = self._margin // self._down * self._up
        found = resample(seen, self._rate, self._to)[first : first + blocks * self._up]
        self._held = self._held[blocks * self._down :]
        return found

    def finish(self) -> Samples:
        return resample(self._held, self._rate, self._to)[self._margin // self._down * self._up :]
