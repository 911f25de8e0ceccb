"""When is each word said? Alignments through the life cycle, by both models, and what becomes of bad input."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hmm_examples import train_hmm
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.errors import DataError, InputError
from plait.figures import GREY
from plait_speech.alignment.ctc import ctc_align
from plait_speech.alignment.demo_data import aligned_strings
from plait_speech.alignment.evaluation import AlignmentEvaluator
from plait_speech.alignment.picture import alignment_picture
from plait_speech.alignment.spans import Alignment, read_alignment
from plait_speech.alignment.task import AlignmentOptions, SpeechAlignment
from plait_speech.audio import Utterance
from plait_speech.hmm.aligner import HmmAligner
from plait_speech.hmm.network import NetworkOptions
from plait_speech.strings import Span

TASK = SpeechAlignment(options=AlignmentOptions(), seed=0)
PROBLEM = {"spelling": {"case": "lower", "punctuation": "remove"}, "rate": 8000}


@pytest.fixture(scope="module")
def aligner() -> HmmAligner:
    options = NetworkOptions(name="speech/hmm-alignment", states=4, mixtures=1)
    found: HmmAligner = train_hmm(HmmAligner, options, aligned_strings()["train"][:160], problem=PROBLEM)
    return found


def judged(model: Any, examples: list[Utterance]) -> AlignmentEvaluator:
    evaluator = AlignmentEvaluator()
    evaluator.update(model.predict(examples), examples)
    return evaluator


def test_words_are_found_where_they_were_put_though_nobody_said_where(aligner: HmmAligner) -> None:
    metrics = judged(aligner, aligned_strings()["test"]).compute()
    assert metrics["boundary_error"] < 25
    assert metrics["within_50ms"] > 0.9
    assert metrics["aligned"] == 1
    assert metrics["log_likelihood"] < 0


def test_an_alignment_is_in_order_inside_the_recording_and_its_states_go_forward(aligner: HmmAligner) -> None:
    for example, found in zip(aligned_strings()["test"], aligner.predict(aligned_strings()["test"]), strict=True):
        assert [span.unit for span in found.spans] == str(example.text).split()
        edges = [edge for span in found.spans for edge in (span.start, span.end)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= example.seconds + 1e-6
        for state, _ in groupby(found.states):
            assert state is None or 0 <= state < 4


def test_what_cannot_be_aligned_says_why_and_spoils_nothing_else(aligner: HmmAligner) -> None:
    good = aligned_strings()["test"][0]
    short = replace(good, samples=good.samples[:400], id="short.wav", text="sa si ahu", more={})
    strange = replace(good, id="strange.wav", text="ese tomato")
    answers = aligner.predict([strange, good, short, replace(good, text=None, id="mute.wav")])
    assert answers[1] == aligner.predict([good])[0]
    assert "strange.wav: the model never heard the word 'tomato'" in answers[0].fault
    assert "short.wav of 0.05 s has 3 frames, and 3 words take at least 9" in answers[2].fault
    assert "mute.wav has no transcript" in answers[3].fault
    assert TASK.present(answers[0], PROBLEM).error == answers[0].fault
    evaluator = AlignmentEvaluator()
    times = tuple(Span(word, 0.01 * index, 0.01 * index + 0.01) for index, word in enumerate(("sa", "si", "ahu")))
    evaluator.update(answers[2:3], [replace(short, more={"alignment": times})])
    assert evaluator.compute()["aligned"] == 0
    assert evaluator.compute()["boundary_error"] == pytest.approx(50)  # as long as the utterance


def test_the_metrics_are_those_of_the_definition() -> None:
    example = Utterance(np.zeros(8000, np.float32), 8000, id="one", text="a b", more={
        "alignment": (Span("a", 0.1, 0.2), Span("b", 0.3, 0.5))})  # fmt: skip
    other = replace(example, id="two", more={})
    evaluator = AlignmentEvaluator()
    found = Alignment((Span("a", 0.11, 0.2), Span("b", 0.34, 0.57)), -2.0)
    evaluator.update([found, found], [example, other])
    assert evaluator.compute() == pytest.approx(
        {"boundary_error": 30, "within_20ms": 0.5, "within_50ms": 0.75, "aligned": 1, "log_likelihood": -2}
    )
    assert evaluator.measure(evaluator.table(), np.array([[1.0, 5.0]])) == pytest.approx([30])
    assert [section.title for section in evaluator.sections()] == ["Worst utterances", "An alignment"]
    with pytest.raises(DataError, match="two: its alignment has 1 units, and its transcript 2 words"):
        evaluator.update([found], [replace(other, more={"alignment": (Span("a", 0, 1),)})])
    assert np.isnan(judged_alone(other, found).compute()["boundary_error"])


def judged_alone(example: Utterance, found: Alignment) -> AlignmentEvaluator:
    evaluator = AlignmentEvaluator()
    evaluator.update([found], [example])
    return evaluator


def test_the_picture_names_the_words_and_dashes_the_reference(aligner: HmmAligner) -> None:
    example = aligned_strings()["test"][0]
    (found,) = aligner.predict([example])
    picture = alignment_picture(example, found).decode()
    assert picture.startswith("<svg")
    assert "state of the word" in picture
    assert all(f">{span.unit}<" in picture for span in found.spans)
    assert picture.count(f"stroke: {GREY}") > alignment_picture(replace(example, more={}), found).decode().count(
        f"stroke: {GREY}"
    )
    assert "state of the word" not in alignment_picture(example, replace(found, states=())).decode()


@pytest.mark.parametrize(
    "cell", [[{"unit": "a", "start": 0, "end": 0.5}, {"unit": "b", "start": 0.5, "end": 1}],
             [["a", 0, 0.5], ("b", 0.5, 1)], '[["a", 0, 0.5], ["b", 0.5, 1]]'],
)  # fmt: skip
def test_reference_times_are_read_from_cells_of_any_kind(cell: Any) -> None:
    assert read_alignment(cell) == (Span("a", 0, 0.5), Span("b", 0.5, 1))
    assert read_alignment(None) is None


@pytest.mark.parametrize("cell", ["soon", "{}", [["a", 0]], [["a", 1, 0]], [["a", 0, 2], ["b", 1, 3]], [["a", 0, None]],
                                  [["a", 0, float("nan")]], 7])  # fmt: skip
def test_reference_times_that_are_none_say_what_was_expected(cell: Any) -> None:
    with pytest.raises(ValueError, match="expected a list of"):
        read_alignment(cell)


def test_a_table_with_times_is_read_and_a_prediction_takes_a_file_and_its_text(
    tmp_path: Path, aligner: HmmAligner
) -> None:
    lines = []
    for index, each in enumerate(aligned_strings()["test"][:6]):
        soundfile.write(tmp_path / f"{index}.wav", each.samples, 8000)
        lines.append(
            f"{index}.wav;{str(each.text).upper()}!;{[[s.unit, s.start, s.end] for s in each.more['alignment']]}"
        )
    rows = [line.replace("'", '""') for line in lines]
    cells = [[f'"{cell}"' for cell in row.split(";")] for row in rows]
    (tmp_path / "strings.csv").write_text("audio,text,alignment\n" + "\n".join(",".join(row) for row in cells))
    splits = TASK.read({"test": tmp_path / "strings.csv"}, {**PROBLEM, "alphabet": [], "closed": False})
    assert splits.test is not None
    assert splits.test[0].text == aligned_strings()["test"][0].text
    assert judged(aligner, [splits.test[index] for index in range(6)]).compute()["boundary_error"] < 40
    parsed = TASK.parse({"audio": tmp_path / "0.wav", "text": lines[0].split(";")[1]}, PROBLEM)
    answer = TASK.present(aligner.predict([parsed])[0], PROBLEM)
    assert [each["unit"] for each in answer.prediction] == str(aligned_strings()["test"][0].text).split()
    assert answer.outputs["alignment"] == answer.prediction


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"audio": "a.wav"}, "'text' is missing"), ({"audio": "a.wav", "txt": "a"}, "no input 'txt'"),
     ({"audio": "a.wav", "text": 3}, "text is int"), ({"audio": "a.wav", "text": " ?! "}, "no word")],
)  # fmt: skip
def test_wrong_inputs_are_named(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TASK.parse(inputs, PROBLEM)


def test_the_report_of_a_run_pictures_an_alignment(tmp_path: Path) -> None:
    parts = aligned_strings()
    run = plait.train(
        "speech/alignment", model={"name": "speech/hmm-alignment", "states": 3, "mixtures": 1, "step": 0.02},
        data={"train": parts["train"][:80], "test": parts["test"][:20]}, out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics["test"]["boundary_error"] < 60
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "An alignment" in page
    assert "Worst utterances" in page


# CTC


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.lists(st.integers(1, 2), max_size=4), st.integers(0, 999))
def test_a_ctc_path_is_the_best_of_all_paths(count: int, targets: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 3))
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))

    def read(path: tuple[int, ...]) -> list[int]:
        return [unit for unit, _ in groupby(path) if unit]

    totals = {path: sum(rows[range(count), path]) for path in product(range(3), repeat=count) if read(path) == targets}
    found = ctc_align(rows, targets)
    if not totals:
        assert found.log_probability == -np.inf
        assert (found.places == -1).all()
        return
    assert found.log_probability == pytest.approx(max(totals.values()))
    symbols = tuple(targets[place] if place >= 0 else 0 for place in found.places)
    assert totals[symbols] == pytest.approx(found.log_probability)
    assert [place for place, _ in groupby(found.places) if place >= 0] == list(range(len(targets)))
    assert all(first < after for first, after in found.spans(len(targets)))


def test_a_blank_or_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match="target 0 is blank"):
        ctc_align(np.zeros((3, 2)), [1, 0])
    with pytest.raises(ValueError, match="target 5"):
        ctc_align(np.zeros((3, 2)), [5])


def test_a_network_that_writes_also_aligns(tmp_path: Path) -> None:
    parts = aligned_strings()
    run = plait.train(
        "speech/alignment", model={"name": "speech/ctc-alignment", "width": 24, "mels": 16, "units": "words"},
        data={"train": parts["train"], "test": parts["test"][:20]}, trainer={"epochs": 5}, out=tmp_path / "run",
        output={"report": False, "tensorboard": False},
    )  # fmt: skip
    assert run.metrics["test"]["aligned"] == 1
    assert run.metrics["test"]["boundary_error"] < 150
    example = parts["test"][0]
    answer = plait.load(run.path)({"audio": (example.samples, 8000), "text": example.text})
    assert [each["unit"] for each in answer.prediction] == str(example.text).split()
