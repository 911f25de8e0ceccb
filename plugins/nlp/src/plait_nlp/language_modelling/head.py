"""What does a causal language model ask of an architecture of transformers?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.heads import Head, Inputs
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.tokens import Packing, alphabet_of, decode_scores, sample_of, score_batch

_CHECKED = 64  # pieces that must come back from the tokenizer as they were


class CausalHead(Head):
    """Cross-entropy of the next token, over packed blocks; texts are judged in windows. See `Packing`."""

    auto: ClassVar[str] = "AutoModelForCausalLM"

    def corpus(self, train: Split) -> Iterable[str]:
        return alphabet_of(train) if self.options.tokenizer == "char" else sample_of(train)

    def settings(self) -> dict[str, Any]:
        return {"is_decoder": True}  # else encoders such as BERT see the token that they are to predict

    def packing(self, tokenizer: TextTokenizer, length: int) -> Packing:
        """How texts are cut."""
        return Packing(tokenizer=tokenizer, length=length)

    def units(self, train: Split, *, inputs: Inputs) -> Split:
        return self.packing(inputs.tokenizer, inputs.max_length).units(train)

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        pieces: list[Piece] = [train[index] for index in range(min(_CHECKED, len(train)))]
        for piece, ids in zip(pieces, tokenizer.encode([each.text for each in pieces], special=False), strict=True):
            if tokenizer.decode(ids) != piece.text:
                return (
                    f"the tokenizer does not keep texts as they are (first: {piece.id}): numbers per byte are of other"
                    " texts, and too low; model.tokenizer=bpe, byte and char keep them"
                )
        return self.packing(tokenizer, max_length).shortage(train)

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool, inputs: Inputs) -> Batch:
        return self.packing(inputs.tokenizer, inputs.max_length).collate(examples, keys, training=training)

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:  # the empty batch of an idle rank: the parameters take part all the same
            return Output(None, sum(each.sum() for each in network.parameters()) * batch["ids"].float().sum((1, 2)))
        return score_batch(
            lambda ids: network(input_ids=ids, use_cache=False).logits, batch, vocabulary=network.config.vocab_size
        )

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return decode_scores(output, batch)
