"""What one rank hears of another's error, without any process: two threads stand for the ranks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from plait.engine.agreement import agree, heard, known_to_all, on_first, together, told_of
from plait.errors import DataError, EngineError, Interrupted, StorageError


class Ranks:
    """An engine's `gather` for threads."""

    def __init__(self, size: int) -> None:
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=10)

    def engine(self, rank: int) -> Any:
        ranks = self

        class Engine:
            world_size = len(ranks.values)

            def gather(self, value: Any) -> list[Any]:
                ranks.values[rank] = value
                ranks.barrier.wait()
                found = list(ranks.values)
                ranks.barrier.wait()
                return found

        engine = Engine()
        engine.rank = rank  # type: ignore[attr-defined]  # a class body does not see it
        return engine


def everywhere(do: Any, size: int = 3) -> list[Any]:
    """What `do(engine)` returns or raises on each rank."""
    ranks, found = Ranks(size), [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = do(ranks.engine(rank))
        except Exception as error:
            found[rank] = error  # type: ignore[call-overload]  # a list of anything

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_what_rank_0_answers_is_known_everywhere() -> None:
    assert everywhere(lambda engine: on_first(engine, lambda: {"rank": engine.rank})) == [{"rank": 0}] * 3


def test_an_error_of_one_rank_is_raised_on_all_in_its_own_class() -> None:
    def read(engine: Any) -> None:
        with together(engine):
            if engine.rank == 1:
                raise DataError("train.csv:3: no label", hint="add one", details=[{"line": 3}])

    found = everywhere(read)
    assert [type(each) for each in found] == [DataError] * 3
    assert {(each.message, each.hint, str(each.details)) for each in found} == {
        ("train.csv:3: no label", "add one", "[{'line': 3}]")
    }
    assert all(known_to_all(each) for each in found)  # so that under torchrun one of them tells the user
    assert not known_to_all(DataError("of one rank only"))


def test_an_error_of_no_class_of_ours_names_its_rank() -> None:
    def fail(engine: Any) -> None:
        agree(engine, ValueError("odd") if engine.rank == 2 else None)

    first, second, third = everywhere(fail)
    assert isinstance(first, EngineError)
    assert first.message == second.message == "rank 2 failed: ValueError: odd"
    assert isinstance(third, ValueError)


@pytest.mark.parametrize(
    "error", [StorageError("full", hint="make room"), Interrupted("stop", hint="go on", signal=15)]
)
def test_errors_survive_the_way(error: Any) -> None:
    found: Any = heard(told_of(error), 1)
    assert (type(found), found.message, found.hint, found.exit_code) == (
        type(error), error.message, error.hint, error.exit_code,
    )  # fmt: skip
