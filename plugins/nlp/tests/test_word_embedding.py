"""Vectors of words: what is drawn, what is lost and learned, and what the vectors say."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import plait
from plait.errors import DataError, InputError
from plait.model import Batch, Key
from plait.predictor import Predictor
from plait_nlp.demo_data import synthetic_analogies
from plait_nlp.word_embedding.corpus import BlockProcessor
from plait_nlp.word_embedding.evaluation import VectorsEvaluator
from plait_nlp.word_embedding.ppmi import PpmiOptions, PpmiSvd
from plait_nlp.word_embedding.questions import analogies_of, similarities_of
from plait_nlp.word_embedding.task import WordEmbedding, WordOptions
from plait_nlp.word_embedding.vectors import WordVectors
from plait_nlp.word_embedding.word2vec import Word2Vec, Word2VecOptions
from plait_nlp.word_embedding.words import (
    Analogy,
    Gap,
    Query,
    Question,
    Sentences,
    Similarity,
    counts_of,
    gaps_in,
    words_in,
)

PROBLEM = {"objective": "word-embedding", "lowercase": True}
QUIET = {"baselines": False, "tensorboard": False, "report": False}


def sentences(count: int = 60, seed: int = 0) -> list[Sentences]:
    """Documents of three sentences of made-up words, some of them frequent."""
    generator = np.random.default_rng(seed)
    rows = [
        tuple(f"w{int(each)}" for each in generator.zipf(1.6, size=int(generator.integers(2, 12))) % 30)
        for _ in range(3 * count)
    ]
    return [Sentences(tuple(rows[3 * index : 3 * index + 3]), str(index)) for index in range(count)]


def model(kind: Literal["skip-gram", "cbow"] = "skip-gram", **options: Any) -> Word2Vec:
    """A tiny model, its vectors random."""
    given = {"width": 6, "min_count": 1, "block": 16, "shared": 4, "negatives": 3, "window": 3, **options}
    made = Word2VecOptions(name="nlp/word2vec", kind=kind, **given)
    found = Word2Vec.create(options=made, problem=PROBLEM, train=sentences(), seed=0)
    with torch.no_grad():
        for each in found.parameters():
            each.copy_(torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
    return found


def batch_of(made: Word2Vec, count: int = 8, epoch: int = 0) -> Batch:
    """A training batch of the first blocks."""
    units = made.processor.units(sentences())
    keys = [Key(0, epoch, index) for index in range(count)]
    return made.processor.collate([units[index] for index in range(count)], keys, training=True)


# What is drawn


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_visits_each_word_once(epoch: int) -> None:
    made = model(subsample=0)
    units = made.processor.units(sentences())
    batch = batch_of(made, len(units), epoch)
    seen = Counter(batch["ids"][batch["ids"] > 0].tolist())
    counts = counts_of(sentences())
    assert seen == {number: counts[word] for number, word in enumerate(made.processor.words, start=1)}
    first = made.processor.collate([units[0]], [Key(0, epoch, 0)], training=True)["ids"]
    assert torch.equal(first[0], batch["ids"][0, : first.shape[1]])  # whatever else is in the batch
    assert not torch.equal(batch["ids"][0], batch_of(made, len(units), epoch + 1)["ids"][0])  # blocks move


def test_frequent_words_are_left_out_and_negatives_drawn_as_the_paper_has_it() -> None:
    made = model(subsample=0.01, shared=64)
    units, counts = made.processor.units(sentences()), np.array(made.processor.counts, float)
    kept, drawn = np.zeros(len(counts)), np.zeros(len(counts))
    for epoch in range(40):
        keys = [Key(0, epoch, index) for index in range(len(units))]
        batch = made.processor.collate([units[index] for index in range(len(units))], keys, training=True)
        kept += np.bincount(batch["ids"].reshape(-1).numpy(), minlength=len(counts) + 1)[1:]
        drawn += np.bincount(batch["drawn"].reshape(-1).numpy(), minlength=len(counts) + 1)[1:]
    expected = np.minimum(1, np.sqrt(0.01 / (counts / counts.sum())))
    np.testing.assert_allclose((kept / (40 * counts))[:8], expected[:8], rtol=0.1)
    np.testing.assert_allclose(drawn / drawn.sum(), counts**0.75 / (counts**0.75).sum(), atol=0.01)


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_the_loss_is_that_of_word2vec(kind: Any) -> None:
    made = model(kind, subsample=0.05)
    batch = batch_of(made)
    inside, outside = made.centres.weight.detach().double(), made.neighbours.weight.detach().double()

    def cost(score: float) -> float:
        return math.log1p(math.exp(-score))

    total, words = 0.0, 0
    for ids, owners, reach, drawn in zip(
        *(batch[name].tolist() for name in ("ids", "sentences", "reach", "drawn")), strict=True
    ):
        for at, word in enumerate(ids):
            words += word > 0
            near = [
                ids[other] for other in range(max(0, at - reach[at]), min(len(ids), at + reach[at] + 1))
                if other != at and owners[other] == owners[at] and word > 0 and ids[other] > 0
            ]  # fmt: skip
            scale = 3 / len(drawn)
            if kind == "skip-gram":
                for neighbour in near:
                    total += cost(float(inside[word] @ outside[neighbour]))
                    total += scale * sum(
                        cost(-float(inside[word] @ outside[each])) for each in drawn if each != neighbour
                    )
            elif near:
                mean = inside[near].mean(0)
                total += cost(float(mean @ outside[word]))
                total += scale * sum(cost(-float(mean @ outside[each])) for each in drawn if each != word)
    assert batch.count == words
    loss = made(batch).loss
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(total / words, rel=1e-4)
    assert total > 100


def test_windows_end_with_sentences() -> None:
    train = [Sentences((("a", "b"), ("c", "d")), "0")] * 4
    options = Word2VecOptions(name="nlp/word2vec", width=2, min_count=1, block=16, window=5, subsample=0)
    made = Word2Vec.create(options=options, problem=PROBLEM, train=train, seed=0)
    batch = made.processor.collate([made.processor.units(train)[0]], [Key(0, 0, 0)], training=True)
    pairs = made._pairs(batch["sentences"], batch["reach"])[0]
    names = ["", *made.processor.words]
    found = {(names[batch["ids"][0, one]], names[batch["ids"][0, other]]) for one, other in pairs.nonzero().tolist()}
    assert found == {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}


def test_rare_words_get_no_vector_and_too_few_words_are_refused() -> None:
    made = BlockProcessor.fit(sentences(), min_count=20, most=5, block=16, window=2, shared=4, subsample=0)
    assert len(made.words) == 5
    assert min(made.counts) >= 20
    with pytest.raises(DataError, match="occur 99999 times or more") as caught:
        BlockProcessor.fit(sentences(), min_count=99999, most=5, block=16, window=2, shared=4, subsample=0)
    assert "min_count" in str(caught.value.hint)


# Counting


def test_ppmi_is_that_of_slow_code() -> None:
    from plait.engine.local import LocalEngine
    from plait.options import EngineOptions

    engine, train = LocalEngine(EngineOptions()), sentences(40)
    made = PpmiSvd.create(
        options=PpmiOptions(name="nlp/ppmi-svd", min_count=2, window=3, width=64), problem=PROBLEM, train=None, seed=0
    )
    made.finish(made.step(train, made.start(train, engine), engine)[0])
    words, counts = made.vectors.words, counts_of(train)
    assert {counts[word] >= 2 for word in words} == {True}
    table = np.zeros((len(words), len(words)))
    for each in train:
        for row in each.words:
            known = [words.index(word) for word in row if word in words]
            for one, word in enumerate(known):
                for other, neighbour in enumerate(known):
                    if 0 < abs(one - other) <= 3:
                        table[word, neighbour] += (4 - abs(one - other)) / 3
    own = table.sum(1)
    with np.errstate(divide="ignore"):
        ppmi = np.maximum(0, np.log(table * (own**0.75).sum() / np.outer(own, own**0.75)))
    left, strength, right = np.linalg.svd(ppmi)
    width = made.vectors.vectors.shape[1]
    assert width == len(words) - 1
    assert made.vectors.together is not None
    own_table, others = made.vectors.together
    np.testing.assert_allclose(own_table @ others.T, left[:, :width] * strength[:width] @ right[:width], atol=1e-4)
    np.testing.assert_allclose(
        made.vectors.vectors @ made.vectors.vectors.T, left[:, :width] * strength[:width] @ left[:, :width].T, atol=1e-4
    )


# What vectors say


@pytest.fixture
def vectors() -> WordVectors:
    """40 words with random vectors, each with a trap: "king - man + woman" is near queen."""
    found = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    found[:4, :3], found[:4, 3:] = np.array([[3, 0, 0], [3, 1, 0], [3, 0, 2], [3, 1, 2.1]], np.float32), 0
    return WordVectors(["man", "woman", "king", "queen", *(f"w{number}" for number in range(36))], found)


def test_neighbours_are_those_of_the_largest_cosines(vectors: WordVectors) -> None:
    said = vectors.answer(
        [Query(("w1",)), Query(("king", "woman"), ("man",)), Query(("nowhere",)), Query(("w2", "nowhere"))], top=5
    )
    cosines = vectors.unit @ vectors.unit[vectors.number("w1")]
    expected = sorted(
        (word for word in vectors.words if word != "w1"), key=lambda word: -cosines[vectors.number(word)]
    )[:5]
    assert [word for word, _ in said[0].nearest] == expected
    assert said[1].nearest[0][0] == "queen"
    assert said[1].vector is not None
    assert float(said[1].vector @ said[1].vector) == pytest.approx(1, rel=1e-5)
    assert said[2].vector is None
    assert said[3].unknown == ("nowhere",)
    assert said[3].nearest


def test_questions_are_answered_and_judged(vectors: WordVectors) -> None:
    questions: list[Question] = [
        Analogy("man", "woman", "king", "queen", "0"), Analogy("man", "woman", "nobody", "queen", "1"),
        Similarity("man", "woman", 9.0, "2"), Similarity("man", "w3", 2.0, "3"), Similarity("man", "nobody", 1.0, "4"),
        Gap(("man", "woman"), ("king", *(f"w{number}" for number in range(9))), "5"),
        Gap(("nobody",), ("w1", "w2"), "6"),
    ]  # fmt: skip
    judge = VectorsEvaluator()
    judge.update(vectors.answer(questions), questions)
    metrics = judge.compute()
    assert metrics["analogy_accuracy"] == 0.5
    assert metrics["gap_accuracy"] == 0.5  # where all candidates are alike good, none is right
    assert metrics["known"] == pytest.approx(5 / 7)
    assert -1 <= metrics["similarity_spearman"] <= 1
    table = judge.table()
    assert judge.measure(table, np.ones((1, len(table))))[0] == 0.5
    assert {each.title for each in judge.sections()} >= {
        "Analogies that were not found",
        "Pairs that people see otherwise",
    }
    wrong = VectorsEvaluator()  # answers to other questions
    wrong.update(vectors.answer(questions[::-1]), questions)
    assert wrong.compute()["gap_accuracy"] == 0


def test_the_format_of_word2vec_is_written_and_read_exactly(vectors: WordVectors, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    vectors.write(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "40 8"
    back = WordVectors.read(path)
    assert back.words == vectors.words
    np.testing.assert_array_equal(back.vectors, vectors.vectors)
    path.write_text("\n".join(lines[1:]), encoding="utf-8")  # as GloVe writes it
    np.testing.assert_array_equal(WordVectors.read(path).vectors, vectors.vectors)
    for broken, words in (
        ("2 2\na 1 2\nb 1\n", r":3: 1 numbers where the first word has 2"), ("a 1 x\n", r":1: not a word and numbers"),
        ("a 1 2\na 1 2\n", "there twice"), ("", "holds no vector"),
    ):  # fmt: skip
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            WordVectors.read(path)
    with pytest.raises(DataError, match="holds a space"):
        WordVectors(["new york"], np.ones((1, 2), np.float32)).write(path)


# The task


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words_in("Don't say state-of-the-art, Ünal_2: 3.5!", lowercase=True) == [
        "don't", "say", "state-of-the-art", "ünal", "2", "3", "5",
    ]  # fmt: skip


def test_gaps_ask_for_words_of_held_out_text() -> None:
    train, held = sentences(), sentences(20, seed=1)
    counts = counts_of(train)
    found = gaps_in(held, counts, most=50, window=2, seed=0)
    assert found == gaps_in(held, counts, most=50, window=2, seed=0)
    assert 10 < len(found) <= 50
    rows = {row for each in held for row in each.words}
    for gap in found:
        assert len(set(gap.candidates)) == 10
        assert all(counts[word] for word in gap.candidates)
        assert any(
            gap.around == (*row[max(0, at - 2) : at], *row[at + 1 : at + 3]) and row[at] == gap.candidates[0]
            for row in rows for at in range(len(row))
        )  # fmt: skip


def test_questions_of_users_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "questions-words.txt"
    path.write_text(": family\nman king Woman queen\n\nman boy woman girl\n", encoding="utf-8")
    assert [each.third for each in analogies_of(str(path), lowercase=True)] == ["woman", "woman"]
    path.write_text("man king woman queen\nman king woman\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"questions-words\.txt:2: .*is none of the analogies"):
        analogies_of(str(path), lowercase=True)
    scored = tmp_path / "ws353.csv"
    scored.write_text("Word 1,Word 2,Human (mean)\nlove,Sex,6.77\ntiger,cat,7.35\n", encoding="utf-8")
    assert [(each.second, each.score) for each in similarities_of(scored, lowercase=True)] == [
        ("sex", 6.77),
        ("cat", 7.35),
    ]
    scored.write_text("a\tb\tx\nc\td\te\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"ws353\.csv:2"):
        similarities_of(scored, lowercase=True)
    with pytest.raises(DataError, match="no such file"):
        analogies_of(str(tmp_path / "nowhere.txt"), lowercase=True)
    task = WordEmbedding(options=WordOptions(), seed=0)
    with pytest.raises(DataError, match="hold no words"):
        task.read({"train": ["... !", "?"], "valid": ["a b"]})
    splits = task.read({**synthetic_analogies()})
    assert splits.test is not None
    assert {type(splits.test[index]) for index in range(len(splits.test))} == {Gap, Analogy, Similarity}
    for wrong, words in (
        ({"text": 3}, "not a text"),
        ({"text": " "}, "empty"),
        ({"text": "?!"}, "no word"),
        ({"word": "a"}, "no input 'word'"),
    ):
        with pytest.raises(InputError, match=words):
            task.parse(wrong, PROBLEM)
    assert task.parse({"text": "King - man + woman"}, PROBLEM) == Query(("king", "woman"), ("man",))
    assert task.parse({"text": "a well-known word"}, PROBLEM) == Query(("a", "well-known", "word"))


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_made_up_trades_are_learned(kind: str, tmp_path: Path) -> None:
    run = plait.train(
        "nlp/word-embedding", {"name": "nlp/word2vec", "kind": kind}, "synthetic-analogies", out=tmp_path / "run",
        output=QUIET | {"baselines": kind == "cbow"},
    )  # fmt: skip
    test = run.metrics["test"]
    assert test["analogy_accuracy"] > 0.9
    assert test["gap_accuracy"] > 0.45  # chance: 0.1
    assert test["similarity_spearman"] > 0.5
    assert test["known"] == 1
    if kind == "cbow":
        assert run.info["baselines"]["nlp/ppmi-svd"]["test"]["gap_accuracy"] > 0.45
        return
    predictor = plait.load(run.path)
    assert isinstance(predictor, Predictor)
    first, second, third, answer = synthetic_analogies()["analogies"][0]
    found = predictor(f"{second} - {first} + {third}")
    assert found.scores is not None
    assert answer in found.prediction[:3]
    assert list(found.scores) == found.prediction
    assert len(found.prediction) == 10
    assert found.outputs["embedding"].shape == (100,)
    wrong = predictor.predict(["zzyzx", f"{first}x", f"{first} zzyzx"])
    assert "no vector for 'zzyzx'" in str(wrong[0].error)
    assert first in str(wrong[1].error)  # a near name
    assert wrong[2].error is None
    loaded: Any = predictor.artifact.model
    loaded.vectors.write(tmp_path / "vectors.txt")
    assert WordVectors.read(tmp_path / "vectors.txt").number(first) == loaded.vectors.number(first)
