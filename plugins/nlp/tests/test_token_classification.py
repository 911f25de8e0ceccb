"""Words with tags: reading, schemes, alignment, scores, and the models that find names."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.errors import DataError, InputError
from plait.model import Key
from plait.predictor import Predictor
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.examples import TextSplit
from plait_nlp.token_classification.bilstm import BilstmCrf, BilstmOptions
from plait_nlp.token_classification.crf import ConditionalRandomField, best_paths, step_penalties
from plait_nlp.token_classification.evaluation import EntityEvaluator
from plait_nlp.token_classification.examples import TagPrediction, of_text, of_words
from plait_nlp.token_classification.tags import as_iob2, detect_scheme, entities_of, fault_of, iob2_labels
from plait_nlp.token_classification.task import TaggingOptions, TokenClassification

TYPES = ["person", "place"]
PROBLEM = {"objective": "token-classification", "types": TYPES, "labels": iob2_labels(TYPES)}
ANY_TAGS = st.lists(st.sampled_from(["O", *(f"{prefix}-{name}" for prefix in "BIES" for name in TYPES)]), max_size=9)
IOB2 = "Ann\tB-person\nLee\tI-person\nleft\tO\nNew\tB-place\nYork\tI-place\n\nhi\tO\n"


def task(**options: Any) -> TokenClassification:
    """The task with some options."""
    return TokenClassification(options=TaggingOptions(**options), seed=0)


def sentences(source: Any, **options: Any) -> list[Any]:
    """The examples of a source that is not divided."""
    splits = task(split="random", test_fraction=0, valid_fraction=0, **options).read(source)
    return [splits.train[index] for index in range(len(splits.train or ()))]  # type: ignore[index]  # there is one


# Reading


def test_conll_files_say_the_same_in_every_scheme_and_layout(tmp_path: Path) -> None:
    iob1 = IOB2.replace("B-", "I-")
    bioes = IOB2.replace("I-person", "E-person").replace("I-place", "E-place")
    spaces = "-DOCSTART- -X- O\n\n" + IOB2.replace("\t", " NNP ").replace("\n", "\r\n")
    comment = "# id = 7\n" + IOB2
    expected = [("Ann Lee left New York", "B-person I-person O B-place I-place"), ("hi", "O")]
    for name, text in {"iob2": IOB2, "iob1": iob1, "bioes": bioes, "spaces": spaces, "comment": comment}.items():
        path = tmp_path / f"{name}.conll"
        path.write_text(text, encoding="utf-8", newline="")
        assert [(each.text, each.label) for each in sentences(path)] == expected, name
    (tmp_path / "old.conll").write_text("Müller\tB-person\n", encoding="latin-1")
    splits = task(split="random", test_fraction=0, valid_fraction=0).read(tmp_path / "old.conll")
    assert splits.train is not None
    assert splits.train[0].words == ["Müller"]
    assert any("read as latin-1" in note for note in splits.notes)


def test_tables_datasets_and_python_rows_hold_lists(tmp_path: Path) -> None:
    row = {"tokens": ["Ann", "left"], "tags": ["B-person", "O"]}
    (tmp_path / "some.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-person"])),
        }
    )
    table = datasets.Dataset.from_dict({"tokens": [row["tokens"]], "ner_tags": [[1, 0]]}, features=features)
    found = [sentences(tmp_path / "some.jsonl"), sentences([row]), sentences([(row["tokens"], row["tags"])])]
    found.append(sentences(table, fields={"tags": "ner_tags"}))
    assert all([(each.words, each.tags) for each in part] == [(["Ann", "left"], ("B-person", "O"))] for part in found)


def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.conll"
    broken = "Ann\tB-person\n\nfoo\nbar\tO\n\nParis\tB-place\nis\tI-person\n\nwhere\tWRB\n"
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        task().read(path)
    message = str(caught.value)
    assert f"{path}:3 has 1 column, where 2 (as in the lines before) are expected: 'foo'" in message
    assert f"{path}:7 I-person continues no entity: B-place comes before it, read as IOB2" in message
    assert f"{path}:9 'WRB' is no tag" in message
    kept = sentences(path, on_error="skip")
    assert [each.text for each in kept] == ["Ann"]
    path.write_text("Paris\tI-place\nis\tO\nnice\tO\n\nRome\tB-place\n", encoding="utf-8")
    assert [each.label for each in sentences(path, scheme="lenient")] == ["B-place O O", "B-place"]
    with pytest.raises(DataError, match=r"tokens\[1\] is empty"):
        task().read([(["a", " "], ["O", "O"])])
    with pytest.raises(DataError, match="has 2 tokens and 1 tags"):
        task().read([(["a", "b"], ["O"])])
    with pytest.raises(DataError, match="every tag is O"):
        task().read([(["a"], ["O"])] * 9)


def test_a_type_that_training_lacks_is_an_error(tmp_path: Path) -> None:
    for name, tag in (("train", "B-person"), ("test", "B-persn")):
        (tmp_path / f"{name}.conll").write_text(f"so\tO\nAnn\t{tag}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test.conll:2 has the type 'persn' \(test\)") as caught:
        task().read(tmp_path)
    assert "person" in str(caught.value.hint)
    assert task(types=["person", "persn"]).read(tmp_path).test is not None


def test_schemes_are_told_apart_and_their_breaches_found() -> None:
    assert detect_scheme([["I-a", "I-a", "O"], ["I-b"]]) == "iob1"
    assert detect_scheme([["B-a", "I-a", "O"], ["I-b"]]) == "iob2"
    assert detect_scheme([["B-a", "O"], ["S-a"]]) == "bioes"
    assert fault_of(["I-a", "B-a", "I-a"], "iob1") is None
    assert fault_of(["O", "B-a"], "iob1") is not None
    assert fault_of(["B-a", "I-b"], "iob2") == (1, "I-b continues no entity: B-a comes before it")
    assert fault_of(["B-a", "E-a", "S-b", "O"], "bioes") is None
    assert (fault_of(["S-a", "B-a"], "bioes") or (None,))[0] == 1
    assert (fault_of(["E-a"], "bioes") or (None,))[0] == 0


@given(ANY_TAGS)
def test_iob2_keeps_the_entities(tags: list[str]) -> None:
    written = as_iob2(tags)
    assert fault_of(written, "iob2") is None
    assert entities_of(written) == entities_of(tags)


# Judging


def judged(wanted: list[list[str]], found: list[list[str]]) -> EntityEvaluator:
    """The evaluator after these tags."""
    evaluator = EntityEvaluator(TYPES)
    examples = [of_words(["w"] * len(tags), tags, str(index)) for index, tags in enumerate(wanted)]
    predictions = [TagPrediction(each, tags, np.ones(len(tags))) for each, tags in zip(examples, found, strict=True)]
    evaluator.update(predictions[:2], examples[:2])
    evaluator.update(predictions[2:], examples[2:])
    return evaluator


def _of_size(size: int) -> st.SearchStrategy[list[str]]:
    """As many tags."""
    return ANY_TAGS.map(lambda tags: (tags + ["O"] * size)[:size])


@settings(max_examples=60, deadline=None)  # the first example imports scikit-learn
@given(st.lists(ANY_TAGS, min_size=1, max_size=5), st.data())
def test_scores_are_those_of_seqeval(wanted: list[list[str]], data: Any) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    found = [data.draw(_of_size(len(row))) for row in wanted]
    metrics = judged(wanted, found).compute()
    if sum(map(len, wanted)):
        assert metrics["accuracy"] == pytest.approx(seqeval.accuracy_score(wanted, found))
    if any(entities_of(row) for row in (*wanted, *found)):
        for name, average in (("precision", "micro"), ("recall", "micro"), ("f1", "micro"), ("f1_macro", "macro")):
            score = getattr(seqeval, f"{name.partition('_')[0]}_score")
            assert metrics[name] == pytest.approx(score(wanted, found, average=average, zero_division=0)), name


def test_mistakes_are_counted_by_kind_and_intervals_weigh_sentences() -> None:
    wanted = [["B-person", "I-person", "O", "B-place"], ["O", "B-place", "O"], ["B-person", "O"], ["O", "O"]]
    found = [["B-person", "I-person", "O", "B-person"], ["B-place", "I-place", "O"], ["O", "O"], ["O", "B-place"]]
    evaluator = judged(wanted, found)
    expected = {"wrong type": 1, "wrong bounds": 1, "missed": 1, "invented": 1}
    assert evaluator.details()["mistakes"] == expected
    assert evaluator.compute()["f1"] == pytest.approx(2 / 8)
    only_first = evaluator.measure(evaluator.table(), np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    np.testing.assert_allclose(only_first, [0.5, 0])
    assert {section.title for section in evaluator.sections()} == {"Types", "Mistakes", "Worst examples"}


# The conditional random field


def test_the_field_agrees_with_every_sequence_written_out() -> None:
    torch.manual_seed(0)
    labels = iob2_labels(["x"])
    field = ConditionalRandomField(labels)
    torch.nn.init.normal_(field.steps)
    scores, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])
    field.requires_grad_(False)
    steps = field.all_steps()
    for row, length in enumerate(lengths.tolist()):
        totals = {}
        for path in product(range(3), repeat=length):
            before = [3, *path[:-1]]
            totals[path] = float(
                sum(
                    scores[row, at, tag] + steps[last, tag]
                    for at, (last, tag) in enumerate(zip(before, path, strict=True))
                )
            )
        everything = np.logaddexp.reduce(list(totals.values()))
        best = max(totals, key=lambda path: totals[path])
        assert tuple(best_paths(scores, steps, lengths)[row, :length].tolist()) == best
        tags = torch.zeros(2, 4, dtype=torch.int64)
        tags[row, :length] = torch.tensor(best)
        found = field.log_likelihood(scores, tags, lengths)[row]
        assert float(found) == pytest.approx(totals[best] - everything, abs=1e-4)
        marginals = field.probabilities(scores, lengths)[row, :length]
        for at, tag in product(range(length), range(3)):
            part = [total for path, total in totals.items() if path[at] == tag]
            assert float(marginals[at, tag]) == pytest.approx(np.exp(np.logaddexp.reduce(part) - everything), abs=1e-5)


def test_the_best_path_is_always_allowed() -> None:
    labels = PROBLEM["labels"]
    paths = best_paths(torch.randn(50, 8, 5), step_penalties(labels), torch.full((50,), 8))  # type: ignore[arg-type]
    for path in paths.tolist():
        assert fault_of([labels[tag] for tag in path], "iob2") is None


# Networks


WORDS = ["Ann", "Lee", "naïvely", "New", "York-based", "😀", "بيت", "visits", "it's"]


def tagger(name: str = "transformers/bert", **options: Any) -> TransformersModel:
    """A tiny network that is not fitted."""
    sizes: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "vocabulary": 300}
    train = TextSplit([of_words(WORDS, ["B-person", "I-person", *["O"] * 7], str(index)) for index in range(4)])
    made = TransformersOptions(name=name, **{**sizes, "max_length": 16, **options})
    return TransformersModel.create(options=made, problem=PROBLEM, train=train, seed=0)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "char", "byte"])
def test_the_first_piece_of_each_word_is_judged_once_in_rows_of_any_length(kind: str) -> None:
    made = tagger(tokenizer=kind, max_length=12)
    example = of_words(WORDS * 5, (["B-person", "I-person", *["O"] * 7] * 5))
    batch = made.processor.collate([example, of_words(["Ann"], ["B-place"])], [Key(0, 0, 0)] * 2, training=True)
    rows, owners = batch.extra["rows"], batch.extra["owners"]
    assert batch["input_ids"].shape[0] == 2
    assert len(rows) > 3
    words = [word for row, owner in zip(rows, owners, strict=True) if owner == 0 for word in row.words]
    assert sorted(words) == list(range(45))
    tokenizer = made.processor.tokenizer
    for row, owner in zip(rows, owners, strict=True):
        for word, place in zip(row.words, row.places, strict=True):
            piece = tokenizer.decode([row.window.ids[place]]).strip().removeprefix("##")
            own = (example.words if owner == 0 else ["Ann"])[word]
            assert kind == "byte" or own.startswith(piece.rstrip("\ufffd")), (own, piece)  # a part of an emoji's bytes
    assert batch.count == 46
    assert len(made.predict([example])[0].tags) == 45


def test_a_very_long_text_and_strange_words_get_tags() -> None:
    made = tagger()
    huge = of_text("Ann visits New York. " * 2_500)
    found = made.predict([huge, of_words(["a\ud800b", "\u200b", "x"]), of_words(["\x07"])])
    assert [len(each.tags) for each in found] == [len(huge.spans), 3, 1]
    assert all(fault_of(each.tags, "iob2") is None and np.isfinite(each.scores).all() for each in found)
    assert found[2].tags == ("O",)  # the tokenizer leaves nothing of it


def test_the_recurrent_tagger_reads_a_sentence_alike_alone_and_beside_longer_ones() -> None:
    split = TextSplit([of_words(WORDS[:size], ["O"] * size, str(size)) for size in range(1, 10)])
    options = BilstmOptions(name="nlp/bilstm-crf", words=8, letters=8, filters=8, hidden=8)
    made = BilstmCrf.create(options=options, problem=PROBLEM, train=split, seed=0)
    together = made.predict(list(split))
    for example, found in zip(split, together, strict=True):
        alone = made.predict([example])[0]
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        assert alone.tags == found.tags
    rare = made.processor.collate([split[8]], [Key(0, 0, 8)], training=False)["ids"][0, 0, 8]
    seen = [made.processor.collate([split[8]], [Key(0, epoch, 8)], training=True)["ids"][0, 0] for epoch in range(20)]
    assert {int(row[8]) for row in seen} == {int(rare), 1}  # a word that occurs once is hidden now and then
    assert len({int(row[0]) for row in seen}) == 1
    long = of_words(WORDS * 70, ["O"] * 630)  # in three parts
    batch = made.processor.collate([long, split[0]], [Key(0, 0, 0), Key(0, 0, 1)], training=True)
    assert batch["ids"].shape == (2, 2, 256)
    assert (batch.count, batch.extra["owners"]) == (631, [0, 0, 0, 1])
    assert [len(each.tags) for each in made.predict([long, split[0]])] == [630, 1]
    np.testing.assert_allclose(made.predict([long, split[0]])[1].scores, together[0].scores, atol=1e-5)


@pytest.mark.parametrize("model", ["nlp/bilstm-crf", "nlp/majority-tag"])
def test_a_run_finds_entities_with_their_characters(model: str, tmp_path: Path) -> None:
    rows = [(f"{name} lives in {place} .".split(), ["B-person", "O", "O", "B-place", "O"])
            for name, place in product(["Ann", "Lee", "Max", "Eva"], ["Rome", "Oslo", "Kyiv", "Lima"])] * 2  # fmt: skip
    trainer = {"epochs": 15, "learning_rate": 0.02} if model == "nlp/bilstm-crf" else {}
    output = {"baselines": False, "tensorboard": False, "report": False}
    run = plait.train("nlp/token-classification", model, rows, out=tmp_path / "run", trainer=trainer, output=output)
    predictor = plait.load(run.path)
    assert isinstance(predictor, Predictor)
    answer = predictor("Ann lives in  Oslo .")
    found = [(each["text"], each["type"], each["start"], each["end"], each["words"]) for each in answer.prediction]
    assert found == [("Ann", "person", 0, 3, [0, 1]), ("Oslo", "place", 14, 18, [3, 4])]
    assert answer.outputs["entities"] == answer.prediction
    assert [each["text"] for each in predictor([["Eva", "lives", "in", "Oslo"]])[0].prediction] == ["Eva", "Oslo"]
    for wrong in ("", " \n", 7, [1], []):
        with pytest.raises(InputError):
            predictor({"text": wrong})
