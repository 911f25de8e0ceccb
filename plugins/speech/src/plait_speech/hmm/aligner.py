"""When is each word of a transcript said? The best path through the chain of its words' models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from plait.errors import did_you_mean
from plait_speech.alignment.spans import Alignment
from plait_speech.audio import Utterance
from plait_speech.hmm.chains import align_chains
from plait_speech.hmm.network import HmmNetwork
from plait_speech.hmm.units import Parts
from plait_speech.strings import Span


class HmmAligner(HmmNetwork):
    """The models of `HmmNetwork`, trained the same way, asked when the words of a given transcript are said (forced
    alignment): exact Viterbi through the utterance's chain, silences skipped or not as is likeliest.

    It knows the words of the training transcripts only. A transcript with another word, or an utterance too short for
    its words, gets an `Alignment` that says so.
    """

    def predict(self, examples: Sequence[Utterance]) -> list[Any]:
        """When each word is said, an `Alignment` for each example."""
        faults = [self._fault(each) for each in examples]
        sound = [each for each, fault in zip(examples, faults, strict=True) if not fault]
        found = iter(self._aligned(sound))
        return [Alignment(fault=fault) if fault else next(found) for fault in faults]

    def _aligned(self, examples: Sequence[Utterance]) -> list[Alignment]:
        if not examples:
            return []
        corpus, features, states = self.corpus(examples), self.features, self.inventory.states
        step, found = features.step, []
        paths = align_chains(self._fitted(), corpus)
        for example, units, path in zip(examples, corpus.units, paths, strict=True):
            positions = path.states.tolist()
            spans = self._spans(self.inventory.parts(positions, units), example.seconds)
            within = [position % (states + 1) for position in positions]  # 0 is a silence
            own = tuple(each - 1 if each else None for each in within)
            found.append(Alignment(spans, path.log_probability / len(positions), own, step))
        return found

    def _spans(self, parts: Parts, seconds: float) -> tuple[Span, ...]:
        """Frames as times: a word has all samples of its frames, and where two words share some, each has half."""
        step, window = self.features.step, self.features.window
        times = [[first * step, min((after - 1) * step + window, seconds)] for _, first, after in parts]
        for one, other in pairwise(times):
            if one[1] > other[0]:
                one[1] = other[0] = (one[1] + other[0]) / 2
        units = (self.inventory.units[unit] for unit, _, _ in parts)
        return tuple(Span(unit, start, end) for unit, (start, end) in zip(units, times, strict=True))

    def _fault(self, example: Utterance) -> str:
        """Why an utterance cannot be aligned, in words; "" where it can."""
        name, known = example.id or "the utterance", self.inventory.units
        words = (example.text or "").split()
        if not words:
            return f"{name} has no transcript to align"
        unknown = next((word for word in words if word not in known), None)
        if unknown is not None:
            near = did_you_mean(unknown, known)
            return f"{name}: the model never heard the word {unknown!r}" + (f"; {near}" if near else "")
        frames = self.features.frames(example.seconds)
        least = self.shortest(range(len(words)))
        if frames < least:
            return (
                f"{name} of {example.seconds:.2f} s has {frames} frames, and {len(words)} words take at least {least}"
            )
        return ""
