"""What can be set of how a text is written, and of networks that write texts for texts?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plait.options import AFTERWARDS, ModelOptions, Options


class Decoding(Options):
    """How a text is found: the block `decoding`. All of it may be changed afterwards."""

    beam: int = Field(default=4, ge=1, json_schema_extra=AFTERWARDS)
    """Texts that are kept at each token (beam search); 1: the most probable token each time (greedy)."""
    length_penalty: float = Field(default=1.0, ge=0, json_schema_extra=AFTERWARDS)
    """Texts are compared by log-probability / tokens ** this: 0 likes short ones, 1 compares means, more likes long."""
    no_repeat: int = Field(default=0, ge=0, json_schema_extra=AFTERWARDS)
    """Never write the same run of this many tokens twice (3 is usual for summaries); 0: may repeat."""
    min_length: int = Field(default=0, ge=0, json_schema_extra=AFTERWARDS)
    """Tokens at least."""
    max_length: int | None = Field(default=None, ge=1, json_schema_extra=AFTERWARDS)
    """Tokens at most; None: twice as many as the input has, and ten, but no more than was trained on (max_target)."""


class SequenceOptions(Options):
    """What translation and summarization ask of an encoder-decoder of transformers."""

    prefix: str = ""
    """Put before each input, as a pretrained T5 wants it: "translate English to German: "."""
    max_target: int = Field(default=128, ge=2)
    """Longer targets are cut in training, tokens; how many is said before."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of the target's probability that is spread over all tokens in training."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How texts are found."""


class NetworkOptions(ModelOptions):
    """What the `model` blocks of networks that are built here share."""

    width: int = Field(default=256, ge=4)
    """Of vectors and states."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of vectors and states in training."""
    tokenizer: Literal["bpe", "unigram", "wordpiece", "byte", "char"] = "bpe"
    """One for both sides, trained on the training texts: bpe works on bytes, and so writes any script."""
    vocabulary: int | None = Field(default=None, ge=32)
    """Tokens at most; None: one for each 50 characters of the training texts, at least 400 and at most 4000."""
    lowercase: bool = False
    """Whether case and accents are dropped, of what is read and of what is written."""
    max_source: int = Field(default=256, ge=2)
    """Longer inputs are cut at their end, tokens; how many is said before training."""
    max_target: int = Field(default=128, ge=2)
    """Longer targets are cut in training, tokens; how many is said before."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of the target's probability that is spread over all tokens in training (Szegedy et al. 2016)."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How texts are found."""


class GruOptions(NetworkOptions):
    """The `model` block of nlp/seq2seq-gru."""

    layers: int = Field(default=1, ge=1)
    """Of the bidirectional encoder."""
    attention: Literal["general", "additive"] = "general"
    """How a place of the input is weighed: by a product (Luong et al. 2015), or a small network (Bahdanau et al.)."""


class TransformerOptions(NetworkOptions):
    """The `model` block of nlp/seq2seq-transformer."""

    layers: int = Field(default=3, ge=1)
    """Of the encoder, and of the decoder."""
    heads: int = Field(default=4, ge=1)
    """Of attention; width is a multiple of it."""
    intermediate: int = Field(default=1024, ge=4)
    """Width inside feed-forward layers."""
