"""Batch norm over the examples of all processes: what it computes, and what it leaves as it was."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plait.engine.activations import checkpoint_activations
from plait.engine.batch_norm import batch_norms, share_batch_norm
from plait.engine.peers import Peers
from tests.core.crossing_cases import Noisy, together

SIZES = [[5, 8], [4, 4, 5], [12, 1, 0]]
"""Examples of each process; one without any borrows the first one's."""


def network(kind: str) -> nn.Sequential:
    """Two layers of batch norm, so that the second one's gradients go through the first one's statistics."""
    torch.manual_seed(1)
    if kind == "1d":
        return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=None), nn.Tanh(), nn.BatchNorm1d(4))
    if kind == "2d":
        return nn.Sequential(nn.Conv2d(3, 4, 3), Noisy(4), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, affine=False))
    return nn.Sequential(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.Tanh(), nn.BatchNorm3d(4, track_running_stats=False))


SHAPES = {"1d": (13, 6), "2d": (13, 3, 6, 5), "3d": (13, 1, 3, 4, 5)}


def fitted(model: nn.Module, inputs: Tensor, peers: Peers | None, whole: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network after forward and backward on one process's part, its answers, and the gradient of its inputs."""
    model, inputs = deepcopy(model), inputs.clone().requires_grad_()
    if peers is not None:
        share_batch_norm(model, peers)
    answers = model(inputs)
    weight = 0.0 if peers is not None and peers.borrowed else 1.0
    (weight * (answers + answers.square() * answers).sum() / whole).backward()
    assert inputs.grad is not None
    return model, answers.detach(), inputs.grad


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_processes_normalise_as_one_does(kind: str, sizes: list[int], dtype: torch.dtype) -> None:
    """Answers, gradients and running statistics."""
    inputs = torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(0), dtype=dtype) + 1
    made = network(kind).to(dtype)
    model, answers, slopes = fitted(made, inputs, None, len(inputs))
    parts = torch.split(inputs, sizes)

    def act(peers: Peers) -> Any:
        peers.borrowed = not sizes[peers.rank]
        return fitted(made, parts[0 if peers.borrowed else peers.rank], peers, len(inputs))

    found = together(len(sizes), act)
    close = {"rtol": 1e-10, "atol": 1e-10} if dtype is torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    kept = [each for each, size in zip(found, sizes, strict=True) if size]
    torch.testing.assert_close(torch.cat([each[1] for each in kept]), answers, **close)
    torch.testing.assert_close(torch.cat([each[2] for each in kept]), slopes, **close)
    for name, parameter in model.named_parameters():
        total = sum(dict(each[0].named_parameters())[name].grad for each in found)
        torch.testing.assert_close(total, parameter.grad, **close)
    for name, buffer in model.named_buffers():
        for each in found:  # an idle process too
            torch.testing.assert_close(dict(each[0].named_buffers())[name], buffer, **close)


def test_a_mean_of_a_thousand_deviations_spoils_no_variance() -> None:
    """As a mean of squares less the squared mean would: float32 keeps seven digits."""
    values = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 1000

    def act(peers: Peers) -> Any:
        layer = nn.BatchNorm1d(2)
        share_batch_norm(layer, peers)
        layer(torch.split(values, [70, 30])[peers.rank])
        return layer.running_var

    for variance in together(2, act):
        torch.testing.assert_close(variance, 0.9 + 0.1 * values.double().var(0).float(), rtol=1e-5, atol=0)


def test_the_statistics_are_float32_where_the_values_are_bfloat16() -> None:
    values = (torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 4).bfloat16()

    def act(peers: Peers) -> Any:
        layer = nn.BatchNorm1d(3)
        share_batch_norm(layer, peers)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(values[peers.rank :: 2]), layer.running_var

    for answer, variance in together(2, act):
        assert answer.dtype is torch.bfloat16
        torch.testing.assert_close(variance, 0.9 + 0.1 * values.float().var(0), rtol=1e-6, atol=1e-6)


def test_the_layers_stay_what_they_are() -> None:
    """Names of weights, the class, and all of evaluation: so a model is saved, exported and loaded without knowing."""
    plain, shared = network("2d"), network("2d")
    share_batch_norm(shared, Peers(rank=0, size=2))  # evaluation asks nobody: there is no process group here
    assert [type(each) for each in shared] == [type(each) for each in plain]
    assert list(shared.state_dict()) == list(plain.state_dict())
    values = torch.randn(4, 3, 6, 5)
    assert torch.equal(shared.eval()(values), plain.eval()(values))


def test_one_value_in_all_has_no_variance_and_every_process_says_so() -> None:
    def act(peers: Peers) -> None:
        layer = nn.BatchNorm1d(3)
        share_batch_norm(layer, peers)
        peers.borrowed = peers.rank == 1
        layer(torch.randn(1, 3))

    assert ["more than 1 value per channel" in str(each) for each in together(2, act)] == [True, True]


def test_a_layer_that_spares_a_single_value_counts_the_others_too() -> None:
    """As the speech networks do with one frame: its own is no variance, and with the other processes' it is."""

    class Careful(nn.BatchNorm1d):
        def forward(self, values: Tensor) -> Tensor:
            if len(values) > 1 or not self.training:
                return super().forward(values)
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def act(peers: Peers) -> Any:
        layer = Careful(3)
        share_batch_norm(layer, peers)
        return layer(torch.split(values, [3, 1])[peers.rank])

    torch.testing.assert_close(torch.cat(together(2, act)), nn.BatchNorm1d(3)(values))


def test_what_is_frozen_whole_or_no_batch_norm_is_not_counted() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3).requires_grad_(False), nn.BatchNorm1d(3, affine=False))
    assert len(batch_norms(model)) == 2
    assert not batch_norms(nn.LayerNorm(3))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_activations_that_are_computed_again_count_once(momentum: float | None) -> None:
    def after(again: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=momentum)) for _ in "ab")
        model = nn.Sequential(*blocks)
        model.register_module("blocks", blocks)
        if again:
            assert checkpoint_activations(blocks_of(blocks)) == 2
        for _ in range(3):
            hidden = torch.randn(8, 4)
            for block in blocks:
                hidden = block(hidden)
            hidden.square().sum().backward()
        return {**blocks.state_dict(), **{name: each.grad for name, each in blocks.named_parameters()}}

    once, twice = after(False), after(True)
    for name, tensor in once.items():
        assert torch.equal(twice[name], tensor), name


def blocks_of(blocks: nn.ModuleList) -> nn.Module:
    model = nn.Module()
    model.blocks = blocks
    return model
