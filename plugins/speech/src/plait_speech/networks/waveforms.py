"""How do utterances become the samples that a pretrained speech encoder was trained on?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.utils.rnn import pad_sequence

from plait.data import no_such_path
from plait.errors import DataError, IntegrityError
from plait.model import Batch, Key, Processor
from plait_speech.audio import Utterance, resample
from plait_speech.decoding.writing import Writing, term_count

_SMALLEST_VARIANCE = 1e-7  # as transformers' Wav2Vec2FeatureExtractor has it
KINDS = ("wav2vec2", "hubert", "wavlm")
"""The architectures, as `model_type` of a config.json calls them."""


@dataclass(frozen=True, kw_only=True)
class WaveformProcessor(Processor):
    """The preprocessing of a recogniser on samples. It knows no file, no network and no device.

    Args:
        rate: Hz; utterances at another rate are resampled.
        normalize: whether each utterance gets mean 0 and variance 1, as preprocessor_config.json says (`do_normalize`).
        writing: how texts become numbers, and numbers texts.
        config: the encoder's config.json.
    """

    rate: int
    normalize: bool
    writing: Writing
    config: Mapping[str, Any]

    def collate(self, examples: Sequence[Utterance], keys: Sequence[Key], *, training: bool) -> Batch:
        """Samples, filled up with zeros to the longest, and targets.

        Returns:
            "features": float32 [batch, samples]; "lengths": int64 [batch], samples; "targets" and "target_lengths" as
            `Writing.targets`.
        """
        found = [torch.from_numpy(resample(each.samples, each.rate, self.rate)) for each in examples]
        if self.normalize:
            found = [(each - each.mean()) / (each.var(correction=0) + _SMALLEST_VARIANCE).sqrt() for each in found]
        padded = pad_sequence(found, batch_first=True) if found else torch.zeros(0, 1)
        tensors = {"features": padded, "lengths": torch.tensor([len(each) for each in found], dtype=torch.int64)}
        tensors |= self.writing.targets(examples, training=training)
        return Batch(tensors, count=term_count(tensors, len(examples)), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        return {
            "rate": self.rate, "normalize": self.normalize, "writing": self.writing.as_json(),
            "config": dict(self.config),
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            return cls(**{**state, "writing": Writing.from_json(state["writing"])})
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"processor.json does not describe a recogniser's processor: {error}") from error


def read_encoder_directory(path: Path) -> tuple[dict[str, Any], int, bool]:
    """What a transformers directory says of its encoder: config.json, the rate in Hz, and whether utterances are
    normalised. Nothing in it is executed.

    Raises:
        DataError: no such directory, no config.json in it, or an encoder of another kind.
    """
    if not path.is_dir():
        raise no_such_path(path)
    config = _json(path / "config.json")
    if config is None:
        listed = ", ".join(sorted(each.name for each in path.iterdir())[:8]) or "nothing"
        raise DataError(f"{path}: no config.json in this directory", hint=f"it has {listed}")
    if config.get("model_type") not in KINDS:
        raise DataError(
            f"{path / 'config.json'}: model_type is {config.get('model_type')!r}; expected {', '.join(KINDS)}",
            hint="name a directory that save_pretrained wrote for Wav2Vec2, HuBERT or WavLM",
        )
    said = _json(path / "preprocessor_config.json") or {}
    # without the file: base models, whose extractor has a group norm, take samples as they are
    normalize = said.get("do_normalize", config.get("feat_extract_norm") == "layer")
    return config, int(said.get("sampling_rate", 16_000)), bool(normalize)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds {type(found).__name__}, expected an object")
    return found
