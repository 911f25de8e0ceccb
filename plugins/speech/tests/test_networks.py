"""What a prediction of the two networks depends on, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import tone
from torch import nn
from torch.nn import functional as F

from plait.errors import InputError, IntegrityError, RecipeError
from plait.model import Key
from plait_speech.audio import Utterance
from plait_speech.augmentation import Augmentation
from plait_speech.demo_data import synthetic_words
from plait_speech.features import Features
from plait_speech.networks.classifier import UtteranceClassifier
from plait_speech.networks.cnn import Cnn
from plait_speech.networks.layout import Layout
from plait_speech.networks.processor import SpeechProcessor
from plait_speech.networks.tdnn import Tdnn

WORDS = synthetic_words()["train"][:12]
PROBLEM = {"labels": sorted({each.label or "" for each in WORDS}), "rate": 8_000}
NETWORKS = [(Tdnn, {"width": 16}), (Cnn, {"widths": (4, 6), "blocks": 1})]


def make(network: type[UtteranceClassifier], more: dict[str, Any], **options: Any) -> UtteranceClassifier:
    chosen = network.Options(name="test", **more, **options)
    return network.create(options=chosen, problem=PROBLEM, train=WORDS, seed=0)


def keys(count: int) -> list[Key]:
    return [Key(0, 0, index) for index in range(count)]


@pytest.mark.parametrize(("network", "more"), NETWORKS)
def test_predictions_do_not_depend_on_the_batch(network: type[UtteranceClassifier], more: dict[str, Any]) -> None:
    model = make(network, more)
    long = Utterance(tone(1.5), 8_000)
    together = model.predict([*WORDS, long])
    for utterance, prediction in zip(WORDS, together, strict=False):
        alone = model.predict([utterance])[0]
        np.testing.assert_allclose(prediction.probabilities, alone.probabilities, atol=1e-6)


@pytest.mark.parametrize(("network", "more"), NETWORKS)
def test_training_statistics_are_those_of_speech_alone(
    network: type[UtteranceClassifier], more: dict[str, Any]
) -> None:
    """Padding a batch further changes neither loss nor running statistics."""
    one, other = make(network, more, dropout=0.0), make(network, more, dropout=0.0)
    batch = one.processor.collate(WORDS, keys(12), training=False)
    loss = one.train()(batch).loss
    batch.tensors["features"] = F.pad(batch["features"], (0, 0, 0, 50), value=7.0)
    padded = other.train()(batch).loss
    assert loss is not None
    assert torch.equal(loss, padded)
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize(("network", "more"), NETWORKS)
def test_batches_of_none_and_of_one_frame(network: type[UtteranceClassifier], more: dict[str, Any]) -> None:
    model = make(network, more).train()
    empty = model(model.processor.collate([], [], training=True))
    assert empty.logits.shape == (0, len(PROBLEM["labels"]))
    empty.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shortest = Utterance(tone(0.025), 8_000, WORDS[0].label)
    assert torch.isfinite(model(model.processor.collate([shortest], keys(1), training=True)).loss)
    assert model.predict([]) == []


@pytest.mark.parametrize(("network", "more"), NETWORKS)
def test_a_saved_network_predicts_the_same(
    tmp_path: Path, network: type[UtteranceClassifier], more: dict[str, Any]
) -> None:
    model = make(network, more, normalize="global")
    model.save(tmp_path)
    loaded = network.load(tmp_path, options=model.options, problem=PROBLEM)
    assert loaded.processor == model.processor
    for one, other in zip(model.predict(WORDS), loaded.predict(WORDS), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_given_weights_and_another_run_are_taken_over(tmp_path: Path) -> None:
    model = make(Tdnn, {"width": 16})
    model.save(tmp_path)
    weights = make(Tdnn, {"width": 16}, weights=str(tmp_path / "model.safetensors"))
    assert torch.equal(weights.head.weight, model.head.weight)
    assert weights.notes == []
    fewer = Tdnn.create(
        options=model.options, problem={**PROBLEM, "labels": ["no", *PROBLEM["labels"][1:]]}, train=WORDS, seed=1
    )
    notes = fewer.start_from(model)
    assert notes == ["head is newly initialised: the other run has other labels"]
    assert torch.equal(fewer.convolutions[0].weight, model.convolutions[0].weight)
    assert not torch.equal(fewer.head.weight, model.head.weight)


def test_stacked_frames_give_what_a_convolution_of_each_utterance_gives() -> None:
    lengths, generator = torch.tensor([7, 1, 12]), torch.Generator().manual_seed(0)
    frames = torch.randn(20, 3, generator=generator)
    convolution = nn.Conv1d(3, 5, 3, padding=2, dilation=2, bias=False)
    stacked = Layout.of(lengths).neighbours(frames, 3, 2).flatten(1)  # [frames, kernel * channels]
    found = stacked @ convolution.weight.permute(2, 1, 0).flatten(0, 1)
    expected = torch.cat([convolution(each.T[None])[0].T for each in torch.split(frames, lengths.tolist())])
    torch.testing.assert_close(found, expected)


def test_layout_statistics_and_strides() -> None:
    lengths = torch.tensor([3, 4])
    frames = torch.arange(7.0)[:, None]
    pooled = Layout.of(lengths).statistics(frames)
    torch.testing.assert_close(pooled[:, 0], torch.tensor([1.0, 4.5]))
    torch.testing.assert_close(pooled[:, 1], torch.tensor([(2 / 3) ** 0.5, 1.25**0.5]), atol=1e-4, rtol=0)
    halved, kept = Layout.of(lengths).every(2, frames)
    assert kept.flatten().tolist() == [0, 2, 3, 5]
    assert halved.lengths.tolist() == [2, 2]


def test_augmentation_draws_from_keys_only_and_keeps_its_hands_off_otherwise() -> None:
    features = Features(kind="log-mel", rate=8_000, mels=40, deltas=0)
    full = Augmentation(how="full")
    first = full.frames(WORDS, keys(12), features)
    alone = full.frames(WORDS[4:5], [Key(0, 0, 4)], features)
    assert torch.equal(first[4], alone[0])
    later = full.frames(WORDS, [Key(0, 1, index) for index in range(12)], features)
    assert any(one.shape != other.shape for one, other in zip(first, later, strict=True))
    masked = Augmentation(how="mask").frames(WORDS, keys(12), features)
    for changed, plain in zip(masked, features.extract(WORDS), strict=True):
        assert torch.equal(changed[changed != 0], plain[changed != 0])
    assert sum(float((each == 0).float().mean()) for each in masked) / 12 > 0.05
    assert torch.equal(Augmentation().frames(WORDS, keys(12), features)[0], features.extract(WORDS)[0])


def test_a_processor_survives_json_and_refuses_what_it_does_not_know() -> None:
    processor = make(Tdnn, {}).processor
    assert SpeechProcessor.from_json(json.loads(json.dumps(processor.as_json()))) == processor
    with pytest.raises(IntegrityError, match="does not describe a speech processor"):
        SpeechProcessor.from_json({"labels": []})
    with pytest.raises(InputError, match="has the label 'saa', which is not a class"):
        processor.collate([Utterance(tone(), 8_000, "saa")], keys(1), training=True)
    assert processor.collate([Utterance(tone(), 8_000)], keys(1), training=False).get("label") is None


def test_features_follow_the_rate_of_the_problem() -> None:
    assert make(Tdnn, {}).processor.features.rate == 8_000
    studio = {**PROBLEM, "rate": 192_000}
    model = Tdnn.create(options=Tdnn.Options(name="test"), problem=studio, train=WORDS, seed=0)
    assert model.processor.features.rate == 16_000
    resampled = Utterance(tone(rate=44_100), 44_100)
    np.testing.assert_allclose(
        model.predict([resampled])[0].probabilities,
        model.predict([Utterance(tone(rate=16_000), 16_000)])[0].probabilities,
        atol=0.02,
    )
    with pytest.raises(RecipeError, match="features cannot be made"):
        make(Tdnn, {}, window=0.0001)


def test_tdnn_has_the_parameters_that_its_docstring_says() -> None:
    model = Tdnn.create(
        options=Tdnn.Options(name="test"), problem={"labels": list("0123456789"), "rate": 8_000}, train=None, seed=0
    )
    assert f"{sum(each.numel() for each in model.parameters()):,}" in (Tdnn.__doc__ or "")
