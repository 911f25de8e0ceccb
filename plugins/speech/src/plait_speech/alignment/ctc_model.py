"""When is each word said, by a network that was trained to write? The best path of its transcript through the rows."""

from __future__ import annotations

from typing import Any

import torch

from plait.errors import InputError
from plait.live import Live
from plait.model import Batch, Output
from plait_speech.alignment.ctc import ctc_align
from plait_speech.alignment.spans import Alignment
from plait_speech.networks.ctc import Ctc
from plait_speech.networks.encoder import SUBSAMPLING
from plait_speech.strings import Span


class CtcAligner(Ctc):
    """The network of `speech/ctc`, trained the same way, asked when the words of a given transcript are said.

    Nothing in the CTC loss makes a unit last as long as its sound: it is written in a few states and blanks follow. A
    word therefore gets half of the blanks on either side of it. Times are multiples of two frames, and rougher than
    those of hidden Markov models. Characters that training never saw are left out of a word.
    """

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        """An `Alignment` for each utterance of a batch that has targets."""
        if batch.get("targets") is None:
            return [Alignment(fault="there is no transcript to align")] * batch.size
        rows = torch.log_softmax(output.logits.detach().float(), dim=-1).cpu().numpy()
        parts = zip(rows, output.extra["lengths"].tolist(), batch["targets"].tolist(),
                    batch["target_lengths"].tolist(), strict=True)  # fmt: skip
        return [self._aligned(row[:length], targets[:count]) for row, length, targets, count in parts]

    def live(self) -> Live:
        raise InputError(f"{self.options.name} needs the whole recording and its transcript", hint="leave out --live")

    def _aligned(self, rows: Any, targets: list[int]) -> Alignment:
        units = self.processor.writing.units
        path = ctc_align(rows, targets)
        if not _words([units.symbols[number - 1] for number in targets], whole=True):
            return Alignment(fault="the transcript has no word that the network can write")
        if path.log_probability == -float("inf"):
            return Alignment(fault=f"{len(rows)} states are too few for {len(targets)} {units.kind}")
        step = self.processor.features.step * SUBSAMPLING
        own = path.spans(len(targets))
        words = _words([units.symbols[number - 1] for number in targets], whole=units.kind == "words")
        edges = [(own[places[0]][0], own[places[-1]][1]) for _, places in words]
        befores, afters = [0, *(after for _, after in edges[:-1])], [*(first for first, _ in edges[1:]), len(rows)]
        spans = tuple(
            Span(text, (before + first) / 2 * step, (last + after) / 2 * step)
            for (text, _), (first, last), before, after in zip(words, edges, befores, afters, strict=True)
        )
        return Alignment(spans, path.log_probability / (len(rows) * SUBSAMPLING), step=step)


def _words(symbols: list[str], *, whole: bool) -> list[tuple[str, list[int]]]:
    """The words of some symbols and the places of their symbols: each is one, or spaces are between them."""
    found: list[tuple[str, list[int]]] = []
    begins = True
    for place, symbol in enumerate(symbols):
        if symbol == " ":
            begins = True
        elif whole or begins:
            found.append((symbol, [place]))
            begins = False
        else:
            found[-1] = (found[-1][0] + symbol, [*found[-1][1], place])
    return found
