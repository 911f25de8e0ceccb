"""Do columnar splits reach the collate as one chunk, whatever wraps them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.model import Batch, Key, Processor
from plait.task import examples_at, select
from plait.training.batches import Order, evaluation_batches, training_batches
from plait.training.gradient import Pace


class Column(Sequence[int]):
    """Numbers in an array; `take` gives a part that is an array still."""

    in_memory = True

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("an example was made one by one")

    def take(self, indices: Sequence[int]) -> Column:
        return Column(self.values[np.asarray(indices, dtype=np.int64)])


class Stack(Processor):
    """Values and the indices of their keys."""

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        assert isinstance(examples, Column)
        tensors = {"value": torch.from_numpy(examples.values), "key": torch.tensor([key.index for key in keys])}
        return Batch(tensors, count=len(examples), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Stack:
        return cls()


def test_a_columnar_split_is_collated_by_chunks_and_never_one_by_one() -> None:
    split = Column(np.arange(10) * 7)
    order = Order(examples=10, epochs=2, batch_size=4, seed=0)
    steps = training_batches(split, Stack(), order, start=0, workers=0, pin_memory=False)
    batches = [batch for step in steps for batch in step]
    assert [batch.size for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert all(torch.equal(batch["value"], batch["key"] * 7) for batch in batches)  # each with its own key
    judged = evaluation_batches(
        split, Stack(), batch_size=4, rank=1, world_size=2, workers=0, pin_memory=False
    )  # fmt: skip
    assert [chunk.values.tolist() for chunk, _ in judged] == [[28, 35, 42, 49], [56, 63]]  # type: ignore[attr-defined]


def test_a_selection_of_a_columnar_split_is_taken_from_it() -> None:
    part = select(Column(np.arange(10)), [9, 3, 5])
    assert examples_at(part, [2, 0]).values.tolist() == [5, 9]  # type: ignore[attr-defined]
    assert examples_at(["a", "b", "c"], [2, 0]) == ["c", "a"]


def test_a_rank_without_a_share_of_the_last_batch_borrows_what_its_layers_can_train_on() -> None:
    """Batch norm refuses an empty batch; what is borrowed counts nothing."""
    order = Order(examples=9, epochs=1, batch_size=8, seed=0, rank=1, world_size=2)
    *_, last = training_batches(Column(np.arange(9)), Stack(), order, start=0, workers=0, pin_memory=False)
    assert [(batch.size, batch.count) for batch in last] == [(1, 0)]
    assert last[0]["value"].tolist() == [order.permutation(0)[-1]]


@given(
    examples=st.integers(1, 60),
    batch_size=st.integers(4, 20),
    micro=st.none() | st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_any_number_of_processes_visits_the_same_units_in_the_same_order(
    examples: int, batch_size: int, micro: int | None, seed: int
) -> None:
    """Whatever units are, windows or packed blocks, they can be indexed, and their order knows no rank: a run can go on
    with another number of processes from any step."""
    for world_size in (1, 2, 3, 4):
        ranks = [
            Order(
                examples=examples, epochs=2, batch_size=batch_size, micro_batch_size=micro, seed=seed, rank=rank,
                world_size=world_size,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        start = ranks[0].steps_per_epoch // 2
        visited = [
            [index for plans in step for plan in plans if not plan.borrowed for index in plan.indices]
            for step in zip(*(order.steps(start) for order in ranks), strict=True)
        ]
        whole = [*ranks[0].permutation(0).tolist()], [*ranks[0].permutation(1).tolist()]
        cut = [part[first : first + batch_size] for part in whole for first in range(0, examples, batch_size)]
        assert visited == cut[start:]


def test_the_pace_counts_examples_and_terms_where_they_differ() -> None:
    pace = Pace()
    pace.add(2.0, 8, 8)
    assert pace.take() == {"examples_per_second": 4.0}
    pace.add(1.0, 8, 96.0)
    pace.add(3.0, 8, 104.0)
    assert pace.take() == {"examples_per_second": 4.0, "terms_per_second": 50.0}
    assert pace == Pace()
