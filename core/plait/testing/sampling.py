"""Do batches depend on nothing but the examples, their keys and the fitted preprocessing?"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import torch

from plait.model import Batch, Key, NeuralModel
from plait.randomness import seeded
from plait.testing.verdicts import Skipped, require

if TYPE_CHECKING:
    from plait.testing.cases import Trial


def batches(trial: Trial) -> None:
    """A batch is a function of examples and keys, and may be empty; preprocessing survives JSON and processes."""
    model = trial.model
    if not trial.fitted or not isinstance(model, NeuralModel):
        raise Skipped("the model has no batches: it is no NeuralModel")
    processor = model.processor
    units = processor.units(trial.train)
    count = min(4, len(units))
    examples, keys = [units[index] for index in range(count)], [Key(0, 1, index) for index in range(count)]

    def made(by: Any, seed: int) -> Batch:
        with seeded(seed):
            batch: Batch = by.collate(examples, keys, training=True)
        return batch

    first = made(processor, 1)
    require(
        _equal(first, made(processor, 2)),
        "the same examples with the same keys gave two different training batches",
        expected="Processor.collate draws all randomness from key.generator(), none from the global generators",
    )
    restored = type(processor).from_json(json.loads(json.dumps(processor.as_json())))
    require(
        _equal(first, made(restored, 1)),
        "after as_json and from_json the preprocessing makes another batch",
        expected="as_json gives the whole fitted state as JSON values",
    )
    copy = pickle.loads(pickle.dumps(processor))  # noqa: S301  # our own object: as loader processes get it
    require(_equal(first, made(copy, 1)), "a pickled copy makes another batch", expected="the processor is picklable")
    for size, batch in ((count, first), (0, processor.collate([], [], training=False))):
        lengths = {name: len(tensor) for name, tensor in batch.tensors.items() if len(tensor) != size}
        require(
            batch.size == size and not lengths and (batch.count > 0) == (size > 0),
            f"a batch of {size} has size {batch.size}, count {batch.count} and tensors of other lengths {lengths}",
            expected="Batch.size examples, count terms of the loss (0 where empty), and tensors [batch, ...], also for "
            "the empty batch that keeps an idle process in step",
        )
    answers = model.predict([])
    require(
        not len(answers),
        f"for no examples it predicts {len(answers)} answers",
        expected="forward and decode take the empty batch of an idle process",
    )


def _equal(one: Batch, other: Batch) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )
