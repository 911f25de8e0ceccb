"""How does any architecture of transformers become a model: built from sizes, or from a local directory?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from plait.errors import DataError, RecipeError
from plait.libraries import transformers
from plait.model import Batch, Model, NeuralModel, Output
from plait.task import Problem, Split
from plait.weights import load_tensors
from plait_nlp.architectures.configuration import longest, make_config
from plait_nlp.architectures.directory import AUTO, check_block, known_types, need_tokenizer, read_directory, variant
from plait_nlp.architectures.heads import Head, head_for
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.processor import TextProcessor
from plait_nlp.architectures.tokenizers import Style, TextTokenizer, load_tokenizer, train_tokenizer
from plait_registry.targets import describe


class TransformersModel(NeuralModel):
    """A network of transformers with the head that a task asks for. It does not know the task beyond its problem.

    Random weights are the default; a directory brings its own weights, sizes and tokenizer. What it saves is such a
    directory: `AutoModel.from_pretrained(RUN/model)` loads it, and nothing in it is executed.
    """

    Options: ClassVar[type[TransformersOptions]] = TransformersOptions
    ProcessorType: ClassVar[type[TextProcessor]] = TextProcessor
    ahead: ClassVar[int] = 32

    options: TransformersOptions
    processor: TextProcessor

    def __init__(self, *, options: TransformersOptions, problem: Problem, processor: TextProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes = list(processor.notes)
        self.compares_examples = self.head.compares_examples
        self.network: Any = self._network()
        if options.lora is not None:
            from plait_nlp.architectures.lora import add_lora

            add_lora(self.network, options.lora, head=self._new_modules())

    @property
    def head(self) -> Head:
        """What the task asks of the network; it makes batches too, in loader processes."""
        return self.processor.head

    @classmethod
    def variants(cls) -> Sequence[str]:
        return AUTO, *known_types()

    @classmethod
    def fit_processor(
        cls, *, options: TransformersOptions, problem: Problem, train: Split | None, seed: int
    ) -> TextProcessor:
        check_block(options.as_json())
        head, library = head_for(problem, options), transformers(allow_hub=options.pretrained)
        tokenizer, config = (
            _given(library, options, head, train) if options.directory else _new(library, options, head, train)
        )
        _check_served(library, config, head)
        for name, value in head.settings().items():
            setattr(config, name, value)
        limits = [each for each in (options.max_length, tokenizer.limit, longest(config)) if each is not None]
        note = None if train is None else head.cut(train, tokenizer, min(limits))
        return TextProcessor(
            tokenizer=tokenizer, config=_plain(config), problem=problem, options=options, max_length=min(limits),
            notes=[note] if note else [],
        )  # fmt: skip

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: TransformersOptions, problem: Problem, train: Split | None
    ) -> TextProcessor:
        """The tokenizer and sizes of an earlier run, for this problem and its head."""
        if not isinstance(processor, TextProcessor):
            raise RecipeError(f"model.from: {options.name} needs a run of transformers/*, with its tokenizer")
        head = head_for(problem, options)
        config = _config_of(transformers(), processor.config)
        for name, value in head.settings().items():
            setattr(config, name, value)
        limit = min(processor.max_length, options.max_length)
        note = None if train is None else head.cut(train, processor.tokenizer, limit)
        return TextProcessor(
            tokenizer=processor.tokenizer, config=_plain(config), problem=problem, options=options, max_length=limit,
            notes=[note] if note else [],
        )  # fmt: skip

    def _network(self) -> Any:
        """The network: weights of the directory, where one is given, else new."""
        library, options = transformers(allow_hub=self.options.pretrained), self.options
        config = _config_of(library, self.processor.config)
        kind = getattr(library, self.head.auto)
        if options.directory is None:
            return kind.from_config(config).float()
        try:
            found, report = kind.from_pretrained(
                options.directory, config=config, local_files_only=not options.pretrained, use_safetensors=True,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # damaged, foreign or half-written weights fail in many ways
            raise DataError(
                f"{options.directory}: its weights cannot be loaded: {describe(error)}",
                hint="write them again with model.save_pretrained(DIR)",
            ) from error
        self.notes += _left(options.directory, found, report)
        return found.float()

    def _new_modules(self) -> list[str]:
        """Names of the modules outside the trunk: the head, which is trained whole under LoRA."""
        names = [name for name, _ in self.network.named_children()]
        # T5 has the parts of its trunk beside its head, not in a module of their own
        trunk = {self.network.base_model_prefix} & {*names} or {"shared", "encoder", "decoder"}
        return [name for name in names if name not in trunk]

    def forward(self, batch: Batch) -> Output:
        return self.head.forward(self.network, batch)

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return self.head.decode(output, batch)

    def predict_batch(self, batch: Batch, engine: Any, output: Output | None = None) -> list[Any]:
        found = self.head.predict_batch(self.network, batch, engine, output, inputs=self.processor.inputs)
        return super().predict_batch(batch, engine, output) if found is None else found

    def start_from(self, other: Model) -> list[str]:
        if not isinstance(other, TransformersModel):
            raise TypeError(f"{type(other).__name__} has no weights for an architecture of transformers")
        return self.take_weights(_trunk_renamed(other.state_dict(), other.network, self.network))

    # A directory that transformers loads as it is

    def name_in_file(self, name: str) -> str:
        """As `transformers` calls it."""
        return name.removeprefix("network.")

    def save_assets(self, directory: Path) -> None:
        state = self.processor.as_json()
        tokenizer, config = state.pop("tokenizer"), state.pop("config")
        state["specials"], state["limit"] = tokenizer["specials"], tokenizer["limit"]
        (directory / "tokenizer.json").write_text(tokenizer["tokenizer"], encoding="utf-8")
        for name, values in (
            ("config.json", {**config, "architectures": [type(self.network).__name__]}),
            ("tokenizer_config.json", self.processor.tokenizer.config()),
            ("processor.json", state),
        ):
            (directory / name).write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: TransformersOptions, problem: Problem) -> Self:
        state = json.loads((directory / "processor.json").read_text(encoding="utf-8"))
        state["config"] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        tokenizer = (directory / "tokenizer.json").read_text(encoding="utf-8")
        state["tokenizer"] = {"tokenizer": tokenizer, "specials": state.pop("specials"), "limit": state.pop("limit")}
        own = options.model_copy(update={"directory": None, "from_": None, "pretrained": False})
        state["options"] = own.as_json()  # with what was changed afterwards: how answers are found
        model = cls.build(options=own, problem=problem, processor=TextProcessor.from_json(state), seed=0)
        model.options = options
        model.network.load_state_dict(load_tensors(directory / "model.safetensors"))
        return model


def _given(library: Any, options: TransformersOptions, head: Head, train: Split | None) -> tuple[TextTokenizer, Any]:
    """Tokenizer and config of a directory (or, where that is allowed, of a name on the hub)."""
    assert options.directory is not None
    if options.pretrained and not Path(options.directory).is_dir():
        config = library.AutoConfig.from_pretrained(options.directory)
        from plait_nlp.architectures.tokenizers import wrap_tokenizer

        return wrap_tokenizer(library.AutoTokenizer.from_pretrained(options.directory)), config
    found = read_directory(Path(options.directory))
    config = library.AutoConfig.from_pretrained(str(found.path), local_files_only=True)
    if options.tokenizer != "auto":
        return _trained(library, options, head, train, config), config
    need_tokenizer(found)
    return load_tokenizer(found.path, transformers=library), config


def _new(library: Any, options: TransformersOptions, head: Head, train: Split | None) -> tuple[TextTokenizer, Any]:
    """A tokenizer trained on the training texts, and a config of the sizes asked for."""
    kind = variant(options.name)
    try:
        default = library.CONFIG_MAPPING[kind]()
    except Exception as error:  # a config of several parts wants them
        raise RecipeError(f"{options.name} cannot be built from sizes: {error}", hint="give model.directory") from error
    tokenizer = _trained(library, options, head, train, default)
    sizes = {name: getattr(options, name) for name in ("hidden", "layers", "heads", "intermediate", "max_length")}
    return tokenizer, make_config(
        library, kind, sizes=sizes, dropout=options.dropout, tokenizer=tokenizer, extra=options.config
    )


def _trained(library: Any, options: TransformersOptions, head: Head, train: Split | None, config: Any) -> TextTokenizer:
    if train is None:
        raise RecipeError(
            f"{options.name}: there are no texts to train a tokenizer on", hint="give data, or a directory"
        )
    style: Style = "bert"
    if getattr(config, "is_encoder_decoder", False):
        style = "seq2seq"
    elif (
        type(config) not in library.MODEL_FOR_MASKED_LM_MAPPING and type(config) in library.MODEL_FOR_CAUSAL_LM_MAPPING
    ):
        style = "gpt"
    kind = options.tokenizer if options.tokenizer != "auto" else "wordpiece" if style == "bert" else "bpe"
    return train_tokenizer(
        head.corpus(train), kind=kind, style=style, size=options.vocabulary, lowercase=options.lowercase,
        extra=head.special_tokens(),
    )  # fmt: skip


def _check_served(library: Any, config: Any, head: Head) -> None:
    mapping = getattr(library, head.auto)._model_mapping
    if type(config) not in mapping:
        raise RecipeError(
            f"transformers/{config.model_type} has no {head.auto.removeprefix('AutoModelFor') or 'network'} form, which"
            f" this task needs",
            hint="bert, roberta, distilbert and electra are encoders; gpt2 and llama decoders; t5 and bart both",
        )
    head.check(mapping[type(config)], config)


def _plain(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name not in ("transformers_version", "_name_or_path")}


def _config_of(library: Any, values: Mapping[str, Any]) -> Any:
    return library.CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))


def _left(directory: str, network: Any, report: Any) -> list[str]:
    """A note on what the directory's weights lack.

    Raises:
        DataError: nothing of the trunk is in them: they are another architecture's.
    """
    missing = sorted(report["missing_keys"])
    changed = sorted(str(each[0]) for each in report["mismatched_keys"])
    own = set(network.state_dict())
    trunk = {name for name in own if name.startswith(f"{network.base_model_prefix}.")} or own
    if trunk <= {*missing, *changed}:
        raise DataError(
            f"{directory}: none of its weights has a name of {type(network).__name__}",
            hint="is config.json that of another model?",
        )
    left = [*missing, *changed]
    if not left:
        return []
    inside, first = sum(name in trunk for name in left), ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
    return [
        f"{directory}: {len(left)} tensors are newly initialised ({first})"
        + (f"; {inside} of them inside the network, not its head" if inside else "")
    ]


def _trunk_renamed(weights: Mapping[str, Tensor], theirs: Any, ours: Any) -> dict[str, Tensor]:
    """Another head's tensors under our names: with or without the trunk's prefix."""
    own = {f"network.{name}" for name in ours.state_dict()}
    if own & set(weights):
        return dict(weights)
    prefix = f"network.{ours.base_model_prefix}."
    if any(name.startswith(prefix) for name in own):
        return {name.replace("network.", prefix, 1): tensor for name, tensor in weights.items()}
    other = f"network.{theirs.base_model_prefix}."
    return {name.replace(other, "network.", 1): tensor for name, tensor in weights.items()}
