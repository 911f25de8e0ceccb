"""Questions about texts: reading SQuAD, finding spans, and scores as the official script has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.errors import DataError, InputError
from plait.model import Key, Output
from plait.predictor import Predictor
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.demo_data import synthetic_facts
from plait_nlp.examples import TextSplit
from plait_nlp.question_answering.evaluation import AnswerEvaluator, exact_match, normalised, word_f1
from plait_nlp.question_answering.examples import Answer, AnswerPrediction, Candidate, Question
from plait_nlp.question_answering.head import span_scores
from plait_nlp.question_answering.overlap import OverlapOptions, SentenceOverlap, sentences_of
from plait_nlp.question_answering.task import AnsweringOptions, QuestionAnswering

CONTEXT = "Ann lives in Rome. The harbour of Oslo opened in 1842 😀, and Lee Mårten was there; Ann was not."
PROBLEM = {"objective": "question-answering", "unanswerable": True}


def squad(*qas: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    """A file of one article with one paragraph."""
    return {"version": "v2.0", "data": [{"title": "Oslo", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def asked(id_: str, text: str | None, start: int | None = None) -> dict[str, Any]:
    """A question with an answer at its place, or at another one, or without any."""
    if text is None:
        return {"id": id_, "question": f"is {id_} ?", "answers": [], "is_impossible": True}
    at = CONTEXT.index(text) if start is None else start
    return {"id": id_, "question": f"what is {id_} ?", "answers": [{"text": text, "answer_start": at}]}


def task(**options: Any) -> QuestionAnswering:
    """The task with some options."""
    return QuestionAnswering(options=AnsweringOptions(**options), seed=0)


def questions(source: Any, **options: Any) -> list[Question]:
    """The examples of a source that is not divided."""
    splits = task(split="random", test_fraction=0, valid_fraction=0, **options).read(source)
    return [splits.train[index] for index in range(len(splits.train or ()))]  # type: ignore[index]  # there is one


# Reading


def test_squad_files_and_tables_hold_the_same(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(squad(asked("a", "Rome"), asked("b", None))), encoding="utf-8")
    found = questions(path)
    assert [(each.id, each.answers, each.article) for each in found] == [
        ("a", (Answer(13, "Rome"),), "Oslo"),
        ("b", (), "Oslo"),
    ]
    rows = [
        {"id": "a", "question": "q", "context": CONTEXT, "answers": {"text": ["Rome"], "answer_start": [13]}},
        {"id": "a", "question": "q", "context": CONTEXT, "answers": [{"text": "Rome", "answer_start": 13}]},
        {"id": "a", "question": "q", "context": CONTEXT, "answer": "Rome", "answer_start": 13},
        {"id": "a", "question": "q", "context": CONTEXT, "answer": "Rome"},  # it occurs once
    ]
    table = tmp_path / "some.jsonl"
    table.write_text("\n".join(json.dumps(rows[0] | {"id": str(number)}) for number in range(3)), encoding="utf-8")
    assert all(each.answers == (Answer(13, "Rome"),) for each in questions(table))
    for row in rows:
        assert questions([row])[0].answers == (Answer(13, "Rome"),)


def test_answers_that_are_not_where_they_should_be_are_named_with_file_and_question(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    wrong = [asked("good", "Rome"), asked("early", "Rome", 12), asked("twice", "Ann", 5), asked("far", "Lee", 9999)]
    wrong.append({"id": "none", "question": "why ?"})
    path.write_text(json.dumps(squad(*wrong)), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        task().read(path)
    message = str(caught.value)
    assert message.startswith("4 of 5 questions cannot be used")
    assert f"{path} (question early) has an answer 'Rome' that is not at character 12" in message
    assert "it occurs at 13" in message
    assert f"{path} (question twice)" in message
    assert f"it occurs at 0, {CONTEXT.rindex('Ann')}" in message
    assert f"the context has {len(CONTEXT)} characters" in message
    assert f"{path} (question none) has no answers" in message
    assert [each.id for each in questions(path, on_error="skip")] == ["good"]


def test_what_is_no_squad_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    for text, said in (
        ('{"data": [\n{"title": 3,}]}', r"bad.json:2: not JSON"),
        ("[]", "the file has no list 'data'"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', r"data\[0\].paragraphs\[0\] has no text 'context'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            task().read(path)


def test_no_article_is_in_two_splits() -> None:
    rows = synthetic_facts()
    splits = task().read(rows)
    articles = [{each.article for each in splits[name]} for name in splits.names()]  # type: ignore[union-attr]
    assert [len(part) for part in articles] == [108, 12, 30]
    assert not articles[0] & articles[1] | articles[1] & articles[2] | articles[0] & articles[2]
    bare = [{key: value for key, value in row.items() if key != "title"} for row in rows]
    assert not any("context that train has" in note for note in task().read(bare).notes)
    assert any("context that train has" in note for note in task(split="random").read(rows).notes)
    train = task().read({"train": rows[:400], "test": rows[400:]})
    assert not {each.article for each in train.train or ()} & {each.article for each in train.valid or ()}  # type: ignore[attr-defined]  # a TextSplit


# Judging


def test_normalisation_and_scores_follow_the_official_script() -> None:
    assert normalised("The  U.S.A., an   idea!") == "usa idea"
    assert exact_match("a Cat", ["dogs", "the cat."]) == 1
    assert word_f1("the big red cat", ["red cat", "nothing"]) == pytest.approx(0.8)
    assert word_f1("", []) == exact_match("", []) == 1
    assert word_f1("cat", []) == word_f1("", ["cat"]) == 0
    assert word_f1("cat cat", ["cat"]) == pytest.approx(2 / 3)


def official(answer: str, right: list[str]) -> tuple[float, float]:
    """Exact match and F1, as evaluate-v2.0.py writes them out."""
    import collections
    import re
    import string

    def normal(text: str) -> str:
        text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
        return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text).split())

    def f1(gold: str, found: str) -> float:
        one, other = normal(gold).split(), normal(found).split()
        same = sum((collections.Counter(one) & collections.Counter(other)).values())
        if len(one) == 0 or len(other) == 0:
            return float(one == other)
        if same == 0:
            return 0.0
        precision, recall = same / len(other), same / len(one)
        return 2 * precision * recall / (precision + recall)

    golds = [each for each in right if normal(each)] or [""]
    return max(float(normal(gold) == normal(answer)) for gold in golds), max(f1(gold, answer) for gold in golds)


PHRASES = st.lists(
    st.sampled_from(["the", "A", "cat", "Cat.", "an", "dog", "--", "it's", "é", "\u00a0", "1842"]), max_size=5
)


@given(PHRASES.map(" ".join), st.lists(PHRASES.map(" ".join), max_size=3))
def test_scores_equal_the_official_ones(answer: str, right: list[str]) -> None:
    assert (exact_match(answer, right), word_f1(answer, right)) == pytest.approx(official(answer, right))


def predicted(text: str, surplus: float, threshold: float = 0.0) -> AnswerPrediction:
    """A prediction of a model that knows of no answer."""
    return AnswerPrediction([Candidate(Answer(0, text), 1.0, 0.5)], surplus <= threshold, 0.5, surplus)


def test_the_best_threshold_for_no_answer_is_what_trying_all_finds() -> None:
    generator = np.random.default_rng(0)
    examples = [Question("q", "x y", (Answer(0, "x"),) if generator.random() < 0.5 else (), str(n)) for n in range(40)]
    surpluses = generator.normal(size=40).round(1) - np.array([1.0 if each.answers else 0 for each in examples])
    guesses = [str(each) for each in generator.choice(["x", "y"], size=40)]
    evaluator = AnswerEvaluator()
    evaluator.update([predicted(*each) for each in zip(guesses, surpluses.tolist(), strict=True)], examples)
    details = evaluator.details()

    def at(threshold: float) -> float:
        other = AnswerEvaluator()
        rows = zip(guesses, surpluses.tolist(), strict=True)
        other.update([predicted(text, surplus, threshold) for text, surplus in rows], examples)
        return other.compute()["f1"]

    tried = [at(float(each)) for each in (*np.unique(surpluses), surpluses.min() - 1)]
    assert details["f1_at_best_threshold"] == pytest.approx(max(tried))
    assert at(details["best_threshold"]) == pytest.approx(max(tried))
    assert set(evaluator.compute()) == {"f1", "exact_match", "f1_answerable", "f1_unanswerable"}
    assert evaluator.sections()[0].title == "Kinds of questions"


# Spans


def test_spans_are_scored_as_every_pair_written_out() -> None:
    logits = torch.randn(3, 9, 2)
    lead, size = torch.tensor([2, 4, 3]), torch.tensor([5, 2, 0])
    found, nothing = span_scores(logits, lead, size, longest=3)
    torch.testing.assert_close(nothing, logits[:, 0, 0] + logits[:, 0, 1])
    for row in range(3):
        inside = range(int(lead[row]), int(lead[row] + size[row]))
        for further in range(3):
            for first in range(9):
                allowed = first in inside and first + further in inside
                if allowed:
                    expected = logits[row, first, 0] + logits[row, first + further, 1]
                    assert float(found[row, further, first]) == pytest.approx(float(expected))
                else:
                    assert float(found[row, further, first]) < -1e8


def reader(kind: str = "wordpiece", **options: Any) -> TransformersModel:
    """A tiny network that is not fitted."""
    sizes: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "vocabulary": 300}
    made = TransformersOptions(name="transformers/bert", tokenizer=kind, **{**sizes, "max_length": 32, **options})
    train = TextSplit(
        [Question("where does Ann live ?", CONTEXT, (Answer(13, "Rome"),), "a"), Question("?", "b", (), "b")]
    )
    return TransformersModel.create(options=made, problem=PROBLEM, train=train, seed=0)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "char"])
def test_a_network_that_knows_the_answer_is_decoded_to_its_characters(kind: str) -> None:
    made = reader(kind, max_length=28 if kind == "wordpiece" else 40, answers={"overlap": 12, "longest": 20})
    for text in ("Rome", "Lee Mårten", "1842", "Ann was not"):
        start = CONTEXT.rindex(text)
        question = Question("where ?", CONTEXT, (Answer(start, text),), text)
        batch = made.processor.collate([question], [Key(0, 0, 0)], training=False)
        targets = batch["target"].reshape(-1, 2)[: len(batch.extra["windows"])]
        assert len(targets) > 1
        assert (targets.sum(dim=1) > 0).any()  # some row holds the whole answer
        length = batch["input_ids"].shape[2]
        logits = torch.nn.functional.one_hot(targets, length).transpose(1, 2).float() * 10
        found = made.decode(Output(None, logits), batch)[0]
        best = found.best[0].answer
        assert (best.start, best.text) == (start, text)
        assert CONTEXT[best.start : best.end] == text


def test_units_are_rows_and_all_rows_of_a_question_are_answered_together() -> None:
    made = reader()
    train = TextSplit([Question("where ?", CONTEXT * 4, (Answer(13, "Rome"),), "a"), Question("?", "b", (), "b")])
    units = made.processor.units(train)
    assert [(each.example.id, each.row) for each in units][-1] == ("b", 0)
    assert len(units) > 4
    keys = [Key(0, 0, index) for index in range(len(units))]
    batch = made.processor.collate(list(units), keys, training=True)
    assert batch.count == batch.size == len(units)
    targets = batch["target"].reshape(-1, 2)
    assert (
        0 < int((targets.sum(dim=1) > 0).sum()) < len(units) - 1
    )  # rows without the answer point at their first token
    empty = made.processor.collate([], [], training=False)
    assert made.forward(empty).loss is None
    assert made.decode(made.forward(empty), empty) == []


def test_long_and_strange_texts_are_read_whole() -> None:
    made = reader()
    cases = [Question("where ? " * 500, CONTEXT * 300), Question("\x07", "\x07"), Question("ما", "بيت a\ud800b 😀")]
    found = made.predict(cases)
    for case, each in zip(cases, found, strict=True):
        for candidate in each.best:
            answer = candidate.answer
            assert case.context[answer.start : answer.end] == answer.text
        assert 0 <= (each.no_answer or 0) <= 1
    assert found[1].best == []
    assert not found[1].answered


def test_the_threshold_of_no_answer_may_be_changed_afterwards(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "name": "transformers/bert",
        "hidden": 16,
        "layers": 1,
        "intermediate": 32,
        "vocabulary": 200,
    }
    output = {"baselines": False, "tensorboard": False, "report": False}
    data = {"source": "synthetic-facts", "limit": 24}
    run = plait.train(
        "nlp/question-answering", options, data, out=tmp_path / "run", trainer={"epochs": 1}, output=output
    )
    given = {"question": "where does Ann live ?", "context": "Ann lives in Rome ."}
    for threshold in (1e6, -1e6):
        predictor = plait.load(run.path, options={"answers": {"no_answer": threshold}})
        assert isinstance(predictor, Predictor)
        answer = predictor(given)
        assert bool(answer.prediction["answer"]) == (threshold > 0)
        assert answer.outputs["answer"] == answer.prediction["answer"]
        assert set(answer.scores or ()) == {"answer", "no_answer"}
        if threshold > 0:
            start, end = answer.prediction["start"], answer.prediction["end"]
            assert given["context"][start:end] == answer.prediction["answer"]
    for wrong in ({"question": "a"}, {"question": "", "context": "b"}, {"question": 1, "context": "b"}, "a"):
        with pytest.raises(InputError):
            predictor(wrong)


# The baseline


def test_sentences_end_where_they_should() -> None:
    text = 'It is 3.5 m. "Why?" she said.  So\nbe it'
    assert [text[start:end] for start, end in sentences_of(text)] == [
        "It is 3.5 m.",
        '"Why?"',
        "she said.",
        "So",
        "be it",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"), [("words", "in 1842 😀"), ("sentence", None), ("first", "Ann lives in Rome.")]
)
def test_the_overlap_finds_the_sentence(kind: str, expected: str | None) -> None:
    options = OverlapOptions.model_validate({"name": "nlp/sentence-overlap", "answer": kind, "longest": 2})
    made = SentenceOverlap.create(options=options, problem=PROBLEM, train=None, seed=0)
    question = Question("when was the harbour of Oslo opened ?", CONTEXT, ())
    found = made.predict([question])[0].best[0].answer
    assert CONTEXT[found.start : found.end] == found.text
    if kind == "words":
        assert set(found.text.split()) <= {"in", "1842", "and", "Lee", "Mårten", "was", "there", "😀,", "Ann"}
        assert "harbour" not in found.text
    else:
        assert found.text == (expected or CONTEXT[CONTEXT.index("The") :])
