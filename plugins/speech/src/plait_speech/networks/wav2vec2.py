"""How does a wav2vec2-style encoder from a local directory write text?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from plait.errors import RecipeError
from plait.libraries import transformers
from plait.model import Processor
from plait.options import PATH, ModelOptions
from plait.task import Problem, Split
from plait.weights import read_weights
from plait_speech.decoding.writing import Decoding, Writing
from plait_speech.networks.recognizer import CtcRecognizer, impossible
from plait_speech.networks.units import UnitKind
from plait_speech.networks.waveforms import KINDS, WaveformProcessor, read_encoder_directory

_RATE = 16_000  # Hz; of encoders that are built from sizes
_CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel and stride; 320 samples to a state
_OLD_NORMS = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


class Wav2Vec2Options(ModelOptions):
    """The `model` block of speech/wav2vec2. The sizes are for an encoder built anew; a directory has its own."""

    directory: str | None = Field(default=None, json_schema_extra=PATH)
    """A local directory of transformers with config.json and weights of Wav2Vec2, HuBERT or WavLM; None: build one."""
    architecture: Literal["wav2vec2", "hubert", "wavlm"] = "wav2vec2"
    """What is built."""
    width: int = Field(default=64, ge=8)
    """Of the transformer's states."""
    layers: int = Field(default=2, ge=1)
    """Of the transformer."""
    heads: int = Field(default=4, ge=1)
    """Of its attention; width is a multiple of it."""
    inner: int = Field(default=128, ge=1)
    """Of its feed-forward layers."""
    channels: int = Field(default=32, ge=1)
    """Of the seven convolutions over samples."""
    units: UnitKind = "characters"
    """What is written: characters, or whole words of the training transcripts (for few words, as digits)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the last layer, and in an encoder that is built."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How texts are found."""


class Wav2Vec2(CtcRecognizer):
    """A wav2vec 2.0 encoder (Baevski et al. 2020), HuBERT (Hsu et al. 2021) or WavLM (Chen et al. 2022) of
    transformers, with a linear layer and the CTC loss: fine-tuned from a local directory, or built anew and small.

    Nothing is looked for outside that directory, and nothing in it is executed. An utterance's states do not depend on
    its batch, which transformers' own forward gives only without padding: the convolutions, whose group normalisation
    sees padding, run over each utterance alone. Masking and layer drop are off: they would draw from global generators.
    """

    Options: ClassVar[type[Wav2Vec2Options]] = Wav2Vec2Options
    ProcessorType: ClassVar[type[Processor]] = WaveformProcessor

    options: Wav2Vec2Options
    processor: WaveformProcessor

    @classmethod
    def fit_processor(
        cls, *, options: Wav2Vec2Options, problem: Problem, train: Split | None, seed: int
    ) -> WaveformProcessor:
        writing = Writing.fitted(options.units, options.decoding, problem=problem, train=train)
        if options.directory is not None:
            config, rate, normalize = read_encoder_directory(Path(options.directory))
        else:
            config, rate, normalize = _config(options), _RATE, True

        def states(seconds: float) -> int:
            samples = round(seconds * rate)
            for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
                samples = max(0, samples - kernel) // stride + 1
            return samples

        notes = impossible(train, writing.units, states)
        return WaveformProcessor(rate=rate, normalize=normalize, writing=writing, config=config, notes=notes)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: Wav2Vec2Options, problem: Problem, train: Split | None
    ) -> WaveformProcessor:
        taken: WaveformProcessor = processor
        return taken

    @classmethod
    def build(cls, *, options: Any, problem: Problem, processor: Any, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if options.directory is not None:
            given = _renamed(read_weights(Path(options.directory)), str(processor.config["model_type"]))
            notes = model.take_weights(given)
            model.notes += [f"{options.directory}: {note}" for note in notes if not note.startswith("head.")]
        return model

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return super().load(directory, options=options.model_copy(update={"directory": None}), problem=problem)

    def make_layers(self) -> int:
        self.encoder = _encoder(self.processor.config)
        config = self.encoder.config
        self.kernels = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        return int(config.hidden_size)

    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples [batch, samples] of these lengths to states [batch, states, width] and how many each has."""
        seen = [self._extracted(row[:length]) for row, length in zip(frames, lengths.tolist(), strict=True)]
        counts = torch.tensor([len(each) for each in seen], device=frames.device)
        projected = self.encoder.feature_projection(pad_sequence(seen, batch_first=True))
        states = projected[0] if isinstance(projected, tuple) else projected  # HuBERT gives the states alone
        there = torch.arange(states.shape[1], device=frames.device) < counts[:, None]
        hidden: Tensor = self.encoder.encoder(states, attention_mask=there).last_hidden_state
        return hidden, counts

    def _extracted(self, samples: Tensor) -> Tensor:
        """What the convolutions make of one utterance, [states, channels]; a very short one is filled up with zeros."""
        needed = 1
        for kernel, stride in reversed(self.kernels):
            needed = (needed - 1) * stride + kernel
        samples = F.pad(samples, (0, max(0, needed - len(samples))))
        found: Tensor = self.encoder.feature_extractor(samples[None])[0].T
        return found


def _config(options: Wav2Vec2Options) -> dict[str, Any]:
    """The config.json of an encoder of the sizes asked for."""
    if options.width % options.heads:
        raise RecipeError(f"model.width={options.width} is no multiple of model.heads={options.heads}")
    kernels, strides = zip(*_CONVOLUTIONS, strict=True)
    sizes = {
        "hidden_size": options.width, "num_hidden_layers": options.layers, "num_attention_heads": options.heads,
        "intermediate_size": options.inner, "conv_dim": [options.channels] * len(_CONVOLUTIONS),
        "conv_kernel": list(kernels), "conv_stride": list(strides), "num_feat_extract_layers": len(_CONVOLUTIONS),
        "feat_extract_norm": "layer", "num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": options.dropout, "attention_dropout": options.dropout, "activation_dropout": options.dropout,
        "feat_proj_dropout": options.dropout,
    }  # fmt: skip
    return {"model_type": options.architecture, **sizes}


def _encoder(described: Mapping[str, Any]) -> Any:
    """A transformers model of a config.json, newly initialised."""
    library = transformers()
    kind = described.get("model_type")
    if kind not in KINDS or described.get("add_adapter"):
        raise RecipeError(
            f"an encoder of model_type {kind!r}{' with an adapter' if described.get('add_adapter') else ''}",
            hint=f"expected {', '.join(KINDS)}, without adapter",
        )
    off = {"layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0, "apply_spec_augment": False}
    values = {key: value for key, value in described.items() if key not in ("model_type", "auto_map")}
    config = library.AutoConfig.for_model(kind, **{**values, **off})
    return library.AutoModel.from_config(config, trust_remote_code=False)


def _renamed(weights: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """A directory's weights under our names: with or without head, and with torch's older names of weight norms."""
    found = {}
    for name, tensor in weights.items():
        name = re.sub(r"weight_[gv]$", lambda match: _OLD_NORMS[match[0]], name.removeprefix(f"{kind}."))
        found[f"encoder.{name}"] = tensor
    return found
