"""A model without numbers is the model otherwise: names, shapes, ties, groups, buffers; and becomes it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import plait
from plait.artifact import load_model
from plait.engine.deferred import give_memory, has_no_numbers, made_without_weights, stand_in
from plait.preparing import _take_over
from plait.training.optimization import GradientOptions, freeze, make_optimizer
from tests.core.engine_cases import Awkward
from tests.core.test_gradient import train
from tests.toys import Net, Points


def test_parameters_have_everything_but_numbers() -> None:
    whole, made = Awkward(), made_without_weights(Awkward)
    assert all(each.is_meta for each in made.parameters())
    assert [(name, each.shape, each.requires_grad) for name, each in made.named_parameters()] == [
        (name, each.shape, each.requires_grad) for name, each in whole.named_parameters()
    ]
    assert made.out.weight is made.table.weight
    assert not made.seen.is_meta
    assert made.parameter_groups() == whole.parameter_groups()
    assert freeze(made, ["body"]) == freeze(whole, ["body"])
    assert not nn.Linear(2, 2).weight.is_meta  # only inside


def test_what_holds_a_parameter_keeps_it_when_it_gets_its_memory() -> None:
    made = made_without_weights(Awkward)
    optimizer = make_optimizer(made, GradientOptions())
    before = [id(each) for each in made.parameters()]
    stand_in(made)
    for parameter in made.parameters():
        give_memory(parameter, torch.device("cpu"))
    made.load_state_dict(Awkward().state_dict())
    assert [id(each) for each in made.parameters()] == before
    assert {id(each) for group in optimizer.param_groups for each in group["params"]} <= set(before)
    assert made.out.weight is made.table.weight
    torch.testing.assert_close(made.state_dict(), Awkward().state_dict(), rtol=0, atol=0)


class Curious(nn.Module):
    """Looks at its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.largest = float(self.inner.weight.detach().abs().max())


@pytest.mark.parametrize(("make", "said"), [(Curious, "meta"), (lambda: nn.LSTM(2, 2), "recurrent layers")])
def test_what_cannot_be_made_so_is_made_whole_and_that_is_logged(
    make: type[nn.Module], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="plait"):
        made = made_without_weights(make)
    assert not any(each.is_meta for each in made.parameters())
    assert said in caplog.text


def test_a_run_to_start_from_needs_no_numbers_either(tmp_path: Path) -> None:
    """At ZeRO 3, above rank 0: the notes are those of a model that was read whole."""
    registry = plait.registry(Points, Net)
    run = train(tmp_path / "run", epochs=1)

    def read() -> Any:
        return load_model(run.path / "model", registry).model

    earlier = made_without_weights(read)
    assert has_no_numbers(earlier)
    wider = read().options.model_copy(update={"hidden": 32})
    one = Net.build(options=wider, problem=earlier.problem, processor=earlier.processor, seed=1)
    noted = one.start_from(read())
    other = made_without_weights(
        lambda: Net.build(options=wider, problem=earlier.problem, processor=earlier.processor, seed=1)
    )
    assert _take_over(other, earlier, lambda: pytest.fail("read whole")) == noted != []
    assert has_no_numbers(other)
    whole = Net.build(options=read().options, problem=earlier.problem, processor=earlier.processor, seed=1)
    assert _take_over(whole, earlier, read) == []  # it has numbers, and gets those of the run
    torch.testing.assert_close(whole.state_dict(), read().state_dict(), rtol=0, atol=0)


def test_another_error_is_not_taken_for_a_reason() -> None:
    def broken() -> nn.Module:
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        made_without_weights(broken)
