"""Are rankings exact, judged as a slow reference judges them, and made from what a user asks?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engine.local import LocalEngine
from plait.errors import DataError, InputError
from plait.model import IterativeModel
from plait.options import EngineOptions, ModelOptions
from plait_recommendation.closed import matrices
from plait_recommendation.closed.ease import Ease, EaseOptions
from plait_recommendation.closed.ials import Ials, IalsOptions
from plait_recommendation.closed.item_knn import ItemKnn, ItemKnnOptions
from plait_recommendation.closed.popularity import Popularity
from plait_recommendation.closed.ridge import Ridge, blocks
from plait_recommendation.demo_data import synthetic_interactions
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, Ranking, RankingSplit
from plait_recommendation.ranking.evaluation import RankingEvaluator
from plait_recommendation.ranking.options import RankingOptions
from plait_recommendation.ranking.queries import NO_REASONS, Queries
from plait_recommendation.ranking.task import RankingTask
from plait_recommendation.ranking.topk import rank, top_k

ENGINE = LocalEngine(EngineOptions(device="cpu"))


@pytest.fixture(scope="module")
def task() -> RankingTask:
    return RankingTask(options=RankingOptions(), seed=0)


@pytest.fixture(scope="module")
def splits(task: RankingTask) -> Any:
    return task.read(synthetic_interactions())


@pytest.fixture(scope="module")
def problem(task: RankingTask, splits: Any) -> Any:
    return task.problem(splits)


def fitted(kind: type[IterativeModel], options: ModelOptions, problem: Any, train: Any, iterations: int = 15) -> Any:
    model = kind.create(options=options, problem=problem, train=train, seed=0)
    state = model.start(train, ENGINE)
    for _ in range(iterations):
        state, progress = model.step(train, state, ENGINE)
        if progress.converged:
            break
    model.finish(state)
    return model


@pytest.fixture(scope="module")
def ease(problem: Any, splits: Any) -> Any:
    return fitted(Ease, EaseOptions(name="ease", regularization=20), problem, splits.train)


def slow(items: list[int], targets: set[int], k: int) -> dict[str, float]:
    """The metrics of one user, as their definitions read."""
    hits = [item in targets for item in items[:k]]
    found = sum(hits)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(targets))))
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    return {
        f"ndcg@{k}": sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit) / ideal,
        f"recall@{k}": found / len(targets), f"precision@{k}": found / k, f"hr@{k}": float(found > 0),
        f"mrr@{k}": 1 / (hits.index(True) + 1) if found else 0.0,
        f"map@{k}": sum(precisions) / min(k, len(targets)),
    }  # fmt: skip


CASES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 29), max_size=25, unique=True), st.sets(st.integers(0, 29), min_size=1, max_size=12)
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(CASES)
@settings(max_examples=80, deadline=None)
def test_metrics_equal_a_slow_reference(cases: list[tuple[list[int], set[int]]]) -> None:
    evaluator = RankingEvaluator(np.arange(30), cutoffs=(3, 10, 20))
    for items, targets in cases:  # one update each: parts are joined
        ranking = Ranking(np.array(items, np.int32), np.zeros(len(items), np.float32))
        evaluator.update([ranking], [Case(0, None, np.array(sorted(targets), np.int32))])
    found = evaluator.compute()
    for k in (3, 10, 20):
        expected = [slow(items, targets, k) for items, targets in cases]
        for name in expected[0]:
            assert found[name] == pytest.approx(np.mean([each[name] for each in expected]), abs=1e-12)
        shown = [item for items, _ in cases for item in items[:k]]
        exposure = np.bincount(shown, minlength=30)
        if shown:
            gaps = np.abs(exposure[:, None] - exposure).sum() / (2 * 30 * exposure.sum())
            assert found[f"gini@{k}"] == pytest.approx(gaps, abs=1e-12)
            assert found[f"coverage@{k}"] == len(set(shown)) / 30
            assert found[f"popularity@{k}"] == pytest.approx(np.mean(shown), abs=1e-12)
            bits = [-math.log2(max(item, 1) / sum(range(30))) for item in shown]
            assert found[f"novelty@{k}"] == pytest.approx(np.mean(bits), abs=1e-12)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_equal_scores_stand_in_the_order_of_ids(rows: int, columns: int, k: int, seed: int) -> None:
    scores = torch.randint(-1, 3, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()
    scores[scores < 0] = -torch.inf
    values, found = top_k(scores, k)
    for row in range(rows):
        expected = sorted(range(columns), key=lambda item: (-scores[row, item], item))[:k]
        assert found[row].tolist() == expected
        assert values[row].tolist() == scores[row, expected].tolist()


def test_columns_and_objects_are_judged_alike(task: RankingTask, splits: Any, problem: Any, ease: Any) -> None:
    columns, objects = (task.evaluator(problem, splits.test) for _ in range(2))
    columns.update(ease.predict(splits.test), splits.test)
    cases = [splits.test[index] for index in range(len(splits.test))]
    objects.update(list(ease.predict(cases)), cases)
    assert columns.compute() == objects.compute()
    assert columns.table().equals(objects.table())
    table = columns.table()
    plain = columns.measure(table, np.ones((1, len(table))))
    assert plain[0] == pytest.approx(columns.compute()["ndcg@10"], abs=1e-12)


def test_ranks_join_their_parts(task: RankingTask, splits: Any, problem: Any, ease: Any) -> None:
    class Second:
        world_size = 2

        def __init__(self, first: Any) -> None:
            self.first = first

        def gather(self, value: Any) -> list[Any]:
            import base64

            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, self.first.schema) as writer:
                writer.write_table(self.first)
            return [base64.b64encode(sink.getvalue()).decode("ascii"), value]

    whole, first, second = (task.evaluator(problem, splits.test) for _ in range(3))
    whole.update(ease.predict(splits.test), splits.test)
    for evaluator, rows in ((first, range(70)), (second, range(70, 200))):
        part = splits.test.take(rows)
        evaluator.update(ease.predict(part), part)
    second.reduce(Second(first.table()))  # type: ignore[arg-type]  # as much of an engine as is asked
    assert second.compute() == whole.compute()


def test_ease_solves_what_steck_writes(splits: Any, problem: Any, ease: Any) -> None:
    x = np.zeros((len(problem["users"]), len(problem["items"])))
    x[splits.train.interactions.users, splits.train.interactions.items] = 1
    inverse = np.linalg.inv(x.T @ x + 20 * np.eye(x.shape[1]))
    expected = inverse / -np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(ease.weights.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(ease.score(splits.train.histories).numpy(), x @ expected, atol=1e-4)


def test_item_knn_is_the_shrunk_cosine(splits: Any, problem: Any) -> None:
    model = fitted(ItemKnn, ItemKnnOptions(name="knn", neighbours=7, shrinkage=3), problem, splits.train)
    x = np.zeros((len(problem["users"]), len(problem["items"])))
    x[splits.train.interactions.users, splits.train.interactions.items] = 1
    size = np.sqrt(x.sum(axis=0))
    alike = (x.T @ x) / (np.outer(size, size) + 3 + 1e-12)
    np.fill_diagonal(alike, 0)
    for item in range(len(alike)):
        best = np.lexsort((np.arange(len(alike)), -alike[item].astype(np.float32)))[:7]
        np.testing.assert_allclose(model.similar(np.array([item]))[0, best].numpy(), alike[item][best], rtol=1e-6)
        assert int((model.similar(np.array([item])) > 0).sum()) <= 7


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_half_step_is_the_ridge_regression_of_rendle(exponent: float) -> None:
    draw = np.random.default_rng(0)
    others = torch.from_numpy(draw.normal(size=(9, 4))).float()
    lists = Lists(np.array([0, 3, 3, 8]), np.array([1, 4, 8, 0, 2, 3, 5, 7], np.int32))
    ridge = Ridge.of(others, 0.3, 0.05, exponent)
    exact = ridge.solve(lists)
    h = others.numpy().astype(float)
    loss = 0.0
    for row in range(3):
        own = h[lists[row]]
        scale = 0.05 * (len(own) + 0.3 * 9) ** exponent
        matrix = own.T @ own + 0.3 * h.T @ h + scale * np.eye(4)
        expected = np.linalg.solve(matrix, own.sum(axis=0)) if len(own) else np.zeros(4)
        np.testing.assert_allclose(exact[row].numpy(), expected, rtol=1e-4, atol=1e-5)
        fits = ((own @ expected - 1) ** 2).sum() + 0.3 * ((h @ expected) ** 2).sum()
        loss += fits + scale * expected @ expected if len(own) else 0.0
    parts = list(blocks(lists, count=9, width=4))
    reached, total = ridge.improve(parts, torch.zeros(3, 4), steps=4)
    np.testing.assert_allclose(reached.numpy(), exact.numpy(), rtol=1e-3, atol=1e-4)
    assert total == pytest.approx(loss, rel=1e-4)
    weights = ridge.weigh(lists[2], np.array([6], np.int32))
    assert float(weights.sum()) == pytest.approx(float(exact[2] @ others[6]), rel=1e-4)


def test_models_beat_popularity_and_ials_starts_from_a_run(
    task: RankingTask, splits: Any, problem: Any, ease: Any
) -> None:
    def ndcg(model: Any) -> float:
        evaluator = task.evaluator(problem, splits.test)
        evaluator.update(model.predict(splits.test), splits.test)
        return evaluator.compute()["ndcg@10"]

    popular = fitted(Popularity, ModelOptions(name="popularity"), problem, splits.refit)
    options = IalsOptions(name="ials", factors=16)
    ials = fitted(Ials, options, problem, splits.refit)
    assert min(ndcg(ease), ndcg(ials)) > 1.5 * ndcg(popular)
    again = Ials.create(options=options, problem=problem, train=splits.refit, seed=9)
    assert again.start_from(ials) == ["items that are new, and start at random: 0 of 120"]
    _, progress = again.step(splits.refit, again.start(splits.refit, ENGINE), ENGINE)
    fresh = Ials.create(options=options, problem=problem, train=splits.refit, seed=9)
    _, from_nothing = fresh.step(splits.refit, fresh.start(splits.refit, ENGINE), ENGINE)
    assert progress.metrics["loss"] < from_nothing.metrics["loss"]
    with pytest.raises(TypeError, match=r"model\.factors=16"):
        again.start_from(ease)


def test_new_interactions_are_taken_in_by_two_iterations_from_a_run(tmp_path: Path) -> None:
    events = synthetic_interactions().interactions
    early = events.slice(0, len(events) * 3 // 4)  # in the order of time; later there are new users
    model, quiet = {"name": "recommendation/ials", "factors": 16}, {"report": False, "baselines": False}

    def train(name: str, data: Any, iterations: int, **more: Any) -> plait.Run:
        return plait.train(
            "recommendation/top-n", {**model, **more}, data, out=tmp_path / name, output=quiet,
            trainer={"iterations": iterations},
        )  # fmt: skip

    old = train("old", early, 15)
    taken, anew, whole = (
        train("taken", events, 2, **{"from": str(old.path)}), train("anew", events, 2), train("whole", events, 15)
    )  # fmt: skip
    assert "model.from: items that are new, and start at random: 0 of 120" in taken.info["notes"]
    reached = [run.metrics["test"]["ndcg@10"] for run in (anew, taken, whole)]
    assert reached[0] < reached[1]
    assert reached[1] > 0.9 * reached[2]


def test_questions_are_answered(task: RankingTask, splits: Any, problem: Any, ease: Any) -> None:
    def ask(**inputs: Any) -> Any:
        return task.present(ease.predict([task.parse(inputs, problem)])[0], problem)

    user = splits.train[0]
    seen = set(task._ids(problem)[1].take(user.history))
    known = ask(user=user.id)
    assert len(known.prediction) == 20
    assert not seen & set(known.prediction)
    assert list(known.scores.values()) == sorted(known.scores.values(), reverse=True)
    folded = ask(history=task._ids(problem)[1].take(user.history), n=5)
    assert folded.prediction == known.prediction[:5]
    narrow = ask(user=user.id, allowed=known.prediction[3:6], excluded=[known.prediction[4]])
    assert narrow.prediction == [known.prediction[3], known.prediction[5]]
    assert "i007" not in ask(item="i007", n=3).prediction
    assert ask(item="i007", n=1).prediction[0] in ("i006", "i008")  # the parts of a series before and after
    stranger = ask(user="nobody", n=3)
    counts = np.bincount(splits.train.interactions.items)
    assert stranger.prediction["items"] == [problem["items"][at] for at in np.lexsort((np.arange(120), -counts))[:3]]
    assert "user 'nobody' is not known" in stranger.prediction["notes"]
    odd = ask(history=["i001", "nothing"], n=2, explain=1)
    assert odd.prediction["notes"] == ["history: items that are not known: 'nothing'"]
    assert [reason[0]["item"] for reason in odd.prediction["reasons"]] == ["i001", "i001"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "neither a user"),
        ({"user": 1.5}, "'user' must be an id"),
        ({"user": "u001", "item": "i001"}, "not both"),
        ({"history": "i001"}, "must be a list"),
        ({"history": [None]}, "no item id"),
        ({"user": "u001", "n": 0}, "'n' must be a whole number"),
        ({"users": "u001"}, "no input 'users'"),
    ],
)
def test_wrong_questions_are_named(task: RankingTask, problem: Any, inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        task.parse(inputs, problem)


def test_counting_who_has_what_leaves_the_order_of_histories() -> None:
    lists = Lists(np.array([0, 3, 5]), np.array([4, 1, 4, 3, 0], np.int32))
    assert matrices.binary(lists, 5).toarray().tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    assert lists.items.tolist() == [4, 1, 4, 3, 0]


def test_what_does_not_fit_in_memory_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "available_memory", lambda: 2**30)
    problem = {"items": list(range(100_000)), "users": [], "cutoffs": [10]}
    with pytest.raises(DataError, match=r"EASE on 100,000 items needs 223\.5 GiB of memory; 1\.0 GiB are free"):
        Ease.create(options=EaseOptions(name="ease"), problem=problem, train=None, seed=0)
    with pytest.raises(DataError, match="item-kNN with 100,000 neighbours"):
        ItemKnn.create(options=ItemKnnOptions(name="knn", neighbours=10**6), problem=problem, train=None, seed=0)


def test_a_run_is_fitted_again_on_train_and_valid(tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": "recommendation/ease", "data": "synthetic-interactions"}
    run = plait.train("recommendation/top-n", out=tmp_path / "run", **given)
    assert run.info["refit"]
    loaded = plait.load(run.path)
    counts = np.asarray(loaded.artifact.problem["counts"])  # type: ignore[union-attr]
    model: Any = loaded.artifact.model  # type: ignore[union-attr]
    assert model.memory.counts.sum() == counts.sum() + 200  # each user's valid event
    assert plait.evaluate(run.path).metrics == run.metrics["test"]
    other = plait.evaluate(run.path, data=[("new", f"i{item:03}", 1.0, item) for item in (0, 1, 2)])
    assert other.examples == 1
    assert loaded("u001").prediction == loaded({"user": "u001"}).prediction


def test_held_out_users_are_served_by_fold_in(ease: Any, splits: Any) -> None:
    strangers = RankingSplit(
        users=np.full(len(splits.test), -1, np.int32), histories=splits.test.histories, targets=splits.test.targets,
        ids=splits.test.ids,
    )  # fmt: skip
    np.testing.assert_array_equal(ease.predict(strangers).items, ease.predict(splits.test).items)


def test_reasons_are_given_to_whoever_asks_and_to_nobody_else(ease: Any, task: RankingTask, problem: Any) -> None:
    asked: list[dict[str, Any]] = [{"user": "u001"}, {"user": "u001", "n": 3, "explain": 2}]
    plain, explained = [task.present(each, problem) for each in ease.predict([task.parse(a, problem) for a in asked])]
    assert plain.prediction == list(plain.scores)
    assert explained.prediction["items"] == plain.prediction[:3]
    assert [len(each) for each in explained.prediction["reasons"]] == [2, 2, 2]
    queries = Queries.of([task.parse(each, problem) for each in asked], ease.memory)
    assert rank(torch.zeros(2, 120), queries, 3).notes == [(), (NO_REASONS,)]  # as networks answer
