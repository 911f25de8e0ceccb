"""BLEU, chrF and ROUGE, beside the packages that define them, and under example weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from plait.bootstrap import interval
from plait.engine.local import LocalEngine
from plait.errors import DataError
from plait.options import EngineOptions
from plait_nlp.sequence_to_sequence.bleu import TranslationEvaluator
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText
from plait_nlp.sequence_to_sequence.rouge import SummaryEvaluator, longest_common, rouge, rouge_tokens

WORDS = st.sampled_from(["the", "a", "small", "old", "cat", "dog", "sat", "ran", "on", "mat", ",", ".", "12"])
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)
REFERENCES = st.lists(st.lists(WORDS, min_size=1, max_size=9).map(" ".join), min_size=1, max_size=3)


def judged(evaluator: Any, written: Sequence[str], references: Sequence[Sequence[str]], first: int = 0) -> Any:
    """The evaluator, once it has seen texts and references."""
    examples = [
        SequenceExample("source", None, tuple(each), f"{first + index}") for index, each in enumerate(references)
    ]
    evaluator.update([WrittenText(text) for text in written], examples)
    return evaluator


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, REFERENCES), min_size=1, max_size=6))
def test_bleu_and_chrf_are_sacrebleus(rows: list[tuple[str, list[str]]]) -> None:
    written, references = [row[0] for row in rows], [row[1] for row in rows]
    most = max(map(len, references))
    streams = [[each[index] if index < len(each) else None for each in references] for index in range(most)]
    evaluator = judged(TranslationEvaluator(), written, references)
    found, metric = evaluator.compute(), BLEU()
    assert found["bleu"] == pytest.approx(metric.corpus_score(written, streams).score, abs=1e-9)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(written, streams).score, abs=1e-9)
    assert evaluator.details()["signatures"]["bleu"] == str(metric.get_signature())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, REFERENCES, st.integers(0, 3)), min_size=1, max_size=5))
def test_a_weight_is_as_many_copies_of_an_example(rows: list[tuple[str, list[str], int]]) -> None:
    weights = np.array([[row[2] for row in rows]], float)
    copies = [row for row in rows for _ in range(row[2])]
    for evaluator in (TranslationEvaluator, SummaryEvaluator):
        if not copies:
            continue
        once = judged(evaluator(), [row[0] for row in rows], [row[1] for row in rows])
        often = judged(evaluator(), [row[0] for row in copies], [row[1] for row in copies])
        name = once.primary.name
        assert once.measure(once.table(), weights)[0] == pytest.approx(often.compute()[name], abs=1e-9)


def test_parts_that_are_joined_give_the_numbers_of_the_whole() -> None:
    written = ["the cat sat on the mat", "a dog ran", "old cat"]
    references = [["the cat sat on a mat"], ["the dog ran", "a dog was running"], ["small cat"]]
    whole = judged(TranslationEvaluator(), written, references)
    parts = judged(judged(TranslationEvaluator(), written[:1], references[:1]), written[1:], references[1:], first=1)
    parts.reduce(LocalEngine(EngineOptions(device="cpu")))
    assert parts.table().equals(whole.table())
    assert parts.compute() == whole.compute()
    low_high = interval(whole.measure, whole.table(), replicates=50)
    assert low_high.low <= whole.compute()["bleu"] <= low_high.high


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for row, left in enumerate(one, 1):
        for column, right in enumerate(other, 1):
            best = max(table[row - 1, column], table[row, column - 1])
            table[row, column] = table[row - 1, column - 1] + 1 if left == right else best
    assert longest_common(one, other) == table[-1, -1]


def test_rouge_is_that_of_rouge_score() -> None:
    """Numbers of rouge-score 0.1.2 (`RougeScorer(["rouge1", "rouge2", "rougeL"])`), which brings nltk along."""
    reference = "Police killed the gunman, who had been seen near the old harbour at 7.30."
    cases = {
        "The gunman was killed by police near the harbour": (14 / 24, 4 / 22, 10 / 24),
        "police killed the gunman who was at the harbour": (16 / 24, 8 / 22, 14 / 24),
        "": (0.0, 0.0, 0.0),
    }
    for text, wanted in cases.items():
        assert rouge(rouge_tokens(text), rouge_tokens(reference)) == pytest.approx(wanted)


def test_rouge_reads_every_script_and_takes_the_best_reference() -> None:
    assert rouge_tokens("Größe_2, naïve! 日本 한국어") == ["größe", "2", "naïve", "日", "本", "한국어"]
    found = judged(SummaryEvaluator(), ["a b c"], [["x y", "a b d"]]).compute()
    assert found["rouge1"] == pytest.approx(2 / 3)
    assert found["rouge2"] == pytest.approx(1 / 2)


def test_a_report_has_the_signature_the_worst_and_what_went_wrong() -> None:
    evaluator = TranslationEvaluator()
    examples = [SequenceExample(f"s{index}", None, ("ein Haus", "das Haus"), f"{index}") for index in range(3)]
    texts = [WrittenText("das Haus"), WrittenText("", finished=False), WrittenText("ein Hut", cut=4)]
    evaluator.update(texts, examples)
    first, worst = evaluator.sections()
    assert "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:" in first.text
    assert "Of 3 texts 1 are empty, 1 were ended by the longest length" in first.text
    assert worst.table is not None
    assert [row[0] for row in worst.table.rows] == ["1", "2", "0"]


def test_examples_without_references_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="x: has no target"):
        SummaryEvaluator().update([WrittenText("a")], [SequenceExample("b", id="x")])
    assert TranslationEvaluator().compute() == {}
    assert SummaryEvaluator().sections() == []
