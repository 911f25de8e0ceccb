"""What do vectors of texts ask of an architecture of transformers: pooling, and a loss that pulls pairs together?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.features import pool
from plait_nlp.architectures.heads import INPUTS, Head, Inputs, network_inputs, no_logits
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.examples import TextExample
from plait_nlp.sentence_embedding.task import Vectors
from plait_nlp.text_classification.head import count_cut, texts_of

_TEMPERATURE = 0.05  # of the softmax over a batch, as SimCSE has it (Gao et al. 2021)


class EmbeddingHead(Head):
    """The mean of a text's states, of length one; the loss is the cross-entropy of finding each text's pair among those
    of its (micro-)batch, on all processes, and each pair's text (InfoNCE, van den Oord et al. 2018)."""

    auto: ClassVar[str] = "AutoModel"
    compares_examples: ClassVar[bool] = True

    def corpus(self, train: Split) -> Iterable[str]:
        return chain.from_iterable(texts_of(train))

    def lengths(self, examples: Split) -> Sequence[int] | None:
        return [examples[index].size for index in range(len(examples))]

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        halves = [TextExample(text) for text in self.corpus(train)]
        return count_cut(halves, tokenizer, max_length)

    def collate(self, examples: Sequence[TextExample], keys: Sequence[Key], *, training: bool, inputs: Inputs) -> Batch:
        tensors = inputs.tensors([each.text for each in examples])
        paired = all(each.pair is not None for each in examples)
        if paired:
            other = inputs.tensors([each.pair or "" for each in examples])
            tensors |= {f"pair_{name}": tensor for name, tensor in other.items()}
        extra = {"of": [each.pair for each in examples]} if paired else {}
        return Batch(tensors, len(examples) if paired else 0, len(examples), extra)

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:
            return Output(None, no_logits(network))
        texts = self._vectors(network, network_inputs(batch))
        if batch.get("pair_input_ids") is None:
            return Output(None, texts)
        own = {name: batch[f"pair_{name}"] for name in INPUTS if f"pair_{name}" in batch.tensors}
        pairs = self._vectors(network, own)
        (all_texts, first), (all_pairs, _) = batch.across(texts), batch.across(pairs)
        target = torch.arange(batch.size, device=texts.device) + first
        by_text, by_pair = texts @ all_pairs.T / _TEMPERATURE, pairs @ all_texts.T / _TEMPERATURE
        loss = (F.cross_entropy(by_text, target) + F.cross_entropy(by_pair, target)) / 2
        return Output(loss, texts, {"pairs": pairs})

    def _vectors(self, network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        encoder = network.get_encoder() if network.config.is_encoder_decoder else network
        return pool(encoder(**inputs).last_hidden_state.float(), inputs["attention_mask"], "mean")

    def decode(self, output: Output, batch: Batch) -> list[Vectors]:
        texts = output.logits.float().cpu().numpy()
        pairs = output.extra.get("pairs")
        if pairs is None:
            return [Vectors(text) for text in texts]
        return [Vectors(*each) for each in zip(texts, pairs.float().cpu().numpy(), batch.extra["of"], strict=True)]
