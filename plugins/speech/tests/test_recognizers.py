"""What the networks that write text promise, and how they follow speech as it arrives."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from plait.errors import DataError, InputError, IntegrityError, RecipeError
from plait.model import Key, NeuralModel
from plait_speech.audio import Utterance, resample
from plait_speech.demo_data import synthetic_words
from plait_speech.features import Features
from plait_speech.live import FrameStream, audio_pieces
from plait_speech.networks.conformer_layers import Conformer
from plait_speech.networks.ctc import Ctc
from plait_speech.networks.ctc_conformer import CtcConformer
from plait_speech.networks.recognizer import RecognitionProcessor
from plait_speech.networks.transducer import RnnTransducer
from plait_speech.networks.units import Units
from plait_speech.strings import synthetic_strings, word_strings

STRINGS = synthetic_strings()["train"][:12]
PROBLEM = {"alphabet": sorted({each for string in STRINGS for each in string.text or ""}), "rate": 8_000}
SMALL = {"mels": 16, "units": "words"}
CONFORMER = {"conformer": {"width": 16, "inner": 16, "layers": 1, "heads": 2, "kernel": 5}}
NETWORKS: list[tuple[type[NeuralModel], dict[str, Any]]] = [
    (Ctc, {"width": 16}), (CtcConformer, CONFORMER), (RnnTransducer, {"width": 16, "prediction_width": 8}),
]  # fmt: skip


def make(network: type[NeuralModel], **options: Any) -> Any:
    chosen = network.Options.model_validate({"name": "test", **SMALL, **options})
    return network.create(options=chosen, problem=PROBLEM, train=STRINGS, seed=0)


def keys(count: int) -> list[Key]:
    return [Key(0, 0, index) for index in range(count)]


def overfitted(network: type[NeuralModel], **options: Any) -> Any:
    """A network that has learned a few strings by heart."""
    model = make(network, augment="none", dropout=0.0, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = model.processor.collate(STRINGS[:3], keys(3), training=False)
    model.train()
    for _ in range(90):
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_micro_batches_of_unequal_texts_have_the_loss_of_the_whole(
    network: type[NeuralModel], options: dict[str, Any]
) -> None:
    """The mean over `count` terms: parts weighted by their counts are the whole, also of an empty text."""
    model = make(network, **options).eval()
    examples = [*STRINGS[:5], Utterance(STRINGS[5].samples, 8_000, text="")]
    whole = model.processor.collate(examples, keys(6), training=False)
    parts = [model.processor.collate(each, keys(len(each)), training=False) for each in (examples[:1], examples[1:])]
    assert whole.count == sum(part.count for part in parts)
    with torch.no_grad():
        summed = sum(float(model(part).loss) * part.count for part in parts)
        assert summed / whole.count == pytest.approx(float(model(whole).loss), rel=1e-4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_hidden_states_do_not_depend_on_the_batch(network: type[NeuralModel], options: dict[str, Any]) -> None:
    model = make(network, **options).eval()
    with torch.no_grad():
        together = model(model.processor.collate(STRINGS, keys(12), training=False))
        for index in (0, 5):
            alone = model(model.processor.collate([STRINGS[index]], keys(1), training=False))
            length = int(alone.extra["lengths"][0])
            assert int(together.extra["lengths"][index]) == length
            torch.testing.assert_close(together.logits[index, :length], alone.logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_empty_batches_reach_every_parameter(network: type[NeuralModel], options: dict[str, Any]) -> None:
    model = make(network, **options).train()
    output = model(model.processor.collate([], [], training=False))
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.predict([]) == []


def test_an_utterance_shorter_than_its_text_costs_nothing_and_spoils_nothing() -> None:
    model = make(Ctc, width=16)
    short = Utterance(STRINGS[0].samples[:400], 8_000, text="sa si sa si sa si")
    loss = model.train()(model.processor.collate([short], keys(1), training=True)).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())


def test_units_of_another_run_are_refused_in_training_and_left_out_in_judging() -> None:
    model = make(Ctc, width=16)
    odd = Utterance(STRINGS[0].samples, 8_000, text="sa zebra", id="a.wav")
    with pytest.raises(RecipeError, match=r"'a\.wav' has the word 'zebra'"):
        model.processor.collate([odd], keys(1), training=True)
    assert model.processor.collate([odd], keys(1), training=False)["target_lengths"].tolist() == [1]


def test_processors_survive_json_and_refuse_what_they_do_not_know() -> None:
    processor = make(Ctc, width=16, decoding={"search": "beam", "ngram": 2, "known_words": True}).processor
    assert RecognitionProcessor.from_json(json.loads(json.dumps(processor.as_json()))) == processor
    with pytest.raises(IntegrityError, match="does not describe a recogniser's processor"):
        RecognitionProcessor.from_json({"features": {}})


def test_units_write_what_they_read() -> None:
    characters = Units.of("characters", alphabet=[" ", "a", "b"], texts=[])
    assert characters.decode(characters.encode("ab ba")[0]) == "ab ba"
    assert characters.encode("axb") == ([2, 3], ["x"])
    words = Units.of("words", alphabet=[], texts=["two one", "one"])
    assert words.symbols == ("one", "two")
    assert words.decode([2, 0, 1, 1]) == "two one one"
    with pytest.raises(RecipeError, match="hold none"):
        Units.of("words", alphabet=[], texts=[""])


def test_a_conformer_is_what_its_parts_are_and_forgets_padding() -> None:
    torch.manual_seed(0)
    model = Conformer(16, inner=24, layers=2, heads=2, kernel=5, dropout=0.0).eval()
    states = torch.randn(2, 9, 16)
    together = model(states, torch.tensor([5, 9]))
    torch.testing.assert_close(together[0, :5], model(states[:1, :5], torch.tensor([5]))[0], atol=1e-5, rtol=1e-4)
    assert not together[0, 5:].any()


def test_conformer_weights_are_torchaudios() -> None:
    try:
        from torchaudio.models import Conformer as Reference
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio cannot be imported beside this torch: {str(error)[:60]}")
    theirs = Reference(16, num_heads=2, ffn_dim=24, num_layers=2, depthwise_conv_kernel_size=5).eval()
    ours = Conformer(16, inner=24, layers=2, heads=2, kernel=5, dropout=0.0).eval()
    ours.load_state_dict(theirs.state_dict())
    states, lengths = torch.randn(2, 9, 16), torch.tensor([9, 9])
    torch.testing.assert_close(ours(states, lengths), theirs(states, lengths)[0], atol=1e-5, rtol=1e-4)


# Speech as it arrives


@pytest.mark.parametrize("size", [1, 77, 400, 10_000])
def test_frames_in_pieces_are_the_frames_of_the_whole(size: int) -> None:
    features = Features(kind="log-mel", rate=8_000, mels=16, deltas=0, normalize="none")
    samples = STRINGS[0].samples[: 40 * min(size, 100)]
    stream = FrameStream(features)
    pieces = [stream.accept(samples[at : at + size], 8_000) for at in range(0, len(samples), size)]
    found = torch.cat([*pieces, stream.finish()])
    assert torch.equal(found, features.extract([Utterance(samples, 8_000)])[0])


@pytest.mark.parametrize("rate", [16_000, 11_025, 6_000])
def test_frames_of_samples_at_another_rate(rate: int) -> None:
    features = Features(kind="log-mel", rate=8_000, mels=16, deltas=0, normalize="none")
    samples = resample(STRINGS[0].samples, 8_000, rate)
    stream = FrameStream(features)
    pieces = [stream.accept(samples[at : at + 333], rate) for at in range(0, len(samples), 333)]
    found = torch.cat([*pieces, stream.finish()])
    torch.testing.assert_close(found, features.extract([Utterance(samples, rate)])[0], atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match="one input has one rate"):
        stream.accept(samples, 48_000)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (Ctc, {"width": 16}),
        (Ctc, {"width": 16, "decoding": {"search": "beam", "beam": 4, "ngram": 2}}),
        (RnnTransducer, {"width": 16, "prediction_width": 8}),
    ],
)
def test_following_ends_where_predicting_does(network: type[NeuralModel], options: dict[str, Any]) -> None:
    model = overfitted(network, direction="forward", **options)
    early = []
    for string in STRINGS[:3]:
        live = model.live()
        partial = [live.accept(piece).text for piece in audio_pieces(iter(cut(string)), rate=8_000)]
        final, whole = live.finish(), model.predict([string])[0]
        assert final.text == whole.text
        assert final.score == pytest.approx(whole.score, rel=1e-3, abs=1e-3)
        assert not partial[0]  # a sixteenth of a second holds no word
        early += partial
    assert any(early), "no word came before the end"


def cut(string: Utterance) -> list[tuple[Any, int]]:
    return [(string.samples[at : at + 500], string.rate) for at in range(0, len(string.samples), 500)]


def test_what_cannot_follow_says_so() -> None:
    with pytest.raises(InputError, match="direction=both needs the whole recording") as caught:
        make(Ctc, width=16).live()
    assert "model.direction=forward" in str(caught.value.hint)
    with pytest.raises(InputError, match="normalize=mean"):
        make(Ctc, width=16, direction="forward", normalize="mean").live()
    with pytest.raises(InputError, match="needs its whole input"):
        make(CtcConformer, **CONFORMER).live()


def test_pieces_of_files_and_pipes_are_the_same(tmp_path: Path) -> None:
    samples = np.round(STRINGS[0].samples * 32_767) / 32_768
    soundfile.write(tmp_path / "a.wav", samples, 8_000, subtype="PCM_16")
    whole = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    raw = (whole * 32_768).astype("<i2").tobytes()
    sources = [str(tmp_path / "a.wav"), io.BytesIO((tmp_path / "a.wav").read_bytes()), io.BytesIO(raw)]
    for source in sources:
        pieces = list(audio_pieces(source, rate=8_000))
        assert {rate for _, rate in pieces} == {8_000}
        assert np.array_equal(np.concatenate([each for each, _ in pieces]), whole)
    soundfile.write(tmp_path / "b.wav", samples, 8_000, subtype="PCM_24")
    with pytest.raises(InputError, match="samples of 24 bits"):
        list(audio_pieces(io.BytesIO((tmp_path / "b.wav").read_bytes()), rate=8_000))
    with pytest.raises(InputError, match="ends before its first sample"):
        list(audio_pieces(io.BytesIO((tmp_path / "a.wav").read_bytes()[:30]), rate=8_000))
    with pytest.raises(InputError, match="nowhere"):
        list(audio_pieces(str(tmp_path / "nowhere.wav"), rate=8_000))


# Strings


def test_strings_hold_their_words_where_they_say() -> None:
    words = synthetic_words()["test"]
    (first, *_) = made = word_strings(words, count=5, words_each=(2, 3), seed=3, gain=0.0)
    assert [each.utterance.samples.tobytes() for each in made] == [
        each.utterance.samples.tobytes() for each in word_strings(words, count=5, words_each=(2, 3), seed=3, gain=0.0)
    ]
    assert first.utterance.text == " ".join(span.unit for span in first.spans)
    for span in first.spans:
        start, end = round(span.start * 8_000), round(span.end * 8_000)
        own = first.utterance.samples[start:end]
        assert any(
            len(word.samples) == len(own) and np.corrcoef(word.samples, own)[0, 1] > 0.99
            for word in words
            if word.label == span.unit and word.speaker == first.utterance.speaker
        )
    gaps = [later.start - earlier.end for earlier, later in zip(first.spans, first.spans[1:], strict=False)]
    assert all(0 <= gap <= 0.12 for gap in gaps)
    with pytest.raises(DataError, match="labelled words of one sampling rate"):
        word_strings([], count=1, words_each=(1, 1), seed=0)
