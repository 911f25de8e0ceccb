"""Which networks that are built here translate and summarize, and how are they fitted and asked?"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from plait.engine.base import Engine
from plait.errors import DataError
from plait.model import Batch, NeuralModel, Output
from plait.task import Problem, Split
from plait_nlp.architectures.tokenizers import train_tokenizer
from plait_nlp.sequence_to_sequence.attending import TransformerNetwork
from plait_nlp.sequence_to_sequence.batching import (
    IGNORED,
    PairProcessor,
    count_cut,
    texts_of,
    token_loss,
)
from plait_nlp.sequence_to_sequence.examples import WrittenText
from plait_nlp.sequence_to_sequence.options import GruOptions, NetworkOptions, TransformerOptions
from plait_nlp.sequence_to_sequence.recurrent import GruNetwork
from plait_nlp.sequence_to_sequence.search import Rules, Steps
from plait_nlp.sequence_to_sequence.writing import write_batch


class SequenceNetwork(Protocol):
    """What the models here ask of a network: vectors for a target that is known, and writing step by step."""

    vectors: Any

    def __call__(self, source: Tensor, mask: Tensor, written: Tensor) -> Tensor: ...

    def steps(self, source: Tensor, mask: Tensor) -> Steps: ...


class SequenceModel(NeuralModel):
    """An encoder-decoder with one tokenizer for both sides. A subclass says which network it is."""

    Options: ClassVar[type[NetworkOptions]]
    ProcessorType: ClassVar[type[PairProcessor]] = PairProcessor
    network_type: ClassVar[Any]
    ahead: ClassVar[int] = 32

    options: NetworkOptions
    processor: PairProcessor

    def __init__(self, *, options: Any, problem: Problem, processor: PairProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes = list(processor.notes)
        self.network: Any = self.network_type(options, vocabulary=len(processor.tokenizer))

    @classmethod
    def fit_processor(
        cls, *, options: NetworkOptions, problem: Problem, train: Split | None, seed: int
    ) -> PairProcessor:
        if train is None:
            raise DataError(f"{options.name}: there are no texts to train a tokenizer on", hint="give data with train")
        # a token must be seen often enough to learn its vector, and whole words of few texts would be learnt by heart
        size = options.vocabulary or min(4000, max(400, sum(map(len, texts_of(train))) // 50))
        tokenizer = train_tokenizer(
            texts_of(train), kind=options.tokenizer, style="seq2seq", size=size, lowercase=options.lowercase
        )
        limits = {"max_source": options.max_source, "max_target": options.max_target}
        notes = count_cut(train, tokenizer, **limits, names=("model.max_source", "model.max_target"))
        return PairProcessor(tokenizer, **limits, notes=notes)

    def forward(self, batch: Batch) -> Output:
        """The loss of targets, and the logits of their tokens one after another, [tokens, vocabulary]."""
        target = batch.get("target")
        if not batch.size or target is None:  # an idle rank goes through the same modules, with a row nobody reads
            row = batch["source"].new_zeros((1, 1))
            return Output(None, self.network.vectors(self.network(row, row == 0, row)[0, :0]))
        vectors = self.network(batch["source"], batch["mask"], batch["written"])
        counted = target != IGNORED
        # the output layer costs more than all else: it is not asked about fillers
        logits = self.network.vectors(vectors[counted])
        smoothing = self.options.label_smoothing if self.training else 0.0
        return Output(token_loss(logits, target[counted], smoothing=smoothing), logits)

    def decode(self, output: Output, batch: Batch) -> list[WrittenText]:
        """What is written for a batch; logits of a known target do not help with that."""
        return self.write(batch, None)

    def predict_batch(self, batch: Batch, engine: Engine, output: Output | None = None) -> list[WrittenText]:
        return self.write(batch, engine)

    def write(self, batch: Batch, engine: Engine | None) -> list[WrittenText]:
        """The best text that the search finds for each input."""
        processor = self.processor
        rules = Rules(
            start=processor.start, ends=(processor.end,), banned=(processor.start, processor.tokenizer.pad),
            longest=processor.max_target,
        )  # fmt: skip
        given = {"source": batch["source"], "mask": batch["mask"]}
        return write_batch(
            lambda tensors: self.network.steps(**tensors), given, batch, rules=rules, tokenizer=processor.tokenizer,
            options=self.options.decoding, engine=engine,
        )  # fmt: skip


class GruSequence(SequenceModel):
    """Recurrent networks with attention."""

    Options: ClassVar[type[NetworkOptions]] = GruOptions
    network_type: ClassVar[type[nn.Module]] = GruNetwork


class TransformerSequence(SequenceModel):
    """A Transformer encoder-decoder."""

    Options: ClassVar[type[NetworkOptions]] = TransformerOptions
    network_type: ClassVar[type[nn.Module]] = TransformerNetwork
