"""What can be set of an architecture of transformers: its sizes, its tokenizer, or the directory that it comes from?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from plait.options import PATH, ModelOptions, Options
from plait_nlp.masked_modelling.options import MaskingOptions
from plait_nlp.question_answering.options import AnswerOptions
from plait_nlp.sequence_to_sequence.options import SequenceOptions


class LoraOptions(Options):
    """Low-rank adaptation (Hu et al. 2021): small matrices are trained beside frozen ones. Needs plait-nlp[lora]."""

    rank: int = Field(default=8, ge=1)
    """Of the matrices that are added."""
    alpha: int = Field(default=16, ge=1)
    """What is added is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Before the added matrices."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ends of the names of the layers that get them: ["query", "value"]; None: what peft knows of the architecture,
    else all linear layers."""


class TransformersOptions(ModelOptions):
    """The `model` block of transformers/*. Sizes are for what is built anew; a directory has its own."""

    directory: str | None = Field(default=None, json_schema_extra=PATH)
    """A local directory with config.json, model.safetensors and a tokenizer, as save_pretrained writes them."""
    pretrained: bool = False
    """Let `directory` be a name on the Hugging Face hub, and download it: the only thing that asks the network."""
    hidden: int = Field(default=128, ge=4)
    """Width of the states."""
    layers: int = Field(default=2, ge=1)
    """Of the encoder or decoder, or of each of both."""
    heads: int = Field(default=2, ge=1)
    """Of attention; hidden is a multiple of it."""
    intermediate: int = Field(default=512, ge=4)
    """Width inside feed-forward layers."""
    dropout: float | None = Field(default=0.1, ge=0, lt=1)
    """Of every kind that the architecture has, where it is built anew; None: the architecture's own."""
    config: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of the architecture's config, by its own names: {"hidden_act": "relu"}."""
    max_length: int = Field(default=128, ge=4)
    """Longer texts are cut, tokens; how many is said before training."""
    tokenizer: Literal["auto", "wordpiece", "bpe", "unigram", "byte", "char"] = "auto"
    """auto: the directory's, else one trained on the training texts: wordpiece for encoders, else byte-level bpe."""
    vocabulary: int = Field(default=8000, ge=32)
    """Tokens at most of a tokenizer that is trained."""
    lowercase: bool = False
    """Whether a tokenizer that is trained drops case and accents."""
    lora: LoraOptions | None = None
    """Train low-rank matrices and the head only; None: all that is not in `freeze`."""
    masking: MaskingOptions = Field(default_factory=MaskingOptions)
    """How words are hidden, where it is learned to tell them."""
    answers: AnswerOptions = Field(default_factory=AnswerOptions)
    """For question answering: how contexts are read and answers are found."""
    buckets: bool = True
    """Whether training batches are of texts of like length, which saves padding; else drawn without regard to it."""
    sequence: SequenceOptions = Field(default_factory=SequenceOptions)
    """For translation and summarization: what is put before inputs, lengths of targets, and the search."""
