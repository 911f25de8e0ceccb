"""What do questions about a context ask of an architecture of transformers?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.heads import Head, Inputs
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.architectures.windows import Window, cut_windows, fold, fold_values, run_windows, unfold
from plait_nlp.question_answering.examples import Answer, AnswerPrediction, Candidate, Question
from plait_nlp.question_answering.options import AnswerOptions

_CHECKED = 1024  # questions that are tokenized at a time
_AT_ONCE = 256  # rows whose spans are scored at one time: 12 MB of 384 tokens
_NEVER = -1e9  # the score of a token that cannot be part of an answer


@dataclass(frozen=True, slots=True)
class Passage:
    """A unit of training: one row of a question and a part of its context.

    Args:
        row: its number among the rows of the question.
    """

    example: Question
    row: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a question, and where its context's tokens are.

    Args:
        offsets: [tokens, 2], the characters of each token of the context.
    """

    windows: list[Window]
    offsets: npt.NDArray[np.int64]

    def target(self, row: int, answer: Answer | None) -> tuple[int, int]:
        """The first and last token of an answer in a row; the row's first token, twice, where it is not whole in it."""
        if answer is None:
            return 0, 0
        window = self.windows[row]
        inside = (self.offsets[:, 1] > answer.start) & (self.offsets[:, 0] < answer.end)
        touched = np.flatnonzero(inside & (self.offsets[:, 1] > self.offsets[:, 0]))
        if not len(touched) or touched[0] < window.first or touched[-1] >= window.first + window.size:
            return 0, 0
        first, last = touched[[0, -1]] - window.first + window.lead
        return int(first), int(last)


class _Passages(Sequence[Any]):
    """The rows of all training questions. It keeps two numbers a row, and tokenizes again when one is wanted.

    Args:
        rows: how many each question has.
    """

    in_memory = True

    def __init__(self, train: Split, rows: Sequence[int]) -> None:
        self._train = train
        self._question = np.repeat(np.arange(len(rows)), rows)
        self._row = np.concatenate([np.arange(count) for count in rows]) if len(rows) else self._question

    def __len__(self) -> int:
        return len(self._question)

    def __getitem__(self, index: Any) -> Any:
        return Passage(self._train[int(self._question[index])], int(self._row[index]))


class AnsweringHead(Head):
    """Cross-entropy of the answer's first and of its last token (Devlin et al. 2019, section 4.2).

    A context that is longer than the network takes is read in rows that overlap, the question before each. A row
    without the answer points at its first token; where questions without an answer are in the training data, that says
    that there is none (section 4.3). Of several right answers the first one is learned.
    """

    auto: ClassVar[str] = "AutoModelForQuestionAnswering"

    @property
    def answers(self) -> AnswerOptions:
        """How answers are found."""
        return self.options.answers

    def corpus(self, train: Split) -> Iterable[str]:
        questions = (train[index] for index in range(len(train)))
        seen: set[str] = set()
        for each in questions:
            yield each.question
            if each.context not in seen:  # SQuAD asks five questions of each
                seen.add(each.context)
                yield each.context

    def units(self, train: Split, *, inputs: Inputs) -> Split:
        counts: list[int] = []
        for first in range(0, len(train), _CHECKED):
            some = [train[index] for index in range(first, min(first + _CHECKED, len(train)))]
            counts += [len(each.windows) for each in self._rows(some, inputs)]
        return _Passages(train, counts)

    def lengths(self, examples: Split) -> Sequence[int] | None:
        sizes = []
        for index in range(len(examples)):
            each = examples[index]
            own = each.example if isinstance(each, Passage) else each
            sizes.append(len(own.question) + len(own.context))
        return sizes

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        inputs = Inputs(tokenizer, max_length=max_length, type_ids=False)
        over = lost = 0
        for first in range(0, len(train), _CHECKED):
            some = [train[index] for index in range(first, min(first + _CHECKED, len(train)))]
            for example, rows in zip(some, self._rows(some, inputs), strict=True):
                over += len(rows.windows) > 1
                wanted = example.answers[0] if example.answers else None
                lost += wanted is not None and not any(
                    rows.target(row, wanted) != (0, 0) for row in range(len(rows.windows))
                )
        said = (
            [f"{over} of {len(train)} training contexts are read in several rows of {max_length} tokens"]
            if over
            else []
        )
        if lost:
            said.append(f"{lost} of {len(train)} training answers are whole in no row, and are not learned")
        return "; ".join(said) + "; model.max_length changes it" if said else None

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool, inputs: Inputs) -> Batch:
        questions = [each.example if isinstance(each, Passage) else each for each in examples]
        rows = self._rows(questions, inputs)
        chosen = [  # of each example the rows that are wanted: a unit has one
            [each.row] if isinstance(each, Passage) else list(range(len(own.windows)))
            for each, own in zip(examples, rows, strict=True)
        ]
        windows = [own.windows[row] for own, kept in zip(rows, chosen, strict=True) for row in kept]
        owners = [position for position, kept in enumerate(chosen) for _ in kept]
        tensors = fold(windows, owners, len(examples), inputs)
        extra = {
            "questions": questions, "owners": owners, "windows": windows, "offsets": [each.offsets for each in rows],
        }  # fmt: skip
        if not examples or any(each.answers is None for each in questions):
            return Batch(tensors, 0, len(examples), extra)
        target = [
            own.target(row, question.answers[0] if question.answers else None)
            for question, own, kept in zip(questions, rows, chosen, strict=True)
            for row in kept
        ]
        tensors["target"] = fold_values(torch.tensor(target, dtype=torch.int64), len(examples))
        return Batch(tensors, len(windows), len(examples), extra)

    def _rows(self, questions: Sequence[Question], inputs: Inputs) -> list[_Rows]:
        pairs = [(each.question, each.context) for each in questions]
        return [self._cut(each, inputs.max_length) for each in inputs.tokenizer.encodings(pairs)] if pairs else []

    def _cut(self, encoding: Any, length: int) -> _Rows:
        """The rows of one question: it has at most half of each, the context the rest."""
        part = np.array([-1 if each is None else each for each in encoding.sequence_ids])
        tokens = list(zip(encoding.ids, encoding.type_ids, strict=True))
        inside = np.flatnonzero(part == 1)
        first, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (len(tokens), len(tokens))
        asked = np.flatnonzero(part[:first] == 0)
        room = min(length // 2, length - int((part < 0).sum()) - 4)
        dropped = set(asked[max(0, room) :].tolist())
        before = [token for place, token in enumerate(tokens[:first]) if place not in dropped]
        windows = cut_windows(
            before, tokens[first:end], tokens[end:], length=length, overlap=min(self.answers.overlap, length // 4)
        )
        return _Rows(windows, np.array(encoding.offsets[first:end], np.int64).reshape(-1, 2))

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:  # the empty batch of an idle rank: the parameters take part
            total = torch.stack([parameter.sum() for parameter in network.parameters()]).sum()
            return Output(None, total * total.new_zeros(0, 1, 2))
        logits = torch.stack(run_windows(network, batch, ["start_logits", "end_logits"]), dim=2)
        logits = logits.masked_fill(unfold(batch, "attention_mask")[:, :, None] == 0, _NEVER)
        if batch.get("target") is None:
            return Output(None, logits)
        target = unfold(batch, "target")
        return Output(F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target.flatten()), logits)

    def decode(self, output: Output, batch: Batch) -> list[AnswerPrediction]:
        questions, extra = batch.extra["questions"], batch.extra
        if not questions:
            return []
        windows: list[Window] = extra["windows"]
        logits, owners = output.logits.float().cpu(), np.array(extra["owners"])
        edges = np.searchsorted(owners, np.arange(len(questions) + 1)).tolist()
        return [
            self._answer(question, windows[first:end], offsets, logits[first:end])
            for question, offsets, first, end in zip(questions, extra["offsets"], edges[:-1], edges[1:], strict=True)
        ]

    def _answer(
        self, question: Question, windows: Sequence[Window], offsets: npt.NDArray[np.int64], logits: Tensor
    ) -> AnswerPrediction:
        """The best spans of all rows, each once, and whether they are better than none.

        Args:
            logits: [rows, length, 2].
        """
        spans, nothing = best_spans(
            logits, windows, longest=self.answers.longest, most=2 * self.answers.candidates + 2
        )  # more than are wanted: rows overlap, and a span may be in two of them
        found: dict[Answer, float] = {}
        for value, first, last in spans:
            answer = _trimmed(question.context, int(offsets[first][0]), int(offsets[last][1]))
            if answer is not None:
                found.setdefault(answer, value)
        listed = list(found.items())[: self.answers.candidates]
        knows = bool(self.problem["unanswerable"])
        weights = np.array([value for _, value in listed] + ([nothing] if knows else []))
        shares = np.exp(weights - weights.max()) / np.exp(weights - weights.max()).sum() if len(weights) else weights
        best = [Candidate(answer, value, float(part)) for (answer, value), part in zip(listed, shares, strict=False)]
        if not best:
            return AnswerPrediction([], False, float(shares[-1]) if knows else None, None)
        if not knows:
            return AnswerPrediction(best, True)
        surplus = nothing - best[0].score
        return AnswerPrediction(best, surplus <= self.answers.no_answer, float(shares[-1]), surplus)


def best_spans(
    logits: Tensor, windows: Sequence[Window], *, longest: int, most: int
) -> tuple[list[tuple[float, int, int]], float]:
    """The best spans of a context: (score, first token, last token), the best one first.

    Args:
        logits: [rows, length, 2].
        most: how many are wanted.

    Returns:
        And the score of no answer: the least that a row gives its first token.
    """
    found: list[tuple[float, int, int]] = []
    nothing = float("inf")
    for begin in range(0, len(windows), _AT_ONCE):
        some = windows[begin : begin + _AT_ONCE]
        lead, size = (torch.tensor([getattr(each, name) for each in some]) for name in ("lead", "size"))
        scores, empty = span_scores(logits[begin : begin + _AT_ONCE], lead, size, longest=longest)
        nothing = min(nothing, float(empty.min()))
        values, places = scores.flatten().topk(min(most, scores.numel()))
        rows, further, starts = np.unravel_index(places.numpy(), scores.shape)
        for value, row, by, start in zip(
            values.tolist(), rows.tolist(), further.tolist(), starts.tolist(), strict=True
        ):
            if value > _NEVER / 2:
                token = start - some[row].lead + some[row].first
                found.append((value, token, token + by))
    return sorted(found, key=lambda each: -each[0])[:most], nothing


def span_scores(logits: Tensor, lead: Tensor, size: Tensor, *, longest: int) -> tuple[Tensor, Tensor]:
    """How well each span of a row fits: the score of its first token as a start and of its last one as an end, added.

    Args:
        logits: [rows, length, 2].
        lead, size: [rows], where the context begins in each row, and how many tokens of it there are.
        longest: tokens of a span at most.

    Returns:
        [rows, spans, length]: at [row, further, first] the span from `first` to `first + further`, hardly above -1e9
        where that is not in the context; and [rows], the score of the first token alone: of no answer.
    """
    rows, length, _ = logits.shape
    place = torch.arange(length)
    inside = (place >= lead[:, None]) & (place < (lead + size)[:, None])
    start, end = (logits[:, :, which].masked_fill(~inside, _NEVER) for which in (0, 1))
    widest = min(longest, length)
    further = end.new_full((rows, length + widest), _NEVER)
    further[:, :length] = end
    ends = torch.stack([further[:, by : by + length] for by in range(widest)], dim=1)
    return start[:, None, :] + ends, logits[:, 0].sum(dim=1)


def _trimmed(context: str, start: int, end: int) -> Answer | None:
    """The answer without spaces around it, which some tokenizers count to a word; None where nothing is left."""
    text = context[start:end]
    left = len(text) - len(text.lstrip())
    return Answer(start + left, text.strip()) if text.strip() else None
