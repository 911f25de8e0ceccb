"""How a file, a segment of one, or an array becomes samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import tone

from plait_speech.audio import AudioError, Utterance, is_clipped, is_silent, read_audio, resample


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1 / 128), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 1e-7), ("wav", "DOUBLE", 1e-7), ("wav", "ULAW", 0.02), ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-6), ("aiff", "PCM_16", 1e-4), ("ogg", "VORBIS", 0.06), ("mp3", "MPEG_LAYER_III", 0.06),
    ],
)  # fmt: skip
def test_formats_agree_on_what_was_recorded(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    samples, path = tone(rate=16_000, seconds=0.5), tmp_path / f"a.{suffix}"
    soundfile.write(path, samples, 16_000, subtype=subtype)
    found, rate = read_audio(path)
    assert rate == 16_000
    assert found.dtype == np.float32
    middle = slice(2_000, 6_000)  # codecs smear the ends
    np.testing.assert_allclose(found[middle], samples[middle], atol=tolerance)
    assert np.array_equal(read_audio(path.read_bytes())[0], found)


@pytest.mark.parametrize("rate", [4_000, 11_025, 44_100, 192_000])
def test_rates_and_channels(tmp_path: Path, rate: int) -> None:
    left, right = tone(rate=rate), tone(rate=rate, frequency=500)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), rate, subtype="FLOAT")
    found, read_rate = read_audio(tmp_path / "stereo.wav")
    assert read_rate == rate
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-6)


def test_a_segment_is_read_by_its_times(tmp_path: Path) -> None:
    samples = tone(1.0)
    soundfile.write(tmp_path / "long.wav", samples, 8_000, subtype="FLOAT")
    for source in (tmp_path / "long.wav", (samples, 8_000)):
        found, _ = read_audio(source, start=0.25, end=0.5)
        assert np.array_equal(found, samples[2_000:4_000])
        with pytest.raises(AudioError, match=r"no segment from 0.9 to 1.5 s: it lasts 1.000 s"):
            read_audio(source, start=0.9, end=1.5)
        with pytest.raises(AudioError, match=r"lasts 1.0 s, and at most 0.5 s"):
            read_audio(source, longest=0.5)


def test_arrays_are_scaled_by_their_type() -> None:
    for array in (
        np.array([0, 64, -128 + 256, 192], np.uint8), np.array([-32768, -16384, 0, 16384], np.int16),
        np.array([-1.0, -0.5, 0, 0.5]),
    ):  # fmt: skip
        found, rate = read_audio((array, 16_000))
        assert rate == 16_000
        assert set(found.tolist()) <= {-1.0, -0.5, 0.0, 0.5}
    assert np.array_equal(read_audio({"array": [0.1, 0.2], "sampling_rate": 8_000})[0], np.float32([0.1, 0.2]))
    assert np.array_equal(read_audio(Utterance(tone(), 8_000))[0], tone())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"", "empty \\(zero bytes\\)"),
        (b"RIFF of nothing at all", "no audio that can be read"),
        (object(), "is object; expected a path"),
        ("nowhere.wav", "no such file"),
        ((np.zeros(0, np.float32), 8_000), "has no samples"),
        ((np.array([0.0, np.nan, 1.0]), 8_000), "not finite: the first is nan at 0.000 s"),
        ((np.zeros((2, 100)), 8_000), "transpose it"),
        ((np.zeros(100), 0), "has the rate 0"),
        ((np.zeros(100), 8_000.5), "has the rate 8000.5"),
        ((["a", "b"], 8_000), "has no samples"),
    ],
)
def test_what_is_no_audio_says_why(source: object, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        read_audio(source)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(AudioError):
        read_audio(data)


@given(st.integers(0, 400))
@settings(max_examples=40)
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    for form in ("FLAC", "WAV"):
        whole = io.BytesIO()
        soundfile.write(whole, tone(0.02), 8_000, format=form)
        length = len(whole.getvalue())
        with pytest.raises(AudioError):
            read_audio(whole.getvalue()[: min(length * cut // 400, length - 9)])  # 8 bytes may be padding


def test_silence_and_clipping_are_seen() -> None:
    assert is_silent(np.full(100, 0.25, np.float32))
    assert not is_silent(tone())
    assert is_clipped(np.clip(tone(level=1.5), -1, 1))
    assert not is_clipped(tone(level=0.99))
    assert not is_clipped(np.ones(2, np.float32))


@pytest.mark.parametrize(("rate", "to"), [(8_000, 16_000), (44_100, 8_000), (192_000, 16_000), (44_101, 8_000)])
def test_resampling_keeps_a_tone(rate: int, to: int) -> None:
    found = resample(tone(0.5, rate=rate), rate, to)
    expected = tone(0.5, rate=to)
    assert abs(len(found) - len(expected)) <= 1
    inner = slice(to // 20, len(expected) - to // 20)
    np.testing.assert_allclose(found[inner], expected[inner], atol=4e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    found = resample(tone(0.5, rate=16_000, frequency=6_000), 16_000, 8_000)
    assert np.abs(found[200:-200]).max() < 0.01


def test_resampling_gives_torchaudios_numbers() -> None:
    """Measured once: torchaudio 2.11's functional.resample of these samples, which cannot be imported everywhere."""
    found = resample(np.float32([0.0, 0.5, -0.25, 0.75, 1.0, -1.0]), 3, 2)
    np.testing.assert_allclose(found, TORCHAUDIO, atol=1e-6)


TORCHAUDIO = [0.2257871, -0.0038236, 0.7574988, 0.0535132]
