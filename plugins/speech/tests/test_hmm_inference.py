"""Forward, backward, Viterbi and online scores against enumeration of every path, and against hmmlearn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hmm_examples import enumerate_paths, random_bank, random_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from plait_speech.hmm.bank import HmmBank, Topology, arcs_of
from plait_speech.hmm.inference import Online, backward, best_paths, emit, forward, score, with_squares
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.reference import from_hmmlearn, to_hmmlearn

TOPOLOGIES: tuple[Topology, ...] = ("left-right", "bakis", "ergodic")
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(LENGTHS)
def test_a_packing_keeps_every_frame_once_and_puts_it_back(lengths: list[int]) -> None:
    packing = Packing.of(lengths)
    frames = torch.arange(sum(lengths))
    assert sorted(packing.source.tolist()) == frames.tolist()
    assert torch.equal(torch.cat(packing.unpack(frames[packing.source])), frames)
    assert [len(each) for each in packing.unpack(frames[packing.source])] == lengths
    assert packing.restore(packing.lengths).tolist() == lengths
    assert sum(len(block) for block in packing.blocks(3)) == max(lengths)


def test_an_utterance_without_frames_is_named() -> None:
    with pytest.raises(ValueError, match="utterance 1 has no frame"):
        Packing.of([3, 0, 2])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(TOPOLOGIES), LENGTHS, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_scores_and_best_paths_are_those_of_enumeration(
    topology: Topology, lengths: list[int], states: int, mixtures: int, last: bool, seed: int
) -> None:
    bank = random_bank(seed, topology, states=states, mixtures=mixtures, last=last)
    frames = random_frames(seed, lengths)
    packing = Packing.of(lengths)
    totals = score(bank, torch.cat(frames), packing, block=4)
    for model in range(bank.models):
        paths = best_paths(bank, torch.cat(frames), packing, [model] * len(lengths))
        for own, total, best in zip(frames, totals[:, model], paths, strict=True):
            every = enumerate_paths(bank, model, own)
            assert float(total) == pytest.approx(float(np.logaddexp.reduce(list(every.values()))), rel=1e-12)
            assert best.log_probability == pytest.approx(max(every.values()), rel=1e-12)
            if np.isfinite(best.log_probability):
                assert every[tuple(best.states.tolist())] == pytest.approx(best.log_probability, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(TOPOLOGIES), LENGTHS, st.booleans(), st.integers(0, 99))
def test_forward_times_backward_is_the_likelihood_at_every_frame(
    topology: Topology, lengths: list[int], last: bool, seed: int
) -> None:
    bank = random_bank(seed, topology, last=last)
    frames, packing = torch.cat(random_frames(seed, lengths)), Packing.of(lengths)
    emission = emit(bank, with_squares(frames[packing.source]))
    arcs = bank.log_arcs[..., None]
    alpha = forward(emission, bank.log_start[..., None], arcs, bank.offsets, packing)
    beta = backward(emission, bank.log_end[..., None], arcs, bank.offsets, packing)
    at_each = torch.logsumexp(alpha + beta, 1)
    whole = score(bank, frames, packing).T[:, packing.order][:, packing.lane]
    assert torch.allclose(at_each, whole, rtol=1e-12)


def test_posteriors_are_shares_of_all_paths() -> None:
    bank, frames = random_bank(3, "bakis"), random_frames(3, [4])[0]
    packing = Packing.of([4])
    emission = emit(bank, with_squares(frames))
    arcs = bank.log_arcs[..., None]
    alpha = forward(emission, bank.log_start[..., None], arcs, bank.offsets, packing)
    beta = backward(emission, bank.log_end[..., None], arcs, bank.offsets, packing)
    gamma = torch.softmax(alpha + beta, 1)
    every = enumerate_paths(bank, 1, frames)
    total = np.logaddexp.reduce(list(every.values()))
    for step in range(4):
        for state in range(3):
            share = sum(np.exp(value - total) for path, value in every.items() if path[step] == state)
            assert float(gamma[1, state, step]) == pytest.approx(share, rel=1e-10)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_heard_frame_by_frame_the_score_is_that_of_the_whole(topology: Topology) -> None:
    bank, frames = random_bank(5, topology, last=True), random_frames(5, [7])[0]
    hearer, free = Online(bank), random_bank(5, topology)
    for step in range(7):
        so_far = hearer.push(frames[step : step + 1])
        assert torch.allclose(so_far, score(free, frames[: step + 1], Packing.of([step + 1]))[0], rtol=1e-12)
    assert torch.allclose(hearer.finish(), score(bank, frames, Packing.of([7]))[0], rtol=1e-12)
    assert hearer.frames == 7


def test_an_outlier_frame_underflows_nothing() -> None:
    bank = random_bank(0)
    frames = torch.cat(random_frames(0, [5]))
    frames[2] = 1e4  # log densities of -1e8 nats
    for dtype in (torch.float64, torch.float32):
        totals = score(bank.to(dtype), frames.to(dtype), Packing.of([5]))
        assert totals.isfinite().all()
        assert (totals < -1e6).all()


@pytest.mark.parametrize("topology", ["left-right", "bakis"])
def test_a_minimum_duration_is_a_chain_that_emits_the_same(topology: Topology) -> None:
    start, arcs, offsets, tie = arcs_of(topology, 3, min_duration=2)
    plain = random_bank(1, topology, models=1)
    bank = HmmBank(
        log_start=start[None], log_arcs=arcs[None], log_end=torch.zeros(1, 6, dtype=torch.float64),
        log_weight=plain.log_weight, mean=plain.mean, variance=plain.variance, offsets=offsets, tie=tie,
    )  # fmt: skip
    frames = random_frames(2, [5])[0]
    assert tie == (0, 0, 1, 1, 2, 2)
    (best,) = best_paths(bank, frames, Packing.of([5]), [0])
    runs = [tie[state] for state in best.states.tolist()]
    assert all(runs.count(each) >= 2 for each in set(runs[:-1]) - {runs[-1]})
    every = enumerate_paths(bank, 0, frames)
    assert float(score(bank, frames, Packing.of([5]))) == pytest.approx(np.logaddexp.reduce(list(every.values())))


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mixtures", [1, 3])
def test_scores_and_decoding_are_hmmlearns(topology: Topology, mixtures: int) -> None:
    pytest.importorskip("hmmlearn")
    bank = random_bank(11, topology, states=6, mixtures=mixtures, dims=13, models=3)
    lengths = [90, 1, 40, 17]
    frames = random_frames(11, lengths, 13)
    totals = score(bank, torch.cat(frames), Packing.of(lengths))
    single = score(bank.to(torch.float32), torch.cat(frames).float(), Packing.of(lengths))
    for model in range(3):
        theirs = to_hmmlearn(bank, model)
        expected = torch.tensor([theirs.score(each.numpy()) for each in frames], dtype=torch.float64)
        assert torch.allclose(totals[:, model], expected, rtol=1e-9)
        assert torch.allclose(single[:, model].double(), expected, rtol=1e-5)
        paths = best_paths(bank, torch.cat(frames), Packing.of(lengths), [model] * 4)
        for own, best in zip(frames, paths, strict=True):
            total, states = theirs.decode(own.numpy())
            assert best.log_probability == pytest.approx(total, rel=1e-9)
            assert best.states.tolist() == states.tolist()


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mixtures", [1, 2])
def test_a_bank_goes_to_hmmlearn_and_back(topology: Topology, mixtures: int) -> None:
    pytest.importorskip("hmmlearn")
    bank = random_bank(4, topology, mixtures=mixtures)
    back = from_hmmlearn([to_hmmlearn(bank, model) for model in range(bank.models)])
    assert back.offsets == bank.offsets
    for name, tensor in bank.tensors().items():
        assert torch.allclose(back.tensors()[name], tensor, rtol=1e-12), name


def test_models_that_hmmlearn_fitted_score_the_same_here() -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    frames = random_frames(8, [60, 50], 3)
    whole, lengths = torch.cat(frames).numpy(), [60, 50]
    fitted = [
        hmm.GaussianHMM(3, "diag", n_iter=3, random_state=0).fit(whole, lengths),
        hmm.GaussianHMM(3, "spherical", n_iter=3, random_state=1).fit(whole, lengths),
    ]
    totals = score(from_hmmlearn(fitted), torch.cat(frames), Packing.of(lengths))
    expected = [[model.score(each.numpy()) for model in fitted] for each in frames]
    assert torch.allclose(totals, torch.tensor(expected, dtype=torch.float64), rtol=1e-9)
    mixed = hmm.GMMHMM(2, 2, n_iter=2, random_state=0).fit(whole, lengths)
    assert float(score(from_hmmlearn([mixed]), frames[0], Packing.of([60]))) == pytest.approx(
        mixed.score(frames[0].numpy()), rel=1e-9
    )


def test_what_is_no_diagonal_hmm_is_refused_by_name() -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    with pytest.raises(ValueError, match="model 0 is GaussianHMM, or is not fitted"):
        from_hmmlearn([hmm.GaussianHMM(2)])
    full = hmm.GaussianHMM(2, "full", n_iter=1, random_state=0).fit(random_frames(0, [40])[0].numpy())
    with pytest.raises(ValueError, match="'full' covariances"):
        from_hmmlearn([full])
    with pytest.raises(ValueError, match="end in its last"):
        to_hmmlearn(random_bank(0, last=True), 0)
    shapes = [to_hmmlearn(random_bank(0, states=states), 0) for states in (2, 3)]
    with pytest.raises(ValueError, match="model 1 has"):
        from_hmmlearn(shapes)
