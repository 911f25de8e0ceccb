"""EM against enumeration and hmmlearn, iteration by iteration; what becomes of states that die; splits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hmm_examples import enumerate_paths, random_bank, random_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plait_speech.hmm.bank import HmmBank, Topology
from plait_speech.hmm.estimation import Dead, Rules, maximize, split, variance_floor
from plait_speech.hmm.inference import score
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.reference import to_hmmlearn
from plait_speech.hmm.training import Corpus, Statistics, expect, likelihood, segment

TOPOLOGIES: tuple[Topology, ...] = ("left-right", "bakis", "ergodic")
DOUBLE = torch.float64


def corpus_of(frames: list[Tensor], labels: list[int], dtype: torch.dtype = DOUBLE) -> Corpus:
    return Corpus.of(frames, labels, 2, dtype)


def counted(bank: HmmBank, frames: list[Tensor], labels: list[int], *, best: bool = False) -> dict[str, np.ndarray]:
    """Expected starts, transitions and frames of each state, by enumeration."""
    starts = np.zeros((bank.models, bank.states))
    moves, visits = np.zeros((bank.models, bank.states, bank.states)), starts.copy()
    for own, label in zip(frames, labels, strict=True):
        every = enumerate_paths(bank, label, own)
        if best:
            every = dict([max(every.items(), key=lambda each: each[1])])
        total = np.logaddexp.reduce(list(every.values()))
        for path, value in every.items():
            share = np.exp(value - total)
            starts[label, path[0]] += share
            for state in path:
                visits[label, state] += share
            for one, other in pairwise(path):
                moves[label, one, other] += share
    return {"starts": starts, "moves": moves, "visits": visits}


def dense(bank: HmmBank, arcs: Tensor) -> np.ndarray:
    if bank.offsets is None:
        return arcs.numpy()
    matrix = np.zeros((bank.models, bank.states, bank.states))
    for band, offset in enumerate(bank.offsets):
        for state in range(bank.states - offset):
            matrix[:, state, state + offset] = arcs[:, band, state]
    return matrix


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(TOPOLOGIES), st.integers(0, 99), st.booleans(), st.booleans())
def test_expected_counts_are_those_of_enumeration(topology: Topology, seed: int, last: bool, best: bool) -> None:
    bank = random_bank(seed, topology, last=last)
    frames, labels = random_frames(seed, [3, 5, 4, 3, 4]), [1, 0, 1, 1, 0]
    found = expect(bank, corpus_of(frames, labels), "viterbi" if best else "baum-welch")
    wanted = counted(bank, frames, labels, best=best)
    np.testing.assert_allclose(found.start.numpy(), wanted["starts"], atol=1e-10)
    np.testing.assert_allclose(dense(bank, found.arcs), wanted["moves"], atol=1e-10)
    np.testing.assert_allclose(found.weight.sum(-1).numpy(), wanted["visits"], atol=1e-10)
    sums = [sum(each.sum(0) for each, label in zip(frames, labels, strict=True) if label == own) for own in (0, 1)]
    np.testing.assert_allclose(found.first.sum((1, 2)).numpy(), torch.stack(sums).numpy(), atol=1e-9)  # type: ignore[arg-type]  # never 0


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(TOPOLOGIES), st.integers(0, 99), st.sampled_from(["baum-welch", "viterbi"]), st.integers(1, 3))
def test_em_never_loses_likelihood_and_never_gives_nan(
    topology: Topology, seed: int, align: Any, mixtures: int
) -> None:
    bank = random_bank(seed, topology, mixtures=mixtures)
    corpus = corpus_of(random_frames(seed, [1, 2, 9, 6]), [0, 1, 0, 1])
    rules, values = Rules(floor=torch.full((2,), 0.1, dtype=DOUBLE)), []
    for _ in range(8):
        found = expect(bank, corpus, align)
        assert float(likelihood(bank, corpus, align)) == pytest.approx(float(found.log_likelihood), rel=1e-12)
        bank, _ = maximize(bank, found, rules)
        values.append(float(found.log_likelihood))
        assert not any(tensor.isnan().any() for tensor in bank.tensors().values())
    assert all(later >= before - 1e-9 * abs(before) for before, later in pairwise(values))


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mixtures", [1, 2])
def test_ten_iterations_are_hmmlearns(topology: Topology, mixtures: int) -> None:
    pytest.importorskip("hmmlearn")
    lengths, labels = [1, *range(12, 52)], [index % 2 for index in range(41)]
    frames = random_frames(21, lengths, 3)
    bank = random_bank(21, topology, states=3, mixtures=mixtures, dims=3)
    bank = replace(bank, mean=bank.mean / 2, variance=bank.variance + 1)  # hmmlearn has no floor: no mixture may die
    rules = Rules(old_means=mixtures > 1)
    ours: dict[torch.dtype, list[float]] = {torch.float64: [], torch.float32: []}
    fitted = {}
    for dtype, values in ours.items():
        now, corpus = bank.to(dtype), corpus_of(frames, labels, dtype)
        for _ in range(10):
            found = expect(now, corpus)
            now, _ = maximize(now, found, rules)
            values.append(float(found.log_likelihood))
        fitted[dtype] = now
    theirs = np.zeros(10)
    for model in range(2):
        reference = to_hmmlearn(bank, model, iterations=10)
        own = [each.numpy() for each, label in zip(frames, labels, strict=True) if label == model]
        reference.fit(np.concatenate(own), [len(each) for each in own])
        theirs += reference.monitor_.history
        now = fitted[torch.float64]
        np.testing.assert_allclose(now.mean[model].numpy().squeeze(), reference.means_.squeeze(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(now.transitions()[model].numpy(), reference.transmat_, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(now.log_start[model].exp().numpy(), reference.startprob_, rtol=1e-9, atol=1e-9)
        variance = reference.covars_ if mixtures > 1 else reference._covars_
        np.testing.assert_allclose(now.variance[model].numpy().squeeze(), variance.squeeze(), rtol=1e-9, atol=1e-9)
        weight = reference.weights_ if mixtures > 1 else np.ones((3, 1))
        np.testing.assert_allclose(now.log_weight[model].exp().numpy(), weight, rtol=1e-9, atol=1e-9)
        single = fitted[torch.float32]  # deviations are of order 1: 1e-5 of them is the bound
        np.testing.assert_allclose(single.mean[model].numpy(), now.mean[model].numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(single.variance[model].numpy(), now.variance[model].numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(single.transitions()[model], now.transitions()[model], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[torch.float64], theirs, rtol=1e-9)
    np.testing.assert_allclose(ours[torch.float32], theirs, rtol=1e-5)


def test_exact_em_is_not_hmmlearns_old_means() -> None:
    bank, corpus = random_bank(1), corpus_of(random_frames(1, [30, 30]), [0, 1])
    found = expect(bank, corpus)
    exact, _ = maximize(bank, found)
    old, _ = maximize(bank, found, Rules(old_means=True))
    assert torch.equal(exact.mean, old.mean)
    assert (old.variance > exact.variance).all()
    assert likelihood(exact, corpus) > found.log_likelihood


def test_a_state_that_no_frame_is_left_for_keeps_its_last_good_parameters_and_is_named() -> None:
    bank = random_bank(2, "ergodic", mixtures=1)
    bank.mean[1, 2] = 1e3  # nothing is anywhere near
    new, dead = maximize(bank, expect(bank, corpus_of(random_frames(2, [20, 20]), [0, 1])))
    assert dead == [Dead(1, 2, None)]
    assert torch.equal(new.mean[1, 2], bank.mean[1, 2])
    assert torch.equal(new.variance[1, 2], bank.variance[1, 2])
    assert not any(tensor.isnan().any() for tensor in new.tensors().values())
    assert not torch.equal(new.mean[1, :2], bank.mean[1, :2])


def test_a_mixture_that_died_is_named_and_the_others_go_on() -> None:
    bank = random_bank(2, "ergodic", mixtures=2)
    bank.mean[0, 1, 1] = 1e3
    corpus = corpus_of(random_frames(2, [20, 20]), [0, 1])
    new, dead = maximize(bank, expect(bank, corpus))
    assert dead == [Dead(0, 1, 1)]
    assert torch.equal(new.mean[0, 1, 1], bank.mean[0, 1, 1])
    again, _ = maximize(new, expect(new, corpus))
    assert likelihood(again, corpus) > likelihood(bank, corpus)


def test_a_class_of_one_frame_gets_the_floor_for_a_variance() -> None:
    frames = random_frames(4, [1, 30])
    values = torch.cat(frames)
    _, _, floor = variance_floor(torch.tensor(31.0), values.sum(0), values.square().sum(0), 0.05)
    np.testing.assert_allclose(floor.numpy(), 0.05 * values.var(0, correction=0).numpy(), rtol=1e-9)
    bank, corpus = random_bank(4, mixtures=1), corpus_of(frames, [0, 1])
    for _ in range(5):
        bank, _ = maximize(bank, expect(bank, corpus), Rules(floor=floor))
    assert torch.allclose(bank.variance[0].amin(0), floor)
    assert score(bank, values, Packing.of([1, 30])).isfinite().all()


def test_a_dimension_that_never_changes_has_a_floor() -> None:
    frames = torch.full((10, 1), -7.3, dtype=DOUBLE)
    _, variance, floor = variance_floor(torch.tensor(10.0), frames.sum(0), frames.square().sum(0), 0.05)
    assert variance.tolist() == [1.0]
    assert floor.tolist() == [0.05]


def test_an_utterance_too_short_to_reach_the_end_is_named() -> None:
    bank = random_bank(0, last=True)
    assert bank.shortest() == 1  # random starts may be the last state
    first = torch.full_like(bank.log_start, -torch.inf)
    first[:, 0] = 0
    bank = HmmBank.of({**bank.tensors(), "log_start": first}, bank.shape())
    assert bank.shortest() == 3
    with pytest.raises(ValueError, match="utterance 1 of 2 frames is impossible under its model, which needs 3"):
        expect(bank, corpus_of(random_frames(0, [5, 2, 4]), [0, 1, 1]))


def test_frames_that_are_not_finite_are_named() -> None:
    frames = random_frames(0, [3, 4, 2])
    frames[1][2, 0] = torch.nan
    with pytest.raises(ValueError, match="utterance 1 has a frame that is not finite"):
        corpus_of(frames, [1, 0, 0])


def test_a_flat_start_cuts_utterances_into_equal_parts() -> None:
    bank = random_bank(0, states=2, mixtures=1, dims=1)
    frames = [torch.tensor([[1.0], [1.0], [5.0], [5.0]]), torch.tensor([[3.0], [7.0]])]
    new, _ = maximize(bank, segment(bank, corpus_of(frames, [0, 0])), Rules(floor=torch.tensor([0.01], dtype=DOUBLE)))
    np.testing.assert_allclose(new.mean[0, :, 0, 0].numpy(), [5 / 3, 17 / 3])
    assert torch.equal(new.log_arcs, bank.log_arcs)


def test_a_split_keeps_weights_means_and_variances_of_each_state() -> None:
    bank = random_bank(6, mixtures=2)
    wider = split(bank, 3, depth=0.3, seed=1)

    def moments(one: HmmBank) -> tuple[Tensor, Tensor]:
        weight = one.log_weight.exp()[..., None]
        mean = (weight * one.mean).sum(2)
        return mean, (weight * (one.variance + one.mean.square())).sum(2) - mean.square()

    assert wider.mixtures == 3
    np.testing.assert_allclose(wider.log_weight.exp().sum(-1).numpy(), 1)
    for before, after in zip(moments(bank), moments(wider), strict=True):
        np.testing.assert_allclose(after.numpy(), before.numpy())
    assert torch.equal(split(bank, 4, depth=0.3, seed=1).mean, split(bank, 4, depth=0.3, seed=1).mean)
    assert not torch.equal(split(bank, 3, depth=0.3, seed=2).mean, wider.mean)
    with pytest.raises(ValueError, match="2 mixtures become 2 to 4, not 5"):
        split(bank, 5, depth=0.3, seed=1)


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    bank = random_bank(9, "bakis")
    frames, labels = random_frames(9, [6, 4, 8]), [0, 1, 1]
    whole = expect(bank, corpus_of(frames, labels))
    parts = expect(bank, corpus_of(frames[:1], labels[:1])) + expect(bank, corpus_of(frames[1:], labels[1:]))
    for name in Statistics.__slots__:
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-12), name
