"""What do translation and summarization ask of an encoder-decoder of transformers (T5, BART, Marian)?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.heads import Head, Inputs, network_inputs, pad_rows
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.sequence_to_sequence.batching import (
    IGNORED,
    chosen_references,
    count_cut,
    cut_rows,
    texts_of,
    token_loss,
)
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText
from plait_nlp.sequence_to_sequence.search import Rules
from plait_nlp.sequence_to_sequence.writing import write_batch


class SequenceHead(Head):
    """Cross-entropy of the reference's tokens, and the house's own search for the text."""

    auto: ClassVar[str] = "AutoModelForSeq2SeqLM"

    def corpus(self, train: Split) -> Iterable[str]:
        return texts_of(train)

    def lengths(self, examples: Split) -> Sequence[int] | None:
        return [examples[index].size for index in range(len(examples))]

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        options = self.options.sequence
        notes = count_cut(
            train, tokenizer, max_source=max_length, max_target=min(max_length, options.max_target),
            names=("model.max_length", "model.sequence.max_target"),
        )  # fmt: skip
        return "; ".join(notes) or None

    def collate(
        self, examples: Sequence[SequenceExample], keys: Sequence[Key], *, training: bool, inputs: Inputs
    ) -> Batch:
        options, tokenizer = self.options.sequence, inputs.tokenizer
        ids, cut = cut_rows(tokenizer, [options.prefix + each.text for each in examples], inputs.max_length)
        tensors = inputs.padded(ids)
        count = 0
        if all(each.references for each in examples):
            texts = chosen_references(examples, keys, training=training)
            rows, _ = cut_rows(tokenizer, texts, min(inputs.max_length, options.max_target))
            tensors["target"] = torch.from_numpy(pad_rows(rows, IGNORED))
            count = sum(map(len, rows))
        return Batch(tensors, count, len(examples), {"cut": cut, "sizes": [len(row) for row in ids]})

    def forward(self, network: Any, batch: Batch) -> Output:
        target = batch.get("target")
        if not batch.size or target is None:  # an idle rank goes through the same modules, with a row nobody reads
            row = {name: tensor.new_ones((1, 1)) for name, tensor in network_inputs(batch).items()}
            found = network(**row, decoder_input_ids=row["input_ids"], use_cache=False)
            return Output(None, found.logits[0, :0])
        found = network(**network_inputs(batch), decoder_input_ids=_shifted(target, network), use_cache=False)
        counted = target != IGNORED
        logits = found.logits[counted]
        smoothing = self.options.sequence.label_smoothing if network.training else 0.0
        return Output(token_loss(logits, target[counted], smoothing=smoothing), logits)

    def decode(self, output: Output, batch: Batch) -> list[WrittenText]:
        raise RuntimeError("a text is written by predict_batch, token by token")

    def predict_batch(
        self, network: Any, batch: Batch, engine: Any, output: Output | None, *, inputs: Inputs
    ) -> list[WrittenText]:
        options, ends = self.options.sequence, _numbers(network.config.eos_token_id)
        start, forced = _start(network), _numbers(network.generation_config.forced_bos_token_id)
        rules = Rules(
            start=start, ends=ends, banned=[each for each in {inputs.tokenizer.pad, start} if each not in ends],
            longest=min(inputs.max_length, options.max_target), forced=forced[0] if forced else None,
        )  # fmt: skip
        return write_batch(
            lambda given: NetworkSteps(network, given), network_inputs(batch), batch, rules=rules,
            tokenizer=inputs.tokenizer, options=options.decoding, engine=engine,
        )  # fmt: skip


class NetworkSteps:
    """`search.Steps` of an encoder-decoder of transformers, with its own cache."""

    def __init__(self, network: Any, given: dict[str, Tensor]) -> None:
        self._network, self._mask, self._cache = network, given["attention_mask"], None
        self._seen = network.get_encoder()(input_ids=given["input_ids"], attention_mask=self._mask, return_dict=True)

    def next(self, tokens: Tensor) -> Tensor:
        found = self._network(
            encoder_outputs=self._seen, attention_mask=self._mask, decoder_input_ids=tokens[:, None],
            past_key_values=self._cache, use_cache=True,
        )  # fmt: skip
        self._cache = found.past_key_values
        logits: Tensor = found.logits[:, -1].float()
        return logits.log_softmax(-1)

    def select(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._seen = type(self._seen)(last_hidden_state=self._seen.last_hidden_state[rows])
        if self._cache is not None:
            self._cache.reorder_cache(rows)


def _shifted(target: Tensor, network: Any) -> Tensor:
    """What the decoder reads: the start, then all targets but the last."""
    pad = network.config.pad_token_id
    read = torch.full_like(target, network.config.eos_token_id if pad is None else pad)
    read[:, 1:] = target[:, :-1].masked_fill(target[:, :-1] == IGNORED, int(read[0, 0]))
    read[:, 0] = _start(network)
    return read


def _start(network: Any) -> int:
    """What writing starts from."""
    found = network.config.decoder_start_token_id
    found = network.generation_config.decoder_start_token_id if found is None else found
    return int(network.config.bos_token_id if found is None else found)


def _numbers(value: Any) -> list[int]:
    """One number, several, or none, as transformers' configs have them."""
    if value is None:
        return []
    return [int(value)] if isinstance(value, int) else [int(each) for each in value]
