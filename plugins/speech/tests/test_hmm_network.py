"""Word models joined into a network: embedded training and decoding against enumeration, then the life cycle."""

from __future__ import annotations

import json
import logging
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hmm_examples import tones, train_hmm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plait.engine.local import LocalEngine
from plait.errors import DataError
from plait.model import State
from plait.options import EngineOptions
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.demo_data import synthetic_words
from plait_speech.hmm import chains, memory
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.chains import ChainCorpus, align_chains, expect_chains, likelihood_chains
from plait_speech.hmm.decoding import decode
from plait_speech.hmm.models import GmmHmm, GmmHmmOptions
from plait_speech.hmm.network import HmmNetwork, NetworkOptions
from plait_speech.hmm.training import Statistics
from plait_speech.hmm.units import Inventory, flat_bank
from plait_speech.strings import synthetic_strings

ENGINE = LocalEngine(EngineOptions(device="cpu"))
PROBLEM = {"rate": 8000}
STRINGS = synthetic_strings()
TINY = {"name": "speech/hmm-network", "states": 3, "mixtures": 2, "step": 0.02, "split_every": 2}


def random_network(seed: int, topology: Any = "bakis", *, units: int = 2, states: int = 2) -> tuple[Inventory, HmmBank]:
    rng = np.random.default_rng(seed)
    inventory = Inventory(tuple("abc"[:units]), states)
    bank = flat_bank(inventory, topology, torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    bank.mean.copy_(torch.from_numpy(rng.normal(size=tuple(bank.mean.shape))))
    bank.variance.copy_(torch.from_numpy(rng.uniform(0.4, 2, tuple(bank.mean.shape))))
    return inventory, bank


def density(bank: HmmBank, frame: Tensor, state: int) -> float:
    mean, variance = bank.mean[0, state, 0], bank.variance[0, state, 0]
    return float(-((frame - mean) ** 2 / variance + torch.log(2 * torch.pi * variance)).sum() / 2)


def paths_of_chain(
    inventory: Inventory, bank: HmmBank, units: list[int], frames: Tensor
) -> dict[tuple[int, ...], float]:
    """log p(O, Q) of every path through a chain, straight from its definition."""
    chain, found = inventory.chain(units), {}
    begins = min(2, len(chain))
    for path in product(range(len(chain)), repeat=len(frames)):
        steps = [after - before for before, after in pairwise(path)]
        if path[0] >= begins or path[-1] < len(chain) - 2 or any(step not in (0, 1, 2) for step in steps):
            continue
        total = -np.log(begins) + sum(density(bank, frame, chain[at]) for frame, at in zip(frames, path, strict=True))
        total += sum(float(bank.log_arcs[0, step, chain[at]]) for step, at in zip(steps, path, strict=False))
        if np.isfinite(total):
            found[path] = total
    return found


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["bakis", "left-right"]), st.lists(st.integers(0, 1), max_size=2), st.integers(0, 99), st.booleans()
)
def test_chains_are_trained_and_aligned_as_enumeration_says(
    topology: Any, units: list[int], seed: int, best: bool
) -> None:
    inventory, bank = random_network(seed, topology)
    frames = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 2)))
    corpus = ChainCorpus.of([frames], [units], inventory, torch.float64)
    every = paths_of_chain(inventory, bank, units, frames)
    total = np.logaddexp.reduce(list(every.values())) if not best else max(every.values())
    found = expect_chains(bank, corpus, "viterbi" if best else "baum-welch")
    assert float(found.log_likelihood) == pytest.approx(total, rel=1e-12)
    assert float(likelihood_chains(bank, corpus, "viterbi" if best else "baum-welch")) == pytest.approx(
        total, rel=1e-12
    )
    (aligned,) = align_chains(bank, corpus)
    assert aligned.log_probability == pytest.approx(max(every.values()), rel=1e-12)
    assert every[tuple(aligned.states.tolist())] == pytest.approx(aligned.log_probability, rel=1e-12)
    chosen = {max(every, key=lambda path: every[path]): total} if best else every
    chain, visits, moves = inventory.chain(units), np.zeros(inventory.total), np.zeros((3, inventory.total))
    for path, value in chosen.items():
        share = np.exp(value - total)
        for at in path:
            visits[chain[at]] += share
        for before, after in pairwise(path):
            moves[after - before, chain[before]] += share
    np.testing.assert_allclose(found.weight[0, :, 0].numpy(), visits, atol=1e-9)
    np.testing.assert_allclose(found.arcs[0].numpy(), moves, atol=1e-9)


def test_chains_of_unlike_length_in_one_block_or_many_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inventory, bank = random_network(4, units=3, states=3)
    rng = np.random.default_rng(4)
    frames = [torch.from_numpy(rng.normal(size=(length, 2))) for length in (30, 9, 21, 14)]
    units = [[0, 1, 2, 1], [2], [1, 0], []]
    whole = expect_chains(bank, ChainCorpus.of(frames, units, inventory, torch.float64))
    monkeypatch.setattr(chains, "MOST_CELLS", 50)
    many = ChainCorpus.of(frames, units, inventory, torch.float64)
    assert len(many.blocks) == 4
    apart = expect_chains(bank, many)
    for name in Statistics.__slots__:
        torch.testing.assert_close(getattr(whole, name), getattr(apart, name), rtol=1e-10, atol=1e-10)
    lengths = [len(path.states) for path in align_chains(bank, many)]
    assert lengths == [30, 9, 21, 14]


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["bakis", "left-right"]), st.integers(0, 99), st.sampled_from([0.0, 3.0]))
def test_decoding_finds_the_best_of_all_strings(topology: Any, seed: int, penalty: float) -> None:
    inventory, bank = random_network(seed, topology)
    frames = [torch.from_numpy(np.random.default_rng(seed + 7).normal(size=(length, 2))) for length in (4, 2, 3)]
    for own, found in zip(frames, decode(bank, inventory, frames, insertion_penalty=penalty), strict=True):
        cost = np.log(2) + penalty  # of each unit: two are equally probable
        every = {
            units: max(totals.values()) - cost * len(units) - (np.log(2) if not units else 0)
            for count in range(3)  # two frames are the least that a unit takes
            for units in product(range(2), repeat=count)
            if (totals := paths_of_chain(inventory, bank, list(units), own))
        }
        best = max(every, key=lambda units: every[units])
        assert tuple(unit for unit, _, _ in found.parts) == best
        assert found.log_probability == pytest.approx(every[best], rel=1e-9)
        edges = [edge for _, first, after in found.parts for edge in (first, after)]
        assert edges == sorted(edges)


def test_strings_are_recognised_though_nobody_said_where_words_begin() -> None:
    model = train_hmm(HmmNetwork, NetworkOptions(**TINY), STRINGS["train"][:240], problem=PROBLEM)
    answers = model.predict(STRINGS["test"])
    right = np.mean([each.text == own.text for each, own in zip(answers, STRINGS["test"], strict=True)])
    assert right > 0.9
    assert model.predict([]) == []
    alone = [model.predict([each])[0] for each in STRINGS["test"][:5]]
    assert [each.text for each in alone] == [each.text for each in answers[:5]]


def test_a_penalty_makes_fewer_words() -> None:
    model = train_hmm(HmmNetwork, NetworkOptions(**TINY, tolerance=1), STRINGS["train"][:60], problem=PROBLEM)
    counts = []
    for penalty in (0, 300, 100_000):
        model.options = model.options.model_copy(update={"insertion_penalty": penalty})
        counts.append(sum(len(each.text.split()) for each in model.predict(STRINGS["test"])))
    assert counts[0] >= counts[1] > counts[2] == 0


def test_stopped_anywhere_and_resumed_it_ends_with_the_same_bits_and_saved_it_says_the_same(tmp_path: Path) -> None:
    train = STRINGS["train"][:40]

    def made() -> HmmNetwork:
        return HmmNetwork.create(options=NetworkOptions(**TINY), problem=PROBLEM, train=train, seed=0)

    whole, logged = made(), []
    state = whole.start(train, ENGINE)
    for _ in range(6):
        state, progress = whole.step(train, state, ENGINE)
        logged.append(progress.metrics["log_likelihood"])
    whole.finish(state)
    assert all(after >= before for before, after in pairwise(logged))
    again = made()
    state = again.start(train, ENGINE)
    for _ in range(6):
        save_tensors(state.tensors, tmp_path / "state.safetensors")
        state = State(load_tensors(tmp_path / "state.safetensors"), json.loads(json.dumps(dict(state.values))))
        again = made()
        state, _ = again.step(train, state, ENGINE)
    again.finish(state)
    assert whole.bank is not None
    assert again.bank is not None
    assert all(torch.equal(tensor, again.bank.tensors()[name]) for name, tensor in whole.bank.tensors().items())
    whole.save(tmp_path)
    copy = HmmNetwork.load(tmp_path, options=whole.options, problem=PROBLEM)
    assert copy.predict(STRINGS["test"][:5]) == whole.predict(STRINGS["test"][:5])


def test_words_start_from_a_run_of_isolated_words() -> None:
    words = synthetic_words()["train"]
    labels = sorted({str(each.label) for each in words} - {"sa"})
    options = GmmHmmOptions(name="speech/gmm-hmm", states=3, mixtures=2, step=0.02)
    isolated = train_hmm(GmmHmm, options, [each for each in words if each.label != "sa"],
                         problem={"labels": labels, "rate": 8000})  # fmt: skip
    train = STRINGS["train"][:60]
    model = HmmNetwork.create(options=NetworkOptions(**TINY), problem=PROBLEM, train=train, seed=0)
    assert model.start_from(isolated) == [
        "features are those of the run, not those of the options",
        "not in the run, from a flat start: sa",
    ]
    assert model.features == isolated.features
    state = model.start(train, ENGINE)
    model.finish(state)
    bank, units = model.models()
    assert torch.equal(bank.mean[units.index("uka")], isolated.bank.mean[labels.index("uka")])
    assert torch.equal(bank.log_arcs[units.index("uka"), :, :-1], isolated.bank.log_arcs[labels.index("uka"), :, :-1])
    for _ in range(3):
        state, _ = model.step(train, state, ENGINE)
    model.finish(state)
    answers = model.predict(STRINGS["test"])
    assert np.mean([each.text == own.text for each, own in zip(answers, STRINGS["test"], strict=True)]) > 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [({"states": 4}, "it has 3 states, and model.states is 4"), ({"mixtures": 1}, "it has 2 mixtures"),
     ({"topology": "ergodic"}, "it has another model.topology|has transitions that this one lacks")],
)  # fmt: skip
def test_a_run_of_another_shape_is_refused(options: dict[str, Any], words: str) -> None:
    shape = {"states": 3, "mixtures": 2, "step": 0.02}
    sounds = tones(8)
    problem = {"labels": ["up", "down"], "rate": 8000}
    earlier = train_hmm(GmmHmm, GmmHmmOptions(name="one", **shape), sounds, problem=problem)
    other = GmmHmm.create(
        options=GmmHmmOptions(name="two", **{**shape, **options}), problem=problem, train=sounds, seed=0
    )
    with pytest.raises(TypeError, match=words):
        other.start_from(earlier)
    same = GmmHmm.create(options=GmmHmmOptions(name="two", **shape), problem=problem, train=sounds, seed=0)
    assert same.start_from(earlier) == []
    state = same.start(sounds, ENGINE)
    assert torch.equal(state.tensors["mean"], earlier.bank.mean)
    assert torch.equal(state.tensors["log_arcs"], earlier.bank.log_arcs)


def test_bad_transcripts_are_named_before_any_training() -> None:
    def started(train: list[Utterance]) -> None:
        HmmNetwork.create(options=NetworkOptions(**TINY), problem=PROBLEM, train=train, seed=0).start(train, ENGINE)

    good = STRINGS["train"][0]
    click = Utterance(good.samples[:800], 8000, id="click.wav", text="sa si ahu iko")
    with pytest.raises(
        DataError, match=r"1 utterances are too short .* click\.wav \(4 frames for 4 words, which take 8\)"
    ):
        started([good, click])
    with pytest.raises(DataError, match="no word in any training transcript"):
        started([Utterance(good.samples, 8000, text="")])
    with pytest.raises(DataError, match=r"mute\.wav: has no transcript"):
        started([good, Utterance(good.samples, 8000, id="mute.wav")])


def test_what_memory_cannot_hold_is_refused_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    long = Utterance(np.zeros(8000 * 600, np.float32), 8000, "up", id="lecture.wav", text="sa " * 400)
    train = [*STRINGS["train"][:2], long]
    model = HmmNetwork.create(options=NetworkOptions(**TINY), problem=PROBLEM, train=train, seed=0)
    with pytest.raises(
        DataError, match=r"lecture\.wav of 600\.0 s alone takes .* GiB, and 0\.0 GiB of memory are free"
    ):
        model.start(train, ENGINE)
    words = [*tones(4), Utterance(long.samples, 8000, "up", id="lecture.wav")]
    options = GmmHmmOptions(name="speech/gmm-hmm", states=3)
    isolated = GmmHmm.create(options=options, problem={"labels": ["up", "down"], "rate": 8000}, train=words, seed=0)
    with pytest.raises(DataError, match=r"5 utterances take .* lecture\.wav of 600\.0 s alone takes"):
        isolated.start(words, ENGINE)


def test_a_state_that_died_is_named_with_its_word(caplog: pytest.LogCaptureFixture) -> None:
    train = STRINGS["train"][:40]
    model = HmmNetwork.create(options=NetworkOptions(**TINY), problem=PROBLEM, train=train, seed=0)
    state = model.start(train, ENGINE)
    index = model.inventory.units.index("uka")
    state.tensors["mean"][0, 3 * index + 1] = 1e4
    with caplog.at_level(logging.WARNING, logger="plait"):
        state, progress = model.step(train, state, ENGINE)
    assert "no frames are left for unit 'uka', state 1: last good parameters kept" in caplog.text
    assert progress.metrics["dead"] == 1
    assert not any(tensor.isnan().any() for tensor in state.tensors.values())
