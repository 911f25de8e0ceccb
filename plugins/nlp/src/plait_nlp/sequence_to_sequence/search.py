"""Which text does a decoder write: token by token, for many inputs at once, greedily or by beam search?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from plait_nlp.sequence_to_sequence.options import Decoding


class Steps(Protocol):
    """A decoder at work on some rows, each with its input and what was written so far; it remembers both."""

    def next(self, tokens: Tensor) -> Tensor:
        """Take in each row's newest token [rows], and give log-probabilities of the one after, [rows, vocabulary]."""

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; a row may be taken several times, or be dropped."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was written for one input.

    Args:
        tokens: numbers, without start and end.
        log_probability: of all tokens, and of the end where it is finished; nats.
        finished: whether the end was written; False where the longest length came first.
    """

    tokens: tuple[int, ...]
    log_probability: float
    finished: bool

    def score(self, penalty: float) -> float:
        """What texts of different lengths are compared by (Wu et al. 2016, as Koehn and Knowles have it)."""
        length: float = max(1, len(self.tokens) + self.finished) ** penalty
        return self.log_probability / length


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a network's tokens mean in writing.

    Args:
        start: what writing starts from.
        ends: what ends a text.
        banned: what is never written.
        longest: tokens at most.
        forced: what every text begins with, such as its language; None: anything.
    """

    start: int
    ends: Sequence[int]
    banned: Sequence[int]
    longest: int
    forced: int | None = None


def search(
    steps: Steps, *, limits: Sequence[int], rules: Rules, options: Decoding, device: torch.device,
    agreed: Callable[[bool], bool] = bool,
) -> list[Found]:  # fmt: skip
    """The best text for each input that beam search finds; with a beam of one it is greedy search.

    A sentence is done when as many texts as the beam is wide have ended, or at its longest length, where the best one
    that has ended wins over those that have not. Rows of sentences that are done are dropped, so that a batch costs
    what its sentences need.

    Args:
        steps: the decoder, with one row for each input; beams multiply them.
        limits: tokens at most for each input.
        agreed: told whether all is done here, says whether it is everywhere: where the weights are sharded over
            processes, all of them make the same number of steps.
    """
    count, beam = len(limits), options.beam
    running, found = list(range(count)), [list[Found]() for _ in limits]
    written = torch.full((count * beam, 1), rules.start, dtype=torch.int64, device=device)
    scores = torch.full((count, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # the beam's rows are equal at first: only one of them counts
    ends = torch.tensor([*rules.ends], dtype=torch.int64, device=device)
    if beam > 1:
        steps.select(torch.arange(count, device=device).repeat_interleave(beam))
    while not agreed(not running):
        probable = steps.next(written[:, -1])
        if not running:  # all is done here: this was only in step with other processes
            continue
        best, rows, tokens = _best(scores, _ruled(probable, written[:, 1:], rules, options))
        ended = torch.isin(tokens, ends)
        for sentence, rank in (ended[:, :beam] & best[:, :beam].isfinite()).nonzero().tolist():
            text = written[rows[sentence, rank], 1:].tolist()
            found[running[sentence]].append(Found(tuple(text), float(best[sentence, rank]), True))
        # what goes on: the best that have not ended, in their order
        order = (ended.long() * ended.shape[1] + torch.arange(ended.shape[1], device=device)).argsort(dim=1)[:, :beam]
        scores = best.gather(1, order).masked_fill(ended.gather(1, order), -torch.inf)
        rows, tokens = rows.gather(1, order), tokens.gather(1, order)
        kept = []
        for position, sentence in enumerate(running):
            texts = found[sentence]
            if len(texts) < beam and written.shape[1] < limits[sentence] and scores[position].isfinite().any():
                kept.append(position)
            elif not texts:
                text = [*written[rows[position, 0], 1:].tolist(), int(tokens[position, 0])]
                texts.append(Found(tuple(text), float(scores[position, 0]), False))
        running = [running[position] for position in kept]
        if kept:
            scores, rows, tokens = scores[kept], rows[kept].reshape(-1), tokens[kept].reshape(-1)
            if len(rows) < len(written) or not torch.equal(rows, torch.arange(len(rows), device=device)):
                steps.select(rows)
            written = torch.cat([written[rows], tokens[:, None]], dim=1)
    return [max(texts, key=lambda each: each.score(options.length_penalty)) for texts in found]


def _best(scores: Tensor, probable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best ways to go on from each sentence's beam, twice as many as it is wide, since half of them may end.

    Args:
        scores: [sentences, beam].
        probable: [sentences * beam, vocabulary].

    Returns:
        Their log-probabilities, rows and new tokens, [sentences, 2 * beam] each.
    """
    count, beam = scores.shape
    totals = (scores.reshape(-1, 1) + probable).reshape(count, -1)
    best, places = totals.topk(min(2 * beam, totals.shape[1]), dim=1)
    first = torch.arange(count, device=scores.device)[:, None] * beam
    return best, places // probable.shape[1] + first, places % probable.shape[1]


def _ruled(probable: Tensor, written: Tensor, rules: Rules, options: Decoding) -> Tensor:
    """Log-probabilities [rows, vocabulary] after tokens [rows, length], without what must not come next."""
    length = written.shape[1]
    probable[:, [*rules.banned]] = -torch.inf
    if length < options.min_length:
        probable[:, [*rules.ends]] = -torch.inf
    if length == 0 and rules.forced is not None:
        probable[:, : rules.forced], probable[:, rules.forced + 1 :] = -torch.inf, -torch.inf
    size = options.no_repeat
    if size and length >= size:
        for row, tokens in enumerate(written.tolist()):
            tail = tokens[length - size + 1 :]
            starts = range(length - size + 1)
            known = [tokens[first + size - 1] for first in starts if tokens[first : first + size - 1] == tail]
            probable[row, known] = -torch.inf
    return probable
