"""Which tokens follow a prompt: the most probable ones, drawn ones, or the best of several courses?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from plait.data import digest
from plait.model import Key
from plait.options import AFTERWARDS, ModelOptions
from plait.randomness import uniforms
from plait_nlp.generation.continuation import Continuation, Logits

Reason = Literal["length", "end", "stop"]


class DecodingOptions(ModelOptions):
    """How continuations are chosen."""

    max_tokens: int = Field(default=100, ge=1, json_schema_extra=AFTERWARDS)
    """Tokens that are generated at most."""
    temperature: float = Field(default=1.0, ge=0, json_schema_extra=AFTERWARDS)
    """What logits are divided by before a token is drawn; 0: the most probable one is taken (greedy)."""
    top_k: int | None = Field(default=None, ge=1, json_schema_extra=AFTERWARDS)
    """Draw from so many of the most probable tokens only (Fan et al. 2018); None: from all."""
    top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=AFTERWARDS)
    """Draw from the most probable tokens that together have this probability (Holtzman et al. 2020)."""
    beam: int = Field(default=1, ge=1, json_schema_extra=AFTERWARDS)
    """Courses that are followed at once; above 1, the best is returned and nothing is drawn."""
    length_penalty: float = Field(default=1.0, ge=0, json_schema_extra=AFTERWARDS)
    """Of a beam: log-probabilities are divided by the number of tokens to this power; 0 favours short answers."""
    stop: tuple[str, ...] = Field(default=(), json_schema_extra=AFTERWARDS)
    """Texts that end an answer, and are not part of it: ["\\n"]."""
    seed: int = Field(default=0, ge=0, json_schema_extra=AFTERWARDS)
    """Of what is drawn. The same prompt is answered alike, wherever it stands; another seed gives another answer."""
    cache: bool = Field(default=True, json_schema_extra=AFTERWARDS)
    """Keep what a network has read; else every token reads the whole text again, with the same answer."""


@dataclass(slots=True)
class Row:
    """One continuation as it grows.

    Args:
        prompt, tokens: what was given, and what was generated.
        first: the first token of both that the network still sees.
        log_probability: of the generated tokens under the model itself (temperature 1, nothing cut off), nats.
        reason: why it ended; None: it has not.
        text: of the tokens, up to a stop string.
    """

    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    first: int = 0
    log_probability: float = 0.0
    reason: Reason | None = None
    text: str = ""

    def window(self, limit: int | None) -> list[int]:
        """The tokens that the network sees: all, or from time to time only the newer half of what it can."""
        row = self.prompt + self.tokens
        if limit is not None and len(row) - self.first > limit:
            self.first = len(row) - max(1, limit // 2)
        return row[self.first :]

    def grown(self, token: int, log_probability: float, source: Continuation, options: DecodingOptions) -> Row:
        """This row with one token more, ended where it ends."""
        row = Row(self.prompt, [*self.tokens], self.first, self.log_probability + log_probability, None, self.text)
        row.append(token, source, options)
        return row

    def append(self, token: int, source: Continuation, options: DecodingOptions) -> None:
        """Take in a token."""
        if token == source.boundary:
            self.reason = "end"
            return
        self.tokens.append(token)
        self.text = source.decode(self.tokens)
        ends = [at for each in options.stop if each and (at := self.text.find(each)) >= 0]
        if ends:
            self.text, self.reason = self.text[: min(ends)], "stop"
        elif len(self.tokens) >= options.max_tokens:
            self.reason = "length"


class Drawing:
    """Several continuations, a token at a time. Each depends on its prompt, the options and the model alone.

    Args:
        prompts: tokens of each; some.
        texts: of the prompts, from which their random numbers come.
    """

    def __init__(
        self, source: Continuation, prompts: Sequence[list[int]], texts: Sequence[str], options: DecodingOptions
    ) -> None:
        self.rows = [Row(each) for each in prompts]
        self._source, self._options = source, options
        keys = [Key(options.seed, 0, int(digest(text.encode("utf-8", "surrogatepass"))[:15], 16)) for text in texts]
        self._numbers = uniforms(keys, options.max_tokens)  # number t of a key is for token t
        self._active = list(range(len(self.rows)))
        self._logits = self._read() if self._active else np.zeros((0, 0))

    def _read(self) -> Logits:
        return self._source.begin([self.rows[each].window(self._source.limit) for each in self._active])

    def step(self) -> bool:
        """Add a token to each continuation that goes on; whether any does then."""
        if not self._active:
            return False
        options, source = self._options, self._source
        numbers = np.array([self._numbers[each, len(self.rows[each].tokens)] for each in self._active])
        allowed = _allowed(self._logits, source.banned)
        tokens = choose(allowed, numbers, options)
        logs = log_softmax(allowed)[np.arange(len(tokens)), tokens]
        for each, token, log in zip(self._active, tokens.tolist(), logs.tolist(), strict=True):
            self.rows[each].log_probability += log
            self.rows[each].append(token, source, options)
        kept = [place for place, each in enumerate(self._active) if self.rows[each].reason is None]
        if len(kept) < len(self._active):
            self._active = [self._active[place] for place in kept]
            if self._active and options.cache:
                source.select(kept)
        if not self._active:
            return False
        if not options.cache or any(self._full(self.rows[each]) for each in self._active):
            self._logits = self._read()
        else:
            self._logits = source.extend([self.rows[each].tokens[-1] for each in self._active])
        return True

    def _full(self, row: Row) -> bool:
        limit = self._source.limit
        return limit is not None and len(row.prompt) + len(row.tokens) - row.first > limit


def search(source: Continuation, prompt: list[int], options: DecodingOptions) -> Row:
    """The best of `options.beam` courses.

    At each step every course grows by each token, and the best `beam` of all go on; those that end compete with
    `log_probability / tokens ** length_penalty`. It ends when `beam` have, or none that goes on could still win.
    """
    courses, done = [Row(prompt)], list[Row]()
    logits = source.begin([courses[0].window(source.limit)])
    while True:
        logs = log_softmax(_allowed(logits, source.banned))
        totals = np.array([each.log_probability for each in courses])[:, None] + logs
        flat = totals.reshape(-1)
        best = np.argsort(-flat, kind="stable")[: 2 * options.beam]  # so many that `beam` go on although others end
        grown: list[tuple[int, Row]] = []
        for code in best[np.isfinite(flat[best])].tolist():
            parent, token = divmod(code, logs.shape[1])
            row = courses[parent].grown(token, float(logs[parent, token]), source, options)
            if row.reason is None:
                grown.append((parent, row))
            elif len(done) < options.beam or _worth(row, options) > min(_worth(each, options) for each in done):
                done.append(row)
            if len(grown) == options.beam:
                break
        done = sorted(done, key=lambda each: -_worth(each, options))[: options.beam]
        if not grown or (len(done) == options.beam and _hopeless(grown[0][1], done[-1], options)):
            return done[0]
        courses = [row for _, row in grown]
        limit = source.limit
        full = limit is not None and any(len(each.prompt) + len(each.tokens) - each.first > limit for each in courses)
        if full or not options.cache:
            logits = source.begin([each.window(limit) for each in courses])
        else:
            source.select([parent for parent, _ in grown])
            logits = source.extend([each.tokens[-1] for each in courses])


def _worth(row: Row, options: DecodingOptions) -> float:
    return row.log_probability / float(max(1, len(row.tokens)) ** options.length_penalty)


def _hopeless(row: Row, worst: Row, options: DecodingOptions) -> bool:
    """Whether the best course that goes on cannot beat what has ended, were all its further tokens certain."""
    reach = row.log_probability / float(options.max_tokens**options.length_penalty)
    return reach <= _worth(worst, options)


def _allowed(logits: Logits, banned: Sequence[int]) -> Logits:
    found = logits.copy()
    found[:, list(banned)] = -math.inf
    return found


def log_softmax(logits: Logits) -> Logits:
    """Log-probabilities [rows, vocabulary], nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Logits = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def choose(logits: Logits, numbers: Logits, options: DecodingOptions) -> npt.NDArray[np.int64]:
    """A token for each row.

    Args:
        logits: [rows, vocabulary]; -inf is never chosen.
        numbers: [rows] uniform in [0, 1): a token is drawn where the sum of probabilities, in the order of tokens,
            passes it.
    """
    if options.temperature == 0:
        best: npt.NDArray[np.int64] = logits.argmax(axis=1)
        return best
    shares = np.exp(log_softmax(logits / options.temperature))
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    kept = np.cumsum(ranked, axis=1) - ranked < options.top_p  # the first one is always there
    if options.top_k is not None:
        kept[:, options.top_k :] = False
    mask = np.zeros_like(kept)
    np.put_along_axis(mask, order, kept, axis=1)
    sums = np.cumsum(np.where(mask, shares, 0.0), axis=1)
    drawn = (sums <= numbers[:, None] * sums[:, -1:]).sum(axis=1)
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)  # rounding may pass by the last one
    chosen: npt.NDArray[np.int64] = np.minimum(drawn, last)
    return chosen
