"""How samples become feature frames."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import tone

from plait.errors import IntegrityError
from plait_speech.audio import Utterance
from plait_speech.features import Features, Kind


def noise(seconds: float, seed: int, rate: int = 8_000) -> Utterance:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)
    return Utterance(samples, rate)


def by_hand(samples: np.ndarray, rate: int, mels: int) -> np.ndarray:
    """Kaldi's log mel filter bank of the first 25 ms, written down as its documentation has it."""
    window = samples[: rate // 40].astype(np.float64) * 32_768
    window = window - window.mean()
    window = window - 0.97 * np.concatenate((window[:1], window[:-1]))
    count = len(window)
    window = window * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / (count - 1))) ** 0.85
    power = np.abs(np.fft.rfft(window, 2 ** math.ceil(math.log2(count)))) ** 2
    mel = 1127 * np.log1p(np.arange(len(power)) * rate / 2 / (len(power) - 1) / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(rate / 2 / 700), mels + 2)
    energies = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        weights = np.clip(np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)), 0, None)
        energies.append(np.log(weights[:-1] @ power[:-1]))
    return np.array(energies)


def test_the_filter_bank_is_kaldis() -> None:
    utterance = noise(0.2, 0)
    found = Features(kind="fbank", rate=8_000, mels=23, deltas=0, normalize="none").extract([utterance])[0]
    np.testing.assert_allclose(found[0], by_hand(utterance.samples, 8_000, 23), rtol=1e-5, atol=1e-4)


def test_mfcc_is_the_liftered_cosine_transform_of_the_filter_bank() -> None:
    utterance, settings = noise(0.2, 1), Features(rate=8_000, deltas=0, normalize="none")
    bands = replace(settings, kind="fbank").extract([utterance])[0].double().numpy()
    order, centre = np.arange(13), np.arange(23) + 0.5
    basis = np.sqrt(2 / 23) * np.cos(np.pi / 23 * centre[:, None] * order)
    basis[:, 0] = np.sqrt(1 / 23)
    expected = bands @ basis * (1 + 11 * np.sin(np.pi * order / 22))
    np.testing.assert_allclose(settings.extract([utterance])[0], expected, atol=2e-3)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    settings = Features(kind="log-mel", rate=8_000, mels=40, deltas=0, normalize="none")
    low, high = (int(settings.extract([Utterance(tone(frequency=f), 8_000)])[0][3].argmax()) for f in (300, 2_000))
    assert low < 10 < 25 < high


def test_deltas_are_slopes_and_stay_within_their_utterance() -> None:
    settings = Features(rate=8_000, normalize="none")
    pair = [noise(0.3, 2), noise(0.2, 3)]
    static = replace(settings, deltas=0).extract(pair)[1]
    found = settings.extract(pair)[1]
    assert found.shape == (18, 39) == (settings.frames(0.2), settings.dims)
    padded = torch.cat((static[:1], static[:1], static, static[-1:], static[-1:]))
    slope = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10
    torch.testing.assert_close(found[:, 13:26], slope)


@given(
    st.lists(st.tuples(st.floats(0.001, 0.4), st.sampled_from([8_000, 16_000])), min_size=1, max_size=6),
    st.sampled_from(["mfcc", "log-mel", "fbank"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_frames_do_not_depend_on_what_is_extracted_with_them(
    shapes: list[tuple[float, int]], kind: Kind, random: object
) -> None:
    utterances = [noise(seconds, index, rate) for index, (seconds, rate) in enumerate(shapes)]
    settings = Features(kind=kind, rate=8_000, normalize="mean-variance")
    together = settings.extract(utterances)
    order = np.random.default_rng(len(shapes)).permutation(len(shapes))
    shuffled = dict(zip(order, settings.extract([utterances[each] for each in order]), strict=True))
    for index, (utterance, frames) in enumerate(zip(utterances, together, strict=True)):
        assert torch.equal(frames, settings.extract([utterance])[0])
        assert torch.equal(frames, shuffled[index])
        assert torch.isfinite(frames).all()
        assert len(frames) == max(1, settings.frames(utterance.seconds))


def test_normalization() -> None:
    pair = [noise(0.3, 4), Utterance(0.1 * noise(0.3, 5).samples, 8_000)]
    settings = Features(rate=8_000)
    mean = torch.cat(settings.extract(pair)).mean(0)
    torch.testing.assert_close(mean, torch.zeros(39), atol=1e-3, rtol=0)
    deviation = replace(settings, normalize="mean-variance").extract(pair)[1].std(0, correction=0)
    torch.testing.assert_close(deviation, torch.ones(39), atol=1e-4, rtol=0)
    globally = replace(settings, normalize="global").fitted(pair)
    frames = torch.cat(globally.extract(pair))
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(39), atol=1e-4, rtol=0)
    assert abs(float(globally.extract(pair)[0][:, 0].mean())) > 0.5  # loud and quiet stay apart


def test_a_warp_moves_a_tone_up() -> None:
    settings = Features(kind="log-mel", rate=8_000, mels=40, deltas=0, normalize="none")
    utterance = Utterance(tone(frequency=1_000), 8_000)
    places = [settings.extract([utterance], warps=[warp])[0][3].argmax().item() for warp in (0.9, 1.0, 1.1)]
    assert places == sorted(set(places))
    plain, warped = settings.extract([utterance])[0], settings.extract([utterance], warps=[1.0])[0]
    torch.testing.assert_close(plain, warped)


def test_settings_survive_json_and_refuse_what_cannot_be() -> None:
    settings = Features(kind="log-mel", normalize="global", deltas=0).fitted([noise(0.5, 6, 16_000)])
    assert Features.from_json(json.loads(json.dumps(settings.as_json()))) == settings
    with pytest.raises(IntegrityError, match="no settings of speech features"):
        Features.from_json({"kind": "mfcc", "colour": 3})
    for wrong in ({"mels": 0}, {"high": 9_000.0}, {"coefficients": 99}, {"step": 0.0}, {"deltas": 5}):
        with pytest.raises(ValueError, match="features cannot be made"):
            Features(rate=8_000, **wrong)  # type: ignore[arg-type]  # that is the point
    assert Features().extract([]) == []


def test_masking_hides_what_lies_far_below_the_speech_and_depends_on_the_utterance_alone() -> None:
    rng = np.random.default_rng(0)
    speech = np.zeros(8000, np.float32)
    speech[4000:] = 0.5 * np.sin(np.arange(4000, dtype=np.float32))
    rooms = [speech + level * rng.normal(size=8000).astype(np.float32) for level in (1e-4, 1e-3)]
    heard = [Utterance(each, 8000) for each in rooms]
    plain, masked = (
        Features(kind="log-mel", rate=8000, deltas=0, normalize="none", masking=part).extract(heard)
        for part in (0.0, 0.01)
    )
    assert (plain[0] - plain[1])[:40].abs().mean() > 3
    assert (masked[0] - masked[1])[:40].abs().mean() < 0.1
    alone = Features(kind="log-mel", rate=8000, deltas=0, normalize="none", masking=0.01).extract(heard[:1])
    assert torch.equal(alone[0], masked[0])
