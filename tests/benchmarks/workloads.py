"""What is trained where the cost of a step is measured: three kinds of network on numbers that mean nothing.

What an input shows does not change what a step costs. None has dropout, so that all who train one from the same weights
in the same order end with the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model import Batch, Key, NeuralModel, Output, Processor
from plait.options import ModelOptions

SEED = 7
CLASSES = 10
SIDE = 64  # pixels
MEAN, STD = 0.5, 0.25
FEATURES, HIDDEN = 256, 1024
TOKENS, VOCABULARY, WIDTH, LAYERS = 128, 2000, 256, 4


@dataclass(frozen=True, slots=True)
class Work(ABC):
    """A network, and examples for one epoch of training it. It does not know who trains it.

    Args:
        steps: batches of the epoch.
        clip: the largest norm of the gradient; None: no clipping.
        network: which of the timm networks, where there are several.
    """

    steps: int
    clip: float | None = None
    network: str = ""

    batch: ClassVar[int]
    """Examples of a step."""

    @abstractmethod
    def model(self) -> NeuralModel:
        """A fresh model for Plait, its bare network in `model.network`; its weights are the same every time."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Inputs [examples, ...] and labels int64 [examples], as a user would hold them in memory."""

    @abstractmethod
    def examples(self) -> Sequence[Any]:
        """The same one by one, as Plait's tasks hold them."""

    @abstractmethod
    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """What a hand-written loop computes from a batch of inputs, preprocessing included."""

    def ready(self, inputs: Tensor, labels: Tensor) -> Batch:
        """A batch of inputs as the model's processor would make it."""
        return Batch({"x": inputs, "y": labels}, len(labels), len(labels))

    @property
    def count(self) -> int:
        """Examples of the epoch."""
        return self.steps * self.batch

    def bare(self) -> nn.Module:
        """The network alone, fresh."""
        network: nn.Module = self.model().network.train()  # type: ignore[operator, union-attr]  # set in __init__
        return network

    def random(self) -> np.random.Generator:
        """The generator that all numbers are drawn from."""
        return np.random.default_rng(SEED)

    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Labels that mean nothing."""
        return np.random.default_rng(SEED + 1).integers(0, CLASSES, self.count)


class Images(Work):
    """A timm network on uint8 images 64x64, 16 a batch."""

    batch = 16

    def model(self) -> NeuralModel:
        from plait_vision.image_classification.timm_models import TimmClassifier

        options = TimmClassifier.Options.model_validate(
            {"name": f"timm/{self.network}", "image_size": SIDE, "augment": "none", "mean": MEAN, "std": STD}
        )
        problem = {"labels": [str(label) for label in range(CLASSES)], "height": SIDE, "width": SIDE, "channels": 3}
        return TimmClassifier.create(options=options, problem=problem, train=None, seed=SEED)

    def bare(self) -> nn.Module:
        """In the memory format that Plait would choose."""
        model = self.model()
        layout = torch.channels_last if model.prefers_channels_last else torch.contiguous_format
        network: nn.Module = model.network.to(memory_format=layout).train()  # type: ignore[operator, union-attr]  # as above
        return network

    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """uint8 [images, height, width, channels]."""
        return self.random().integers(0, 256, (self.count, SIDE, SIDE, 3), dtype=np.uint8)

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.pixels()).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(self.labels())

    def examples(self) -> Sequence[Any]:
        from plait_vision.images import ImageExample

        pairs = zip(self.pixels(), map(str, self.labels().tolist()), strict=True)
        return [ImageExample(*each) for each in pairs]

    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        weight = next((each for each in network.parameters() if each.ndim == 4), None)  # ZeRO 3 keeps none whole
        last = (
            weight is not None
            and weight.is_contiguous(memory_format=torch.channels_last)
            and not weight.is_contiguous()
        )
        x = self._normal(inputs)
        found: Tensor = network(x.contiguous(memory_format=torch.channels_last) if last else x)
        return found

    def ready(self, inputs: Tensor, labels: Tensor) -> Batch:
        return Batch({"image": self._normal(inputs), "label": labels}, len(labels), len(labels))

    def _normal(self, inputs: Tensor) -> Tensor:
        mean, std = (torch.full((3, 1, 1), value) for value in (MEAN, STD))
        return inputs.float().div_(255).sub_(mean).div_(std)


class Row(NamedTuple):
    """An example that is numbers: float32 [features] or int64 [tokens], and its label."""

    x: np.ndarray[Any, Any]
    label: int


class Rows(Processor):
    """Stacks rows."""

    def collate(self, examples: Sequence[Row], keys: Sequence[Key], *, training: bool) -> Batch:
        x = torch.from_numpy(np.stack([row.x for row in examples]))
        return Batch({"x": x, "y": torch.tensor([row.label for row in examples])}, len(examples), len(examples))

    def as_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls()


class Simple(NeuralModel):
    """A network that gives logits from rows.

    Args:
        network: it.
        inner: whether the logits are a field of what it gives.
    """

    ProcessorType = Rows

    def __init__(self, network: nn.Module, *, inner: bool = False) -> None:
        super().__init__(options=ModelOptions(name="bench/simple"), problem={}, processor=Rows())
        self.network, self._inner = network, inner

    @classmethod
    def fit_processor(cls, **_: Any) -> Rows:
        return Rows()

    def forward(self, batch: Batch) -> Output:
        found = self.network(batch["x"])
        logits = found.logits if self._inner else found
        return Output(F.cross_entropy(logits, batch["y"]), logits)

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return output.logits.argmax(-1).tolist()


class Vectors(Work):
    """256 numbers, a hidden layer of 1024, 10 classes, 32 a batch: 0.27 M parameters. A step is about a millisecond, so
    that it shows what a step costs beside its arithmetic."""

    batch = 32

    def model(self) -> NeuralModel:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return Simple(nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)))

    def numbers(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [rows, features]."""
        return self.random().standard_normal((self.count, FEATURES), dtype=np.float32)

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.numbers()), torch.from_numpy(self.labels())

    def examples(self) -> Sequence[Any]:
        return [Row(*each) for each in zip(self.numbers(), self.labels().tolist(), strict=True)]

    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        found: Tensor = network(inputs)
        return found


class Sentences(Work):
    """transformers' BERT of 4 layers of 256 on 128 tokens, 16 a batch: 3.8 M parameters."""

    batch = 16

    def model(self) -> NeuralModel:
        from plait.libraries import transformers

        library = transformers()
        config = library.BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
            intermediate_size=4 * WIDTH, max_position_embeddings=TOKENS, num_labels=CLASSES,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return Simple(library.BertForSequenceClassification(config), inner=True)

    def tokens(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """int64 [texts, tokens]."""
        return self.random().integers(0, VOCABULARY, (self.count, TOKENS))

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.tokens()), torch.from_numpy(self.labels())

    def examples(self) -> Sequence[Any]:
        return [Row(*each) for each in zip(self.tokens(), self.labels().tolist(), strict=True)]

    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        found: Tensor = network(inputs).logits
        return found


class Texts(Work):
    """plait-nlp's text classifier, a BERT of 2 layers of 128, on texts of 30 words, 64 a batch: 0.5 M parameters beside
    the table of words. All tokenize each batch when it is drawn; by hand that is the tokenizer of transformers."""

    batch = 64

    def model(self) -> NeuralModel:
        from plait_nlp.architectures.network import TransformersModel
        from plait_nlp.examples import TextSplit

        options = TransformersModel.Options.model_validate(
            {"name": "transformers/bert", "dropout": 0.0, "vocabulary": VOCABULARY, "buckets": False}
        )
        problem = {"objective": "classification", "target": "class", "labels": list(map(str, range(CLASSES)))}
        train = TextSplit(self.examples()[:500])
        return TransformersModel.create(options=options, problem={**problem, "pairs": False}, train=train, seed=SEED)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The number of each text [texts, 1]: a loop by hand holds texts, too."""
        return torch.arange(self.count)[:, None], torch.from_numpy(self.labels())

    def examples(self) -> Sequence[Any]:
        from plait_nlp.examples import TextExample

        pairs = zip(made_up(self.count), map(str, self.labels().tolist()), strict=True)
        return [TextExample(text, None, label, str(index)) for index, (text, label) in enumerate(pairs)]

    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        found: Tensor = network(**self._tokens(inputs)).logits
        return found

    def ready(self, inputs: Tensor, labels: Tensor) -> Batch:
        return Batch({**self._tokens(inputs), "target": labels}, len(labels), len(labels))

    def _tokens(self, inputs: Tensor) -> dict[str, Tensor]:
        texts, tokenizer = made_up(self.count), by_transformers(self)
        chosen = [texts[index] for index in inputs.flatten().tolist()]
        return dict(tokenizer(chosen, padding=True, truncation=True, max_length=128, return_tensors="pt"))


@cache
def made_up(count: int) -> list[str]:
    """Texts of 30 made-up words of two letters, of which each is a token."""
    words = np.array([one + other for one in "bdfgklmnprst" for other in "aeiou"])
    return [" ".join(row) for row in np.random.default_rng(SEED).choice(words, (count, 30)).tolist()]


@cache
def by_transformers(work: Texts) -> Any:
    """The tokenizer of the model of a work, as transformers has it."""
    from tokenizers import Tokenizer

    from plait.libraries import transformers

    own = work.model().processor.tokenizer  # type: ignore[attr-defined]  # a TextProcessor
    settings = {name: value for name, value in own.config().items() if name != "tokenizer_class"}
    known = Tokenizer.from_str(own.as_json()["tokenizer"])
    return transformers().PreTrainedTokenizerFast(tokenizer_object=known, **settings)


WORKS: dict[str, type[Work]] = {
    "mlp": Vectors,
    "resnet18": Images,
    "vit_tiny_patch16_224": Images,
    "bert-4l": Sentences,
    "texts": Texts,
}


def make(network: str, *, steps: int, clip: float | None = None) -> Work:
    """The work that a key of `WORKS` names."""
    return WORKS[network](steps, clip, network)
