"""Classification metrics against scikit-learn and torchmetrics, on any number of ranks, under any example weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from plait.errors import DataError
from plait.evaluation import ClassificationEvaluator, ClassPrediction, share
from plait_registry.specs import Metric

LABELS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
METRICS = ["accuracy", "top5_accuracy", "precision_macro", "recall_macro", "f1_macro", "calibration_error", "log_loss"]


def drawn(examples: int, *, seed: int = 0, absent: str = "gnu") -> tuple[list[ClassPrediction], list[Any]]:
    """Predictions of a model that is right more often than not, on a split where one class does not occur."""
    generator = np.random.default_rng(seed)
    names = [label for label in LABELS if label != absent]
    examples_ = [SimpleNamespace(id=f"{n}.png", label=names[generator.integers(len(names))]) for n in range(examples)]
    logits = generator.normal(size=(examples, len(LABELS))).astype(np.float32)
    logits[np.arange(examples), [LABELS.index(example.label) for example in examples_]] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return [ClassPrediction(row) for row in probabilities], examples_


def judged(predictions: Sequence[ClassPrediction], examples: Sequence[Any], **options: Any) -> ClassificationEvaluator:
    evaluator = ClassificationEvaluator(LABELS, **options)
    for start in range(0, len(examples), 16):
        evaluator.update(predictions[start : start + 16], examples[start : start + 16])
    return evaluator


def test_four_answers_by_hand() -> None:
    evaluator = ClassificationEvaluator(["no", "yes"])
    answers = [([0.9, 0.1], "no"), ([0.2, 0.8], "yes"), ([0.6, 0.4], "yes"), ([0.7, 0.3], "no")]
    evaluator.update(
        [ClassPrediction(np.array(probabilities)) for probabilities, _ in answers],
        [SimpleNamespace(id=str(number), label=label) for number, (_, label) in enumerate(answers)],
    )
    found = evaluator.compute()
    assert found["accuracy"] == 0.75
    assert found["recall_macro"] == (1 + 1 / 2) / 2
    assert found["precision_macro"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7]).mean())
    assert "top5_accuracy" not in found  # two classes: it would always be 1


def arrays(predictions: Sequence[ClassPrediction], examples: Sequence[Any]) -> tuple[Any, Any]:
    """Probabilities [examples, classes] and targets [examples]."""
    target = np.array([LABELS.index(example.label) for example in examples])
    return np.stack([prediction.probabilities for prediction in predictions]), target


def test_equals_scikit_learn() -> None:
    predictions, examples = drawn(500)
    found = judged(predictions, examples).compute()
    probabilities, target = arrays(predictions, examples)
    chosen, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    assert set(chosen) > set(target), "the class that is absent must be predicted somewhere, or the test is too easy"
    present, everything = sorted(set(target)), list(range(len(LABELS)))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(target, chosen, labels=present, average="macro")
    bins = [(confidence > low / 15) & (confidence <= (low + 1) / 15) for low in range(15)]
    gaps = [each.sum() * abs((chosen == target)[each].mean() - confidence[each].mean()) for each in bins if each.any()]
    expected = {
        "accuracy": sk.accuracy_score(target, chosen),
        "top5_accuracy": sk.top_k_accuracy_score(target, probabilities, k=5, labels=everything),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "calibration_error": sum(gaps) / 500,
        "log_loss": sk.log_loss(target, probabilities, labels=everything),
    }
    assert list(found) == METRICS == list(expected)
    assert found == pytest.approx(expected, abs=1e-6)


def test_calibration_bins_are_closed_on_the_right() -> None:
    evaluator = ClassificationEvaluator(["no", "yes"])
    evaluator.update(
        [ClassPrediction(np.array([0.55, 0.45])), ClassPrediction(np.array([0.6, 0.4]))],  # both in (8/15, 9/15]
        [SimpleNamespace(id="wrong", label="yes"), SimpleNamespace(id="right", label="no")],
    )
    assert evaluator.compute()["calibration_error"] == pytest.approx(abs(1 - (0.55 + 0.6)) / 2)


@pytest.mark.slow  # importing torchmetrics takes as long as all the other tests of this file
def test_equals_torchmetrics() -> None:
    import torch
    from torchmetrics.functional import classification as tm

    predictions, examples = drawn(500, absent="nothing")  # torchmetrics also averages over classes only predicted
    found = judged(predictions, examples).compute()
    probabilities, target = map(torch.from_numpy, arrays(predictions, examples))
    given = {"preds": probabilities, "target": target, "num_classes": len(LABELS)}
    assert found["accuracy"] == pytest.approx(tm.multiclass_accuracy(**given, average="micro").item())
    assert found["top5_accuracy"] == pytest.approx(tm.multiclass_accuracy(**given, average="micro", top_k=5).item())
    assert found["precision_macro"] == pytest.approx(tm.multiclass_precision(**given).item())
    assert found["recall_macro"] == pytest.approx(tm.multiclass_recall(**given).item())
    assert found["f1_macro"] == pytest.approx(tm.multiclass_f1_score(**given).item())
    assert found["calibration_error"] == pytest.approx(tm.multiclass_calibration_error(**given).item(), abs=1e-6)


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    evaluator = ClassificationEvaluator(["no", "yes"])
    always_no = [ClassPrediction(np.array([1.0, 0.0]))] * 4
    evaluator.update(
        always_no, [SimpleNamespace(id=str(n), label=label) for n, label in enumerate(["no", "no", "no", "yes"])]
    )
    assert evaluator.compute()["precision_macro"] == pytest.approx((3 / 4 + 0) / 2)
    assert evaluator.compute()["log_loss"] == pytest.approx(15.94 / 4, abs=0.01)  # certain and wrong, yet finite


def test_equal_probabilities_are_not_all_among_the_best_five() -> None:
    evaluator = ClassificationEvaluator(LABELS)
    evaluator.update(
        [ClassPrediction(np.full(7, 1 / 7))] * 7, [SimpleNamespace(id=label, label=label) for label in LABELS]
    )
    assert evaluator.compute()["top5_accuracy"] == pytest.approx(5 / 7)
    assert evaluator.compute()["accuracy"] == pytest.approx(1 / 7)


class Ranks:
    """Engines of several ranks as threads, as far as an evaluator needs them."""

    def __init__(self, world_size: int) -> None:
        self.sent: list[Any] = [None] * world_size
        self.all_here = threading.Barrier(world_size, timeout=30)

    def engine(self, rank: int) -> Any:
        def gather(value: Any) -> list[Any]:
            self.sent[rank] = value
            self.all_here.wait()
            return list(self.sent)

        return SimpleNamespace(rank=rank, world_size=len(self.sent), gather=gather)


@pytest.mark.parametrize(("examples", "ranks"), [(101, 1), (101, 2), (101, 3), (2, 3)])
def test_metrics_are_bit_equal_on_any_number_of_ranks(examples: int, ranks: int) -> None:
    predictions, truth = drawn(examples)
    alone = judged(predictions, truth)
    together = Ranks(ranks)

    def on_rank(rank: int) -> ClassificationEvaluator:
        part = share(examples, rank=rank, world_size=ranks)
        evaluator = judged(predictions[part.start : part.stop], truth[part.start : part.stop])
        evaluator.reduce(together.engine(rank))
        return evaluator

    with ThreadPoolExecutor(ranks) as pool:
        evaluators = list(pool.map(on_rank, range(ranks)))
    for evaluator in evaluators:
        assert evaluator.compute() == alone.compute()
        assert evaluator.table().equals(alone.table())
    assert alone.table()["id"].to_pylist() == [example.id for example in truth]


@given(length=st.integers(0, 50), world_size=st.integers(1, 9))
def test_shares_cover_a_split_once_and_evenly(length: int, world_size: int) -> None:
    parts = [share(length, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [position for part in parts for position in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 3), min_size=40, max_size=40).filter(any))
def test_a_weight_of_n_means_n_copies_of_the_example(name: str, counts: list[int]) -> None:
    evaluator = judged(*drawn(40), primary=Metric(name, True))
    table = evaluator.table()
    copies = table.take(pa.array(np.repeat(np.arange(40), counts)))
    weighted = evaluator.measure(table, np.array([counts, counts], float))
    assert weighted == pytest.approx(evaluator.measure(copies, np.ones((1, len(copies)))).repeat(2))


@pytest.mark.parametrize("name", METRICS)
def test_a_saved_table_gives_the_headline_again(name: str, tmp_path: Any) -> None:
    evaluator = judged(*drawn(60), primary=Metric(name, True))
    pq.write_table(evaluator.table(), tmp_path / "test.parquet")
    saved = pq.read_table(tmp_path / "test.parquet")
    assert evaluator.measure(saved, np.ones((1, 60)))[0] == evaluator.compute()[name]
    plain = saved.set_column(1, "target", saved["target"].cast(pa.string()))  # another writer's types do as well
    assert evaluator.measure(plain, np.ones((1, 60)))[0] == pytest.approx(evaluator.compute()[name])


def test_state_does_not_grow_with_the_number_of_classes() -> None:
    labels = [str(number) for number in range(1000)]
    evaluator = ClassificationEvaluator(labels)
    row = ClassPrediction(np.full(1000, 1e-3, np.float32))
    for start in range(0, 2000, 100):
        evaluator.update([row] * 100, [SimpleNamespace(id=str(start + n), label="7") for n in range(100)])
    columns = [column for name, column in zip(evaluator.table().column_names, evaluator.table().columns, strict=True)]
    assert sum(column.nbytes for column in columns) / 2000 < 64  # bytes an example, against 4000 of its probabilities


def test_an_empty_split_has_no_metrics() -> None:
    evaluator = ClassificationEvaluator(LABELS)
    evaluator.update([], [])
    assert evaluator.compute() == {}
    assert evaluator.sections() == []
    assert evaluator.table().column_names[:3] == ["id", "target", "prediction"]


def test_probabilities_that_are_not_finite_count_as_wrong() -> None:
    evaluator = ClassificationEvaluator(["no", "yes"])
    rows = [np.array([np.nan, np.nan]), np.array([0.9, 0.1])]
    evaluator.update([ClassPrediction(row) for row in rows], [SimpleNamespace(id=each, label="no") for each in "ab"])
    found = evaluator.compute()
    assert found["accuracy"] == found["recall_macro"] == 0.5
    assert np.isnan(found["log_loss"])
    assert evaluator.table()["prediction"].to_pylist() == [None, "no"]
    assert evaluator.details()["undecided"] == 1
    assert "1 examples got probabilities that are not finite" in evaluator.sections()[0].text


def test_what_cannot_be_judged_is_named() -> None:
    evaluator = ClassificationEvaluator(LABELS)
    answer = [ClassPrediction(np.full(7, 1 / 7))]
    with pytest.raises(DataError, match=r"a\.png: has no label"):
        evaluator.update(answer, [SimpleNamespace(id="a.png", label=None)])
    with pytest.raises(DataError, match=r"b\.png: label 'cats' is not one of the 7") as caught:
        evaluator.update(answer, [SimpleNamespace(id="b.png", label="cats")])
    assert caught.value.hint == "did you mean 'cat'?"
    with pytest.raises(ValueError, match="1 predictions for 0 examples"):
        evaluator.update(answer, [])
    with pytest.raises(ValueError, match=r"\[3\] probabilities for 7 labels"):
        evaluator.update([ClassPrediction(np.full(3, 1 / 3))], [SimpleNamespace(id="c.png", label="cat")])
    with pytest.raises(ValueError, match="no metric 'top5_accuracy' for 2 classes"):
        ClassificationEvaluator(["no", "yes"], primary=Metric("top5_accuracy", True))


def test_details_hold_the_confusion_matrix_and_each_class() -> None:
    predictions, examples = drawn(300)
    evaluator = judged(predictions, examples)
    details = evaluator.details()
    target = [example.label for example in examples]
    chosen = [LABELS[prediction.index] for prediction in predictions]
    assert np.array_equal(details["confusion"], sk.confusion_matrix(target, chosen, labels=LABELS))
    expected = sk.classification_report(target, chosen, labels=LABELS, output_dict=True, zero_division=0)
    for row in details["per_class"][:-1]:
        assert row["f1"] == pytest.approx(expected[row["label"]]["f1-score"])
        assert row["precision"] == pytest.approx(expected[row["label"]]["precision"])
        assert row["support"] == expected[row["label"]]["support"]
    assert details["per_class"][-1] == {"label": "gnu", "precision": 0.0, "recall": None, "f1": None, "support": 0}
    first, second, times = details["confused"][0]
    assert times == max(np.array(details["confusion"])[~np.eye(7, dtype=bool)])
    assert details["confusion"][LABELS.index(first)][LABELS.index(second)] == times


def test_many_classes_are_shown_as_their_worst() -> None:
    labels = [f"class {number}" for number in range(120)]
    evaluator = ClassificationEvaluator(labels)
    sure = np.eye(120)
    evaluator.update(
        [ClassPrediction(sure[number // 2]) for number in range(120)],
        [SimpleNamespace(id=str(number), label=labels[number]) for number in range(120)],
    )
    sections = {section.title: section for section in evaluator.sections()}
    assert evaluator.details()["confusion"] is None
    assert sections["Most frequent mistakes"].table.rows[0] == ("class 1", "class 0", 1)
    assert len(sections["Most frequent mistakes"].table.rows) == 20
    assert sections["Classes"].text == "The 50 classes with the lowest F1, of 120."
    assert sections["Calibration"].figure.startswith(b"<svg")
