"""How well does a small recurrent network tag words, trained from nothing (Ma and Hovy 2016)?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from plait.errors import DataError
from plait.model import Batch, Key, NeuralModel, Output, Processor
from plait.options import ModelOptions
from plait.randomness import uniforms
from plait.task import Problem, Split
from plait_nlp.architectures.heads import pad_rows
from plait_nlp.architectures.windows import fold_values, forwards, unfold
from plait_nlp.token_classification.crf import ConditionalRandomField, best_paths
from plait_nlp.token_classification.examples import TagPrediction, TokenExample

_PAD, _UNKNOWN = 0, 1  # of words and of letters
_PART = 256  # words that are read together; of a text with more, an entity over the seam is two
_LETTERS = 24  # of a word that are looked at: its beginning and its end
_SHAPES = ("other", "digits", "lower", "Title", "UPPER", "miXed", "with digits", "mark", "@name", "#tag", "link")


class BilstmOptions(ModelOptions):
    """The `model` block of nlp/bilstm-crf."""

    words: int = Field(default=100, ge=1)
    """Width of the vectors of words."""
    letters: int = Field(default=30, ge=1)
    """Width of the vectors of letters."""
    filters: int = Field(default=50, ge=1)
    """What the letters of a word become: the largest answer of each of these filters over three letters."""
    hidden: int = Field(default=100, ge=1)
    """Width of the recurrent states, for each direction."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Of what the recurrent layer sees, and of what it gives."""
    vocabulary: int = Field(default=20_000, ge=1)
    """Words at most, without regard to case: the most frequent ones."""
    unknown: float = Field(default=0.5, ge=0, le=1)
    """How often a training word that occurs once is hidden, so that unknown words are known to occur."""


class TaggingProcessor(Processor):
    """Numbers of words, of their letters and of their shapes. It knows no vector.

    Args:
        words: in lower case, with a number each, from 2.
        rare: how many of them, the last ones, occur once.
        letters: with a number each, from 2.
        labels: the tags.
        unknown: how often a rare word is hidden in training.
    """

    def __init__(self, words: Sequence[str], rare: int, letters: str, labels: Sequence[str], *, unknown: float) -> None:
        self.words, self.rare, self.letters, self.labels = list(words), rare, letters, list(labels)
        self.unknown = unknown
        self._words = {word: number for number, word in enumerate(self.words, start=_UNKNOWN + 1)}
        self._letters = {letter: number for number, letter in enumerate(letters, start=_UNKNOWN + 1)}
        self._tags = {label: number for number, label in enumerate(self.labels)}

    def lengths(self, examples: Split) -> Sequence[int]:
        return [len(examples[index].spans) for index in range(len(examples))]

    def collate(self, examples: Sequence[TokenExample], keys: Sequence[Key], *, training: bool) -> Batch:
        parts = [
            (owner, first, each.words[first : first + _PART])
            for owner, each in enumerate(examples)
            for first in range(0, max(1, len(each.spans)), _PART)
        ]
        words = [part for _, _, part in parts]
        ids = pad_rows([[self._words.get(word.lower(), _UNKNOWN) for word in row] for row in words], _PAD)
        if training and len(examples):
            drawn = uniforms(keys, max(len(each.spans) for each in examples))
            hidden = np.ones(ids.shape, bool)
            for row, (owner, first, part) in enumerate(parts):
                hidden[row, : len(part)] = drawn[owner, first : first + len(part)] < self.unknown
            ids[hidden & (ids > len(self.words) + _UNKNOWN - self.rare)] = _UNKNOWN
        letters = np.full((*ids.shape, _LETTERS), _PAD, np.int64)
        for row, sentence in enumerate(words):
            for column, word in enumerate(sentence):
                ends = word if len(word) <= _LETTERS else word[: _LETTERS // 2] + word[-_LETTERS // 2 :]
                letters[row, column, : len(ends)] = [self._letters.get(letter, _UNKNOWN) for letter in ends]
        rows = {
            "ids": torch.from_numpy(ids), "letters": torch.from_numpy(letters),
            "shapes": torch.from_numpy(pad_rows([[_shape(word) for word in row] for row in words], 0)),
            "lengths": torch.tensor([len(row) for row in words], dtype=torch.int64),
            "owner": torch.tensor([owner + 1 for owner, _, _ in parts], dtype=torch.int64),
        }  # fmt: skip
        if examples and all(each.tags is not None for each in examples):
            targets = [self._targets(each) for each in examples]
            rows["target"] = torch.from_numpy(
                pad_rows([targets[owner][first : first + _PART] for owner, first, _ in parts], 0)
            )
        tensors = {name: fold_values(tensor, len(examples)) for name, tensor in rows.items()}
        tensors["owner"] -= 1  # so that what fills the last example's rows is nobody's
        count = int(rows["lengths"].sum()) if "target" in rows else 0
        extra = {"examples": list(examples), "owners": [owner for owner, _, _ in parts]}
        return Batch(tensors, count, len(examples), extra)

    def _targets(self, example: TokenExample) -> list[int]:
        for tag in example.tags or ():
            if tag not in self._tags:
                raise DataError(f"{example.id}: the tag {tag!r} is not among those that the model knows")
        return [self._tags[tag] for tag in example.tags or ()]

    def as_json(self) -> dict[str, Any]:
        return {
            "words": self.words, "rare": self.rare, "letters": self.letters, "labels": self.labels,
            "unknown": self.unknown,
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["words"], state["rare"], state["letters"], state["labels"], unknown=state["unknown"])


class BilstmCrf(NeuralModel):
    """Vectors of words, of their letters (a convolution) and of their shapes (capitals, digits), a recurrent layer in
    both directions, and a conditional random field over the tags. It knows words only by training."""

    Options: ClassVar[type[BilstmOptions]] = BilstmOptions
    ProcessorType: ClassVar[type[TaggingProcessor]] = TaggingProcessor
    ahead: ClassVar[int] = 32

    options: BilstmOptions
    processor: TaggingProcessor

    def __init__(self, *, options: BilstmOptions, problem: Problem, processor: TaggingProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.words = nn.Embedding(len(processor.words) + 2, options.words, padding_idx=_PAD)
        self.letters = nn.Embedding(len(processor.letters) + 2, options.letters, padding_idx=_PAD)
        self.shapes = nn.Embedding(len(_SHAPES), len(_SHAPES))
        for table in (self.words, self.letters):
            nn.init.uniform_(table.weight, -0.1, 0.1)
        self.filters = nn.Conv1d(options.letters, options.filters, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(options.dropout)
        width = options.words + options.filters + len(_SHAPES)
        self.recurrent = nn.LSTM(width, options.hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * options.hidden, len(problem["labels"]))
        self.field = ConditionalRandomField(problem["labels"])

    @classmethod
    def fit_processor(
        cls, *, options: BilstmOptions, problem: Problem, train: Split | None, seed: int
    ) -> TaggingProcessor:
        counts: Counter[str] = Counter()
        letters: set[str] = set()
        for index in range(len(train) if train is not None else 0):
            words = train[index].words  # type: ignore[index]  # there is none only where there is no train
            counts.update(word.lower() for word in words)
            letters.update(*words)
        known = sorted(counts, key=lambda word: (-counts[word], word))[: options.vocabulary]
        known = [word for word in known if _escaped(word) == word]
        rare = sum(counts[word] == 1 for word in known)
        plain = "".join(sorted(letter for letter in letters if _escaped(letter) == letter))
        return TaggingProcessor(known, rare, plain, problem["labels"], unknown=options.unknown)

    def forward(self, batch: Batch) -> Output:
        if not batch.size:  # the empty batch of an idle rank: the parameters take part
            total = torch.stack([parameter.sum() for parameter in self.parameters()]).sum()
            return Output(None, total * total.new_zeros(0, 1, 1))
        lengths, rows = unfold(batch, "lengths"), [unfold(batch, name) for name in ("ids", "letters", "shapes")]
        scores = torch.cat([self._scores(*(each[part.start : part.stop] for each in (*rows, lengths)))
                            for part in forwards(len(lengths))])  # fmt: skip
        if batch.get("target") is None:
            return Output(None, scores)
        likelihood = self.field.log_likelihood(scores, unfold(batch, "target"), lengths)
        return Output(-likelihood.sum() / batch.count, scores)  # a mean over words, so that long sentences count more

    def _scores(self, ids: Tensor, letters: Tensor, shapes: Tensor, lengths: Tensor) -> Tensor:
        """Of each tag for each word, [rows, words, tags]."""
        rows = self.letters(letters).flatten(0, 1).transpose(1, 2)
        spelt = self.filters(rows).amax(dim=2).reshape(*letters.shape[:2], -1)
        seen = torch.cat([self.words(ids), spelt, self.shapes(shapes)], dim=2)
        packed = pack_padded_sequence(self.dropout(seen), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=seen.shape[1])
        found: Tensor = self.output(self.dropout(states))
        return found.float()

    def decode(self, output: Output, batch: Batch) -> list[TagPrediction]:
        if not batch.size:
            return []
        scores, lengths, labels = output.logits, unfold(batch, "lengths"), self.problem["labels"]
        paths = best_paths(scores, self.field.all_steps(), lengths)
        chosen = self.field.probabilities(scores, lengths).gather(2, paths[:, :, None])[:, :, 0].float().cpu().numpy()
        tags: list[list[str]] = [[] for _ in batch.extra["examples"]]
        sure: list[list[float]] = [[] for _ in tags]
        for owner, size, path, row in zip(
            batch.extra["owners"], lengths.tolist(), paths.tolist(), chosen.tolist(), strict=True
        ):
            tags[owner] += [labels[tag] for tag in path[:size]]
            sure[owner] += row[:size]
        found = zip(batch.extra["examples"], tags, sure, strict=True)
        return [TagPrediction(example, tuple(own), np.array(scores)) for example, own, scores in found]


def _shape(word: str) -> int:
    """The place of a word's shape in `_SHAPES`."""
    if len(word) > 1 and word[0] in "@#":
        return 8 if word[0] == "@" else 9
    if word.lower().startswith(("http:", "https:", "www.")):
        return 10
    if not any(map(str.isalnum, word)):
        return 7
    if any(map(str.isdigit, word)):
        return 1 if not any(map(str.isalpha, word)) else 6
    for name, test in ((2, str.islower), (4, str.isupper), (3, str.istitle)):
        if test(word):
            return name if name != 4 or len(word) > 1 else 3
    return 5 if word.lower() != word else 0


def _escaped(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON in UTF-8 cannot hold."""
    return text.encode("utf-8", "ignore").decode("utf-8")
