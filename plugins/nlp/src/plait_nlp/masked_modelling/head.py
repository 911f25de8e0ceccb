"""What do hidden words, and texts that follow one another, ask of an architecture of transformers?"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from plait.errors import RecipeError
from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.heads import Head, Inputs, network_inputs, no_logits, pad_rows
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.masked_modelling.packing import Span, Spans, Template, draws_for, hide, pack, rows_of
from plait_nlp.masked_modelling.passages import Passage
from plait_nlp.masked_modelling.predictions import Filled, MaskedPrediction


class HiddenWordsHead(Head):
    """Cross-entropy of hidden tokens. The last layer, the largest of a small network, sees only where they are: at 15 %
    hidden and 8,000 tokens a step of a BERT of two layers of 128 then costs a third."""

    auto: ClassVar[str] = "AutoModelForMaskedLM"
    pairs: ClassVar[bool] = False

    def corpus(self, train: Split) -> Iterable[str]:
        return (sentence for index in range(len(train)) for sentence in train[index].sentences)

    def check(self, kind: type, config: Any) -> None:
        if getattr(config, "is_encoder_decoder", False):
            raise RecipeError(
                f"transformers/{config.model_type} is an encoder with a decoder; hidden words are told by an encoder",
                hint="such as transformers/bert, roberta, distilbert or electra",
            )

    def units(self, train: Split, *, inputs: Inputs) -> Split:
        tokenizer = inputs.tokenizer
        _mask_of(tokenizer)
        budget = inputs.max_length - Template.of(tokenizer).size
        if budget < 2:
            raise RecipeError(f"model.max_length={inputs.max_length} leaves no room beside special tokens")
        return pack(train, tokenizer, budget=budget, words=self.options.masking.whole_words)

    def lengths(self, examples: Split) -> Sequence[int] | None:
        if isinstance(examples, Spans):
            return examples.lengths()
        return [getattr(examples[index], "size", 0) for index in range(len(examples))]

    def collate(
        self, examples: Sequence[Span | Passage], keys: Sequence[Key], *, training: bool, inputs: Inputs
    ) -> Batch:
        if examples and isinstance(examples[0], Span):
            return self._spans([each for each in examples if isinstance(each, Span)], keys, inputs)
        return self._passages([each for each in examples if isinstance(each, Passage)], inputs)

    def _spans(self, examples: Sequence[Span], keys: Sequence[Key], inputs: Inputs) -> Batch:
        masking, tokenizer = self.options.masking, inputs.tokenizer
        draws = draws_for(keys, inputs.max_length)
        template, regular = self._known(tokenizer)
        rows = rows_of(examples, draws, template, pairs=self.pairs, max_length=inputs.max_length)
        whole = pad_rows(rows.ids, tokenizer.pad)
        hidden, chosen = hide(
            whole, rows, draws, probability=masking.probability, whole_words=masking.whole_words,
            mask=_mask_of(tokenizer), regular=regular,
        )  # fmt: skip
        tensors = inputs.padded(rows.ids, rows.types)
        tensors["input_ids"] = torch.from_numpy(hidden)
        tensors["masked"] = torch.from_numpy(chosen)
        tensors["target"] = torch.from_numpy(np.where(chosen, whole, -100))
        if self.pairs:
            tensors["follows"] = torch.from_numpy(rows.follows)
        return Batch(tensors, int(chosen.sum()), len(examples))

    def _passages(self, examples: Sequence[Passage], inputs: Inputs) -> Batch:
        """Passages with their spans hidden. `extra["places"]`: of each passage, of each hidden word, its tokens' rows
        among all that are hidden, and whether there is more of it than the model sees or writes."""
        tokenizer, mask = inputs.tokenizer, _mask_of(inputs.tokenizer)
        texts = [_with_marks(each, tokenizer) for each in examples]
        found = tokenizer.encodings(
            [text if pair is None else (text, pair) for text, pair, _ in texts], length=inputs.max_length
        )
        ids = pad_rows([each.ids for each in found], tokenizer.pad)
        masked = np.zeros(ids.shape, bool)
        listed = [_places(encoding, spans) for encoding, (_, _, spans) in zip(found, texts, strict=True)]
        for row, words in enumerate(listed):
            for places in words:
                masked[row, places] = True
        numbers = np.cumsum(masked.reshape(-1)).reshape(masked.shape) - 1
        unknown = ids == (-1 if tokenizer.id("unk") is None else tokenizer.id("unk"))
        extra = [
            [(numbers[row, places], not places or bool(unknown[row, places].any())) for places in words]
            for row, words in enumerate(listed)
        ]
        tensors = inputs.padded([each.ids for each in found], [each.type_ids for each in found])
        answered = bool(examples) and all(each.answers is not None for each in examples)
        tensors["masked"] = torch.from_numpy(masked)
        if answered:
            tensors["target"] = torch.from_numpy(np.where(masked, ids, -100))
        tensors["input_ids"] = torch.from_numpy(np.where(masked, mask, ids))
        if self.pairs and answered:
            known = [-100 if each.follows is None else int(not each.follows) for each in examples]
            tensors["follows"] = torch.tensor(known, dtype=torch.int64)
        return Batch(
            tensors, int(masked.sum()) if answered else 0, len(examples),
            {"places": extra, "passages": list(examples), "tokenizer": tokenizer},
        )  # fmt: skip

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:
            return Output(None, no_logits(network))
        masked = batch["masked"]
        with _last_layer_at(network, masked):
            found = network(**network_inputs(batch))
        logits = found["prediction_logits"] if "prediction_logits" in found else found["logits"]
        logits = (logits[masked] if logits.dim() == 3 else logits).float()
        follow = found.get("seq_relationship_logits", found.get("sop_logits"))
        extra = {} if follow is None else {"follow": follow.float()}
        target = batch.get("target")
        if target is None or not len(logits):
            return Output(None, logits, extra)
        loss = F.cross_entropy(logits, target[masked])
        known = batch.get("follows")
        if known is not None and follow is not None:
            # a row's pair weighs as much as its hidden tokens: so the loss is a mean over these in any micro-batch
            each = F.cross_entropy(follow.float(), known, reduction="none", ignore_index=-100)
            loss = loss + (each * masked.sum(1)).sum() / len(logits)
        return Output(loss, logits, extra)

    def decode(self, output: Output, batch: Batch) -> list[MaskedPrediction]:
        passages = batch.extra.get("passages", [])
        if not passages:
            return []
        scores = output.logits.double().log_softmax(1)
        target = batch.get("target")
        top = 1 if target is not None else min(self.options.masking.top, scores.shape[1])
        best = scores.topk(top, dim=1)
        values, tokens = best.values.cpu().numpy(), best.indices.cpu().numpy()
        wanted = costs = None
        if target is not None:
            true = target[batch["masked"]]
            wanted = true.cpu().numpy()
            costs = -scores[torch.arange(len(true), device=true.device), true].cpu().numpy()
        follow = output.extra.get("follow")
        goes_on = None if follow is None else follow.double().softmax(1)[:, 0].tolist()
        tokenizer = batch.extra["tokenizer"]
        return [
            MaskedPrediction(
                passage,
                tuple(_filled(at, spelled, values, tokens, wanted, costs, tokenizer) for at, spelled in places),
                None if goes_on is None or passage.pair is None else goes_on[row],
            )
            for row, (passage, places) in enumerate(zip(passages, batch.extra["places"], strict=True))
        ]

    _found: tuple[TextTokenizer, Template, npt.NDArray[np.int64]] | None = None

    def _known(self, tokenizer: TextTokenizer) -> tuple[Template, npt.NDArray[np.int64]]:
        """What is found out of the tokenizer once: its special tokens around texts, and those that are not special."""
        if self._found is None or self._found[0] is not tokenizer:
            special = {tokenizer.id(role) for role in tokenizer.specials}
            regular = np.array([number for number in range(len(tokenizer)) if number not in special], np.int64)
            self._found = tokenizer, Template.of(tokenizer), regular
        return self._found[1:]


class HiddenWordsAndNextSentenceHead(HiddenWordsHead):
    """The same, and the cross-entropy of whether a pair goes on where its text ends, which the first token's state
    tells (BERT's pre-training). Class 0: it does."""

    auto: ClassVar[str] = "AutoModelForPreTraining"
    pairs: ClassVar[bool] = True

    def check(self, kind: type, config: Any) -> None:
        super().check(kind, config)
        known = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]  # every network has one
        if not {"next_sentence_label", "sentence_order_label"} & set(known):
            raise RecipeError(
                f"transformers/{config.model_type} has no output for whether a text goes on",
                hint="transformers/bert has; or set data.next_sentence=false, as RoBERTa did",
            )


@contextmanager
def _last_layer_at(network: Any, masked: Tensor) -> Iterator[None]:
    """Inside, the layer that makes logits sees only the states where `masked` [rows, longest] is true, in order."""
    layer = network.get_output_embeddings()
    if layer is None:
        yield
        return
    handle = layer.register_forward_pre_hook(lambda module, given: (given[0][masked], *given[1:]))
    try:
        yield
    finally:
        handle.remove()


def _mask_of(tokenizer: TextTokenizer) -> int:
    found = tokenizer.id("mask")
    if found is None:
        raise RecipeError(
            "the tokenizer has no token that hides words (mask_token)",
            hint="take the directory of an encoder such as BERT, or model.tokenizer=wordpiece for a new one",
        )
    return found


def _with_marks(passage: Passage, tokenizer: TextTokenizer) -> tuple[str, str | None, list[tuple[int, int, int]]]:
    """The texts of a passage and its spans; where words are to be predicted, the tokenizer's own mark in them."""
    if passage.answers is not None:
        return passage.text, passage.pair, list(passage.spans)
    parts, spans, moved = [passage.text, passage.pair or ""], [], [0, 0]
    mark = tokenizer.specials["mask"]
    for which, start, end in passage.spans:
        start, end = start + moved[which], end + moved[which]
        parts[which] = parts[which][:start] + mark + parts[which][end:]
        spans.append((which, start, start + len(mark)))
        moved[which] += len(mark) - (end - start)
    return parts[0], None if passage.pair is None else parts[1], spans


def _places(encoding: Any, spans: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """Of each span, the tokens that overlap it."""
    found: list[list[int]] = [[] for _ in spans]
    for place, (which, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
        if which is None or start == end:
            continue
        for number, (part, first, last) in enumerate(spans):
            if part == which and start < last and end > first:
                found[number].append(place)
    return found


def _filled(
    at: npt.NDArray[np.int64], spelled: bool, values: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64] | None, costs: npt.NDArray[np.float64] | None, tokenizer: TextTokenizer,
) -> Filled:  # fmt: skip
    """What is said of a hidden word.

    Args:
        at: the rows of its tokens in the others, [hidden tokens, ...]: log-probabilities of the best tokens and these,
            the true tokens and what they cost.
    """
    if not len(at):
        return Filled((), spelled=True)
    if len(at) == 1:
        guesses = tuple(
            (_word([token], tokenizer), float(np.exp(value)))
            for value, token in zip(values[at[0]], tokens[at[0]], strict=True)
        )
    else:
        guesses = ((_word(tokens[at, 0].tolist(), tokenizer), float(np.exp(values[at, 0].sum()))),)
    if wanted is None or costs is None:
        return Filled(guesses)
    right = int((tokens[at, 0] == wanted[at]).sum())
    return Filled(guesses, float(costs[at].sum()), len(at), right, spelled)


def _word(tokens: Sequence[int], tokenizer: TextTokenizer) -> str:
    return tokenizer.decode(tokens, special=True).strip().removeprefix("##")
