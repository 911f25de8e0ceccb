"""The transducer's loss is the sum over all alignments, and its search writes what was learned."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plait.model import Key
from plait_speech.audio import Utterance
from plait_speech.networks.transducer import GreedyTransduction, RnnTransducer
from plait_speech.networks.transducer_loss import transducer_loss
from plait_speech.strings import synthetic_strings

STRINGS = synthetic_strings()["train"][:8]
PROBLEM = {"alphabet": sorted({each for string in STRINGS for each in string.text or ""}), "rate": 8_000}


def enumerated(logits: Tensor, target: list[int]) -> float:
    """Minus ln P of a target, summed over all paths one by one; logits [frames, units + 1, symbols]."""
    rows = logits.double().log_softmax(dim=-1)
    frames, steps = len(rows), len(rows) + len(target)
    total = 0.0
    for emitting in itertools.combinations(range(steps - 1), len(target)):  # the last step is the last frame's blank
        frame = written = 0
        score = 0.0
        for step in range(steps):
            if step in emitting:
                score += float(rows[frame, written, target[written]])
                written += 1
            else:
                score += float(rows[frame, written, 0])
                frame += 1
        assert (frame, written) == (frames, len(target))
        total += math.exp(score)
    return -math.log(total)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 3))
def test_loss_is_that_of_all_alignments(seed: int, frames: int, units: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, frames, units + 1, 4, generator=generator)
    target = torch.randint(1, 4, (1, units), generator=generator)
    found = transducer_loss(logits, target, torch.tensor([frames]), torch.tensor([units]))
    assert float(found) == pytest.approx(enumerated(logits[0], target[0].tolist()), rel=1e-5)


def test_padding_changes_neither_loss_nor_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 6, 4, 5, generator=generator, requires_grad=True)
    targets = torch.tensor([[1, 2, 3], [4, 0, 0]])
    frames, lengths = torch.tensor([6, 3]), torch.tensor([3, 1])
    together = transducer_loss(logits, targets, frames, lengths)
    alone = transducer_loss(logits[1:, :3, :2], targets[1:, :1], frames[1:], lengths[1:])
    torch.testing.assert_close(together[1:], alone)
    (gradient,) = torch.autograd.grad(together.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert not gradient[1, 3:].any()
    assert not gradient[1, :, 2:].any()


def test_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    rest = torch.tensor([[1, 2], [3, 0]]), torch.tensor([3, 2]), torch.tensor([2, 1])
    assert torch.autograd.gradcheck(lambda values: transducer_loss(values, *rest).sum(), logits)


def test_loss_is_torchaudios() -> None:
    try:
        import torchaudio.functional as reference
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio cannot be imported beside this torch: {str(error)[:60]}")
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 20, 7, 9, generator=generator, requires_grad=True)
    targets = torch.randint(1, 9, (3, 6), generator=generator)
    frames, lengths = torch.tensor([20, 11, 15]), torch.tensor([6, 2, 0])
    found = transducer_loss(logits, targets, frames, lengths)
    expected = reference.rnnt_loss(
        logits, targets.int(), frames.int(), lengths.int(), blank=0, clamp=-1, reduction="none"
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    ours, theirs = (torch.autograd.grad(each.sum(), logits, retain_graph=True)[0] for each in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def make(**options: object) -> RnnTransducer:
    sizes = {"width": 16, "mels": 16, "prediction_width": 16, "joint_width": 16, **options}
    chosen = RnnTransducer.Options.model_validate({"name": "test", **sizes})
    return RnnTransducer.create(options=chosen, problem=PROBLEM, train=STRINGS, seed=0)


def test_greedy_search_does_not_depend_on_the_batch() -> None:
    model = make(units="words")
    with torch.no_grad():
        model.head.bias[0] -= 2  # an untrained network would write blanks only
    together = model.predict(STRINGS)
    assert any(each.text for each in together)
    for string, found in zip(STRINGS, together, strict=True):
        alone = model.predict([string])[0]
        assert alone.text == found.text
        assert alone.score == pytest.approx(found.score, rel=1e-4)


def test_a_state_writes_so_many_units_at_most() -> None:
    model = make(max_symbols=2).eval()
    with torch.no_grad():
        model.head.bias[1] += 100  # it never wants to end a state
    search = GreedyTransduction(model, 1)
    search.advance(torch.zeros(1, 3, 16), torch.tensor([3]))
    assert len(search._numbers[0]) == 6


def test_batches_of_none_and_of_empty_texts() -> None:
    model = make().train()
    empty = model(model.processor.collate([], [], training=False))
    assert empty.logits.shape[0] == 0
    silent = Utterance(STRINGS[0].samples, 8_000, text="")
    batch = model.processor.collate([silent], [Key(0, 0, 0)], training=True)
    assert batch.count == 1
    assert torch.isfinite(model(batch).loss)
