"""Reading transcripts, judging them, and the way of a user through the task `speech/recognition`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import tone

import plait
from plait.cli import main
from plait.errors import DataError, InputError, RunError
from plait_speech.audio import Utterance
from plait_speech.recognition.evaluation import TranscriptEvaluator, aligned
from plait_speech.recognition.task import RecognitionOptions, SpeechRecognition
from plait_speech.recognition.transcripts import Spelling, Transcript
from plait_speech.strings import synthetic_strings


def task(**options: Any) -> SpeechRecognition:
    return SpeechRecognition(options=RecognitionOptions(**options), seed=0)


def folder(path: Path, texts: dict[str, str]) -> Path:
    for number, (name, text) in enumerate(texts.items()):
        file = path / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, tone(frequency=200 + 20 * number), 8_000)
        file.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


# Reading


def test_transcripts_are_spelt_alike_and_their_characters_are_the_alphabet(tmp_path: Path) -> None:
    source = folder(tmp_path, {"train/a": "Don't  STOP!", "train/b": "well-known, \u201cyes\u201d", "test/c": "stop"})
    splits = task(split="given").read(source)
    assert splits.train is not None
    assert sorted(each.text for each in splits.train) == ["don't stop", "well-known yes"]
    problem = task(split="given").problem(splits)
    assert "".join(problem["alphabet"]) == " '-deklnopstwy"
    assert problem["spelling"] == {"case": "lower", "punctuation": "remove"}
    kept = task(split="given", case="keep", punctuation="keep").read(source)
    assert sorted(each.text for each in kept.train or []) == ["Don't STOP!", "well-known, \u201cyes\u201d"]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_spelling_is_settled_after_once(text: str) -> None:
    spelling = Spelling()
    assert spelling.of(spelling.of(text)) == spelling.of(text)


def test_a_character_outside_the_alphabet_is_named_with_file_and_place(tmp_path: Path) -> None:
    source = folder(tmp_path, {"train/a": "abba", "train/b": "ab stra\u00dfe", "test/c": "ab"})
    with pytest.raises(DataError, match=r"b\.wav has '\u00df' at character 8 of its transcript") as caught:
        task(split="given", alphabet=" abrste").read(source)
    assert "data.on_error=skip" in str(caught.value.hint)
    splits = task(split="given", alphabet=" abrste", on_error="skip").read(source)
    assert [each.text for each in splits.train or []] == ["abba"]
    assert any("skipped 1 of 3" in note for note in splits.notes)
    with pytest.raises(ValueError, match="'a' twice"):
        RecognitionOptions(alphabet="aba")


def test_characters_that_only_the_test_has_are_noted_and_count_as_errors(tmp_path: Path) -> None:
    source = folder(tmp_path, {"train/a": "ab", "train/b": "ba", "test/c": "ab xa"})
    one = task(split="given")
    splits = one.read(source)
    (note,) = [each for each in splits.notes if "training lacks" in each]
    assert "first ' ' at character 3 of test/c" in note
    again = one.read(source, one.problem(splits))
    assert [each.text for each in again.test or []] == ["ab xa"]


def test_a_trained_alphabet_that_was_given_holds_for_other_data(tmp_path: Path) -> None:
    one = task(split="given", alphabet=" ab")
    problem = one.problem(one.read(folder(tmp_path / "first", {"train/a": "ab", "train/b": "ba", "test/c": "ab"})))
    with pytest.raises(DataError, match="has 'c' at character 2"):
        one.read(folder(tmp_path / "other", {"test/a": "ac"}), problem)


# Judging


def judged(*pairs: tuple[str, str]) -> TranscriptEvaluator:
    evaluator = TranscriptEvaluator()
    examples = [Utterance(tone(), 8_000, id=str(place), text=target) for place, (target, _) in enumerate(pairs)]
    evaluator.update([Transcript(found) for _, found in pairs], examples)
    return evaluator


def test_errors_are_counted_by_kind() -> None:
    evaluator = judged(("a b c", "a x c"), ("a b", "a"), ("a", "a b c"), ("a b", "a b"))
    metrics = evaluator.compute()
    assert metrics["wer"] == pytest.approx(4 / 8)
    assert metrics["substitutions"] == metrics["deletions"] == pytest.approx(1 / 8)
    assert metrics["insertions"] == pytest.approx(2 / 8)
    assert metrics["sentence_error_rate"] == pytest.approx(3 / 4)
    assert metrics["cer"] == pytest.approx((1 + 2 + 4) / (5 + 3 + 1 + 3))


def test_empty_targets_and_empty_predictions() -> None:
    assert judged(("", ""), ("", "")).compute()["wer"] == 0
    assert judged(("", "a b")).compute()["wer"] == 2  # two insertions, by one
    assert judged(("a b", ""), ("", "")).compute()["wer"] == 1
    assert TranscriptEvaluator().compute() == {}
    with pytest.raises(DataError, match="has no transcript"):
        TranscriptEvaluator().update([Transcript("a")], [Utterance(tone(), 8_000, id="x")])


def levenshtein(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for number, left in enumerate(one, start=1):
        before, row[0] = row[0], number
        for place, right in enumerate(other, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (left != right))
    return row[-1]


TEXT = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_weighted_error_rate_is_that_of_the_repeated_utterances(pairs: list[tuple[str, str]]) -> None:
    evaluator = judged(*pairs)
    table = evaluator.table()
    assert table["errors"].to_pylist() == [levenshtein(one.split(), other.split()) for one, other in pairs]
    weights = np.array([[place % 3 for place in range(len(pairs))]], float)
    repeated = [pair for place, pair in enumerate(pairs) for _ in range(place % 3)]
    if repeated:
        expected = judged(*repeated).compute()["wer"]
        assert float(evaluator.measure(table, weights)[0]) == pytest.approx(expected)


def test_the_report_shows_the_worst_utterances_and_what_is_confused() -> None:
    evaluator = judged(("a b c", "a x c"), ("b a", "x a"), ("a", "a"), ("c", ""))
    titles = {section.title: section for section in evaluator.sections()}
    assert titles["Most frequent confusions"].table is not None
    assert titles["Most frequent confusions"].table.rows[0] == ("b", "x", 2)
    assert titles["Worst utterances"].table is not None
    assert ("0", 1, 3, "a [b] c", "a [x] c") in titles["Worst utterances"].table.rows
    assert aligned("c", "") == [("c", None)]
    assert evaluator.details()["errors"] == 3
    assert evaluator.speed(0.8) == {"real_time_factor": pytest.approx(1.0)}  # four tones of 0.2 s


# The way of a user


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return plait.train(
        "speech/recognition",
        {"name": "speech/ctc", "units": "words", "width": 32, "mels": 16, "direction": "forward", "augment": "none",
         "decoding": {"ngram": 2}},
        {"source": "synthetic-strings", "limit": 200, "valid_fraction": 0.0, "split": "given"},
        trainer={"epochs": 8, "batch_size": 8, "learning_rate": 0.006}, engine={"threads": 1},
        output={"tensorboard": False}, out=tmp_path_factory.mktemp("runs") / "run",
    )  # fmt: skip


def test_a_run_writes_what_it_hears_and_says_what_it_does_not_use(run: Any) -> None:
    assert run.metrics["test"]["wer"] < 0.9
    assert any("greedy search uses no language model" in note for note in run.info["notes"])
    predictor = plait.load(run.path)
    (found,) = predictor.predict([synthetic_strings()["test"][0]])
    assert found.outputs == {"text": found.prediction}


def test_decoding_may_be_changed_without_fitting_again(run: Any) -> None:
    greedy = plait.load(run.path)
    beam = plait.load(run.path, options={"decoding": {"search": "beam", "beam": 4, "language_weight": 2.0}})
    inputs = synthetic_strings()["test"][:10]
    one, other = greedy.predict(inputs), beam.predict(inputs)
    assert [each.scores for each in one] != [each.scores for each in other]
    found = plait.evaluate(run, options={"decoding": {"search": "beam"}})
    assert found.metrics["wer"] <= run.metrics["test"]["wer"] + 0.05
    assert found.speed["real_time_factor"] > 0
    with pytest.raises(RunError, match=r"model\.decoding\.ngram of a fitted speech/ctc is as it was fitted") as caught:
        plait.load(run.path, options={"decoding": {"ngram": 3}})
    assert "model.decoding.beam" in str(caught.value.hint)
    with pytest.raises(RunError, match=r"model\.decoding\.beam: Input should be greater"):
        plait.load(run.path, options={"decoding": {"beam": 0}})


def test_speech_is_followed_on_the_command_line(
    run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    string = synthetic_strings()["test"][1]
    soundfile.write(tmp_path / "a.wav", string.samples, 8_000, subtype="PCM_16")
    assert main(["predict", str(run.path), str(tmp_path / "a.wav")]) == 0
    whole = capfd.readouterr().out.splitlines()[-1].split("\t")[1]
    assert main(["predict", str(run.path), "--live", str(tmp_path / "a.wav")]) == 0
    *partial, final = capfd.readouterr().out.splitlines()
    assert final.split("\t")[1] == whole
    assert all(" ...\t" in line for line in partial)
    piped = io.TextIOWrapper(io.BytesIO((tmp_path / "a.wav").read_bytes()))
    monkeypatch.setattr("sys.stdin", piped)
    words = ["predict", str(run.path), "--live", "-", "--jsonl", "--set", "model.decoding.search=beam"]
    assert main(words) == 0
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert set(document) == {"input", "prediction", "scores"}
    assert main(["predict", str(run.path), "x.wav", "--live", "y.wav"]) == 2
    assert "--live takes one input as it arrives" in capfd.readouterr().err


def test_a_predictor_that_needs_the_whole_says_so(run: Any) -> None:
    from plait_speech.recognition.task import SpeechRecognition

    predictor = plait.load(run.path)
    with pytest.raises(InputError, match=r"nowhere\.wav no such file"):
        list(predictor.live("nowhere.wav"))
    assert isinstance(predictor.artifact.task, SpeechRecognition)
    answers = list(predictor.live(iter([(tone(), 8_000)])))
    assert len(answers) == 2  # one piece, and the end
