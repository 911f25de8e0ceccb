"""The gradient trainer against a loop written by hand, and against itself interrupted."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.errors import DataError, Interrupted, NonFiniteError, RecipeError
from plait.logs import Listeners
from plait.model import Key
from plait.training.batches import Order
from plait.training.optimization import GradientOptions, freeze, make_optimizer, schedule
from plait.weights import load_tensors
from tests.toys import Net, NetOptions, Point, PointProcessor, Points, points

QUIET = {"baselines": False, "report": False, "tensorboard": False}


def train(out: Path, *, data: Any = None, model: dict[str, Any] | None = None, **options: Any) -> plait.Run:
    """A short training of the toy network; `trainer` options by keyword."""
    resume = options.pop("resume", False)
    engine = options.pop("engine", None)
    settings = {"epochs": 4, "batch_size": 16, "log_every": 1, **options}
    return plait.train(
        Points, {"name": "toy/net", **(model or {})}, data or points(), seed=3, out=out, trainer=settings,
        engine=engine, output=QUIET, resume=resume, registry=plait.registry(Points, Net),
    )  # fmt: skip


def weights(run: plait.Run) -> dict[str, torch.Tensor]:
    return load_tensors(run.path / "model" / "model.safetensors")


def history(run: plait.Run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "speed")} for line in lines]


def assert_equal(first: plait.Run, second: plait.Run) -> None:
    """Weights, metrics and every logged number are equal bit for bit."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert history(first) == history(second)
    assert first.metrics == second.metrics


def by_hand(*, examples: list[Point], epochs: int, batch_size: int, clip: float | None, make: Any) -> Net:
    """The loop that a user would write: no Plait but for the order of examples, which is (seed, epoch)'s."""
    labels = ["a", "b", "c"]
    torch.manual_seed(3)
    model = Net(options=NetOptions(name="toy/net"), problem={"labels": labels}, processor=PointProcessor(labels))
    torch.manual_seed(3)
    optimizer = make(model)
    model.train()
    for epoch in range(epochs):
        order = np.random.default_rng((3, epoch)).permutation(len(examples))
        for first in range(0, len(examples), batch_size):
            chosen = [examples[i] for i in order[first : first + batch_size]]
            x = torch.tensor([each.x for each in chosen])
            y = torch.tensor([labels.index(str(each.label)) for each in chosen])
            loss = torch.nn.functional.cross_entropy(model.head(model.body(x)), y)
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.0}, lambda m: torch.optim.SGD(m.parameters(), 0.5)),
        ({"optimizer": "sgd", "learning_rate": 0.5}, lambda m: torch.optim.SGD(m.parameters(), 0.5, momentum=0.9)),
        ({"optimizer": "adam"}, lambda m: torch.optim.Adam(m.parameters(), 1e-3)),
        ({"optimizer": "adamw"}, lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0)),
        ({"optimizer": "rmsprop"}, lambda m: torch.optim.RMSprop(m.parameters(), 1e-3, momentum=0.9)),
    ],
)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_a_training_equals_the_hand_written_loop_bit_for_bit(
    tmp_path: Path, options: dict[str, Any], make: Any, clip: float | None
) -> None:
    data = {"train": points(72)}
    run = train(tmp_path / "run", data=data, schedule="constant", warmup=0, weight_decay=0, clip=clip, **options)
    expected = by_hand(examples=data["train"], epochs=4, batch_size=16, clip=clip, make=make).state_dict()
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, expected[name]), name


def test_decay_applies_to_matrices_only_and_penalties_are_what_they_say(tmp_path: Path) -> None:
    labels = ["a", "b", "c"]
    model = Net(options=NetOptions(name="toy/net"), problem={"labels": labels}, processor=PointProcessor(labels))
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    options = GradientOptions(optimizer="sgd", momentum=0.0, learning_rate=0.1, weight_decay=0.5, l1=0.2, l2=0.3)
    optimizer = make_optimizer(model, options)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        old = before[name]
        expected = old
        if parameter.ndim > 1:  # decoupled decay scales the weight; the penalties are gradients at the old weight
            expected = old * (1 - 0.1 * 0.5) - 0.1 * (0.2 * old.sign() + 0.3 * old)
        torch.testing.assert_close(parameter, expected)


def test_groups_by_name_have_their_own_rate_and_a_pattern_without_parameters_is_an_error() -> None:
    labels = ["a", "b", "c"]
    model = Net(options=NetOptions(name="toy/net"), problem={"labels": labels}, processor=PointProcessor(labels))
    options = GradientOptions.model_validate({"groups": {"head.*": {"learning_rate_scale": 10}}})
    scales = {group["scale"]: group["params"] for group in make_optimizer(model, options).param_groups}
    assert {id(each) for each in model.head.parameters()} <= {
        id(each)
        for group in make_optimizer(model, options).param_groups
        if group["scale"] == 10
        for each in group["params"]
    }
    assert set(scales) == {1.0, 10.0}
    with pytest.raises(RecipeError, match=r"'haed' names no trainable parameter") as raised:
        make_optimizer(model, GradientOptions.model_validate({"groups": {"haed": {}}}))
    assert "head" in str(raised.value.hint)


def test_freezing_keeps_parameters_and_batch_statistics(tmp_path: Path) -> None:
    run = train(tmp_path / "run", model={"freeze": ["body"]})
    torch.manual_seed(3)
    labels = ["a", "b", "c"]
    fresh = Net(options=NetOptions(name="toy/net"), problem={"labels": labels}, processor=PointProcessor(labels))
    trained = weights(run)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(trained[name], tensor) == name.startswith("body"), name
    with pytest.raises(RecipeError, match="no parameter is left"):
        freeze(fresh, ["*"])


@pytest.mark.parametrize("micro", [1, 3, 5, 16])
def test_micro_batches_mean_the_same_as_whole_batches(tmp_path: Path, micro: int) -> None:
    """Without batch norm's coupling of examples, accumulation only reorders sums."""
    options = {"optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 0.0, "epochs": 2}
    frozen = {"freeze": ["body"]}  # frozen batch norm uses its running statistics
    whole = weights(train(tmp_path / "whole", model=frozen, **options))
    parts = weights(train(tmp_path / "parts", model=frozen, micro_batch_size=micro, **options))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1.3e-6, atol=1e-7)


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("stop_at", [3, 10])  # the evaluation after step 10 is cut off and made up for
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, average: float | None
) -> None:
    """Dropout, key-drawn noise, batch norm, clipping, averaging, and another number of loader processes after."""
    options = {"average": average, "model": {"dropout": 0.3, "noise": 0.1}, "optimizer": "adamw"}
    straight = train(tmp_path / "straight", **options)

    from plait.logs import Listeners

    original = Listeners.stepped

    def stop_after(self: Listeners, step: int) -> None:
        original(self, step)
        if step == stop_at:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Listeners, "stepped", stop_after)
    with pytest.raises(Interrupted, match=f"interrupted after step {stop_at}; a checkpoint is saved") as raised:
        train(tmp_path / "stopped", **options)
    assert raised.value.exit_code == 143
    assert plait.Run.open(tmp_path / "stopped").status == "interrupted"
    monkeypatch.undo()
    resumed = train(tmp_path / "stopped", resume=True, workers=2, **options)
    assert resumed.status == "finished"
    assert_equal(resumed, straight)


def test_the_time_limit_stops_with_a_model_and_a_resume_goes_on(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight")
    stopped = train(tmp_path / "stopped", max_time=1e-6)
    assert (stopped.status, stopped.info["steps"]) == ("stopped", 1)
    assert "accuracy" in stopped.metrics["valid"]
    assert_equal(train(tmp_path / "stopped", resume=True), straight)


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path) -> None:
    first = train(tmp_path / "run")
    written = (tmp_path / "run" / "run.json").stat().st_mtime_ns
    assert train(tmp_path / "run", resume=True).document() == first.document()
    assert (tmp_path / "run" / "run.json").stat().st_mtime_ns == written


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight")
    stopped = train(tmp_path / "stopped")
    newest = sorted((stopped.path / "checkpoints").iterdir())[-1]
    shard = next(newest.glob("shard-*"))
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(damaged)
    stopped.update(status="failed")
    resumed = train(tmp_path / "stopped", resume=True)
    assert_equal(resumed, straight)
    assert "damaged checkpoint passed over" in (stopped.path / "log.txt").read_text()


def test_options_that_shape_the_result_may_not_change_on_resume(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    run.update(status="failed")
    with pytest.raises(RecipeError, match=r"trainer\.learning_rate: the run has 0\.001, now 0\.5") as raised:
        train(tmp_path / "run", resume=True, learning_rate=0.5)
    assert "model.from" in str(raised.value.hint)
    assert train(tmp_path / "run", resume=True, workers=1, keep_last=4).status == "finished"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 11: the loss is not finite on rank 0"):
        train(tmp_path / "run", model={"poison": 11})
    run = plait.Run.open(tmp_path / "run")
    assert run.status == "failed"
    assert max(each.name for each in (run.path / "checkpoints").iterdir()) == "step-00000010"


def test_an_example_that_cannot_be_read_ends_the_run_after_the_step_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, collated = PointProcessor.collate, iter(range(100))

    def collate(self: PointProcessor, *given: Any, training: bool) -> Any:
        if training and next(collated) == 3:
            raise DataError("broken.jpg cannot be read")
        return original(self, *given, training=training)

    monkeypatch.setattr(PointProcessor, "collate", collate)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(tmp_path / "run", save_every=1)
    assert max(each.name for each in (tmp_path / "run" / "checkpoints").iterdir()) == "step-00000003"


def test_skipped_steps_leave_the_weights_and_are_counted_in_a_row(tmp_path: Path) -> None:
    run = train(tmp_path / "run", model={"poison": 11}, max_skipped_steps=1)
    assert run.status == "finished"
    assert "step 11: the loss or a gradient is not finite" in (run.path / "log.txt").read_text()
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values())


def test_running_statistics_that_became_nan_stop_the_run(tmp_path: Path) -> None:
    """The step is skipped, but batch norm has seen its input: no later step makes that good."""
    data = {"train": [*points(63), Point((math.inf, 0.0, 0.0, 0.0), "a", "bad")], "valid": points(20, seed=9)}
    with pytest.raises(NonFiniteError, match=r"body\.1\.running_\w+ became NaN in the forward"):
        train(tmp_path / "run", data=data, max_skipped_steps=100)


def test_what_a_module_keeps_from_an_evaluation_can_be_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Net.forward

    def forward(self: Net, batch: Any) -> Any:
        if not self.training and "scale" not in self.__dict__:
            self.__dict__["scale"] = torch.ones(())  # as transformers keep their masks and rotations
        output = original(self, batch)
        return output._replace(loss=output.loss * self.__dict__.get("scale", 1.0))

    monkeypatch.setattr(Net, "forward", forward)
    assert train(tmp_path / "run").status == "finished"


def test_the_best_weights_are_what_the_run_ends_with(tmp_path: Path) -> None:
    data = {"train": points(64), "valid": points(200, seed=9), "test": points(200, seed=9)}
    run = train(tmp_path / "run", data=data, epochs=12, learning_rate=0.3, schedule="constant")
    judged = [line for line in history(run) if line["split"] == "valid"]
    best = max(line["metrics"]["accuracy"] for line in judged)
    assert run.metrics["test"]["accuracy"] == best
    assert len({line["metrics"]["accuracy"] for line in judged}) > 1  # else there is nothing to choose
    equal = [line for line in judged if line["metrics"]["accuracy"] == best]
    assert run.info["best_step"] == min(equal, key=lambda line: line["metrics"]["loss"])["step"]


def test_patience_ends_the_run_early_and_a_resume_does_not_go_on(tmp_path: Path) -> None:
    options = {"epochs": 60, "patience": 2, "learning_rate": 0.3, "schedule": "constant"}
    run = train(tmp_path / "run", **options)
    assert run.info["reason"] == "patience"
    assert run.info["steps"] < 60 * 5
    run.update(status="failed")
    again = train(tmp_path / "run", resume=True, **options)
    assert again.info["steps"] == run.info["steps"]


def test_no_epochs_make_a_run_of_the_weights_as_given(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    second = train(tmp_path / "second", model={"weights": None, "from": str(first.path)}, epochs=0)
    assert second.metrics == first.metrics
    for name, tensor in weights(first).items():
        assert torch.equal(weights(second)[name], tensor)


def test_fine_tuning_starts_where_the_earlier_run_ended(tmp_path: Path) -> None:
    first = train(tmp_path / "first", epochs=20)
    second = train(tmp_path / "second", model={"from": str(first.path), "hidden": 16}, epochs=1, learning_rate=1e-6)
    start = next(line for line in history(second) if line["split"] == "train")
    end = [line for line in history(first) if line["split"] == "train"][-1]
    assert start["metrics"]["loss"] < 1.5 * end["metrics"]["loss"] + 0.1


@given(
    examples=st.integers(1, 60), batch=st.integers(1, 20), micro=st.one_of(st.none(), st.integers(1, 20)),
    world=st.integers(1, 5), epochs=st.integers(1, 3), start=st.integers(0, 20),
)  # fmt: skip
def test_every_example_is_seen_once_an_epoch_on_any_number_of_ranks(
    examples: int, batch: int, micro: int | None, world: int, epochs: int, start: int
) -> None:
    batch = max(batch, world)
    orders = [
        Order(
            examples=examples,
            epochs=epochs,
            batch_size=batch,
            seed=7,
            micro_batch_size=micro,
            rank=rank,
            world_size=world,
        )
        for rank in range(world)
    ]
    steps = [list(order.steps(0)) for order in orders]
    assert all(len(each) == orders[0].total_steps for each in steps)
    seen: dict[int, list[int]] = {epoch: [] for epoch in range(epochs)}
    for at, plans in enumerate(zip(*steps, strict=True)):
        assert len({len(each) for each in plans}) == 1  # as many forwards on every rank
        assert all(plan.indices for each in plans for plan in each)
        together = [index for each in plans for plan in each if not plan.borrowed for index in plan.indices]
        single = Order(examples=examples, epochs=epochs, batch_size=batch, seed=7)
        assert together == [index for plan in next(single.steps(at)) for index in plan.indices]
        seen[at // orders[0].steps_per_epoch] += together
    assert all(sorted(each) == list(range(examples)) for each in seen.values())
    start = min(start, orders[0].total_steps)
    assert list(orders[-1].steps(start)) == steps[-1][start:]


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"trainer\.batch_size=2 is smaller than engine\.processes=3"):
        Order(examples=10, epochs=1, batch_size=2, seed=0, world_size=3)


@given(total=st.integers(1, 500), warmup=st.floats(0, 0.9), kind=st.sampled_from(["cosine", "linear", "constant"]))
def test_schedules_warm_up_then_never_rise(total: int, warmup: float, kind: Any) -> None:
    options = GradientOptions(schedule=kind, warmup=warmup)
    values = [schedule(step, total=total, steps_per_epoch=10, options=options) for step in range(total)]
    peak = round(warmup * total)
    assert all(0 <= value <= 1 for value in values)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if peak < total:
        assert values[peak] == 1.0


def test_the_step_schedule_drops_by_epochs() -> None:
    options = GradientOptions(schedule="step", warmup=0, step_epochs=2, step_factor=0.1)
    values = [schedule(step, total=60, steps_per_epoch=10, options=options) for step in (0, 19, 20, 39, 40)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_key_draws_its_own_numbers() -> None:
    drawn = {tuple(Key(*key).generator().integers(0, 2**60, 2)) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    assert len(drawn) == 4
    assert math.isclose(Key(0, 0, 0).generator().random(), Key(0, 0, 0).generator().random())
