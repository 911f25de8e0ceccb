"""Which config does transformers get for an architecture, from sizes that are called alike for all of them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.errors import RecipeError, did_you_mean
from plait_nlp.architectures.tokenizers import TextTokenizer

_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "hidden": (("hidden_size", "d_model", "n_embd", "dim"),),
    "layers": (("num_hidden_layers", "encoder_layers", "num_layers"), ("decoder_layers", "num_decoder_layers")),
    "heads": (
        ("num_attention_heads", "encoder_attention_heads"),
        ("decoder_attention_heads",),
        ("num_key_value_heads",),
    ),
    "intermediate": (("intermediate_size", "encoder_ffn_dim", "d_ff", "hidden_dim", "n_inner"), ("decoder_ffn_dim",)),
    "max_length": (("max_position_embeddings", "n_positions"),),
}
"""What configs call our sizes: of each group the first name that the config has."""
_DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", "dropout_rate", "hidden_dropout", "activation_dropout", "classifier_dropout",
)  # fmt: skip
_OURS = (
    "vocab_size",
    "id2label",
    "label2id",
    "num_labels",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "model_type",
)
_OFFSET = 2  # positions that RoBERTa's kind counts from: its padding's number, plus one


def make_config(
    transformers: Any, kind: str, *, sizes: Mapping[str, int], dropout: float | None, tokenizer: TextTokenizer,
    extra: Mapping[str, Any],
) -> Any:  # fmt: skip
    """A config of an architecture, of given sizes, for a tokenizer.

    Args:
        kind: the model type: "bert".
        sizes: hidden, layers, heads, intermediate, max_length.
        dropout: of every kind that the config has; None: its own.
        extra: further fields of the config, by its own names.

    Raises:
        RecipeError: there is no such architecture, a field is not one of its config, or the sizes do not fit.
    """
    try:
        made = transformers.CONFIG_MAPPING[kind]
        default = made()
    except Exception as error:  # configs of several parts raise what they like without them
        raise RecipeError(
            f"transformers/{kind} cannot be built from sizes: {error}", hint="give model.directory"
        ) from error
    known = {*default.to_dict(), *default.attribute_map}
    if "vocab_size" not in known:
        raise RecipeError(f"transformers/{kind} has no vocabulary: it is no architecture for text")
    values = _sized(sizes, known, kind)
    if dropout is not None:
        values |= {name: dropout for name in _DROPOUTS if isinstance(getattr(default, name, None), int | float)}
    for name in extra:
        if name in _OURS:
            raise RecipeError(f"model.config.{name}: the data and the tokenizer decide it")
        if name not in known:
            raise RecipeError(
                f"model.config.{name}: the config of {kind} has no such field",
                hint=did_you_mean(name, known) or f"it has {', '.join(sorted(known))}",
            )
    values |= {"vocab_size": len(tokenizer), **{f"{role}_token_id": tokenizer.id(role) for role in ("bos", "eos")}}
    values["pad_token_id"] = tokenizer.pad
    if "decoder_start_token_id" in known or getattr(default, "is_encoder_decoder", False):
        values["decoder_start_token_id"] = tokenizer.pad if tokenizer.id("bos") is None else tokenizer.id("bos")
        values["forced_eos_token_id"] = None
    return made(**{**values, **extra})


def _sized(sizes: Mapping[str, int], known: set[str], kind: str) -> dict[str, Any]:
    hidden, heads = sizes["hidden"], sizes["heads"]
    if hidden % heads:
        raise RecipeError(f"model.hidden={hidden} is no multiple of model.heads={heads}")
    values: dict[str, Any] = {}
    for ours, groups in _NAMES.items():
        for group in groups:
            name = next((each for each in group if each in known), None)
            if name is not None:
                values[name] = sizes[ours]
    for name in ("d_kv", "head_dim"):
        if name in known and not (name == "head_dim" and "d_kv" in known):
            values[name] = hidden // heads
    if "embedding_size" in known:  # ELECTRA and ALBERT: narrower than the states, or as wide where those are narrow
        values["embedding_size"] = min(hidden, 128)
    if kind in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet"):
        values["max_position_embeddings"] = sizes["max_length"] + _OFFSET
    return values


def longest(config: Any) -> int | None:
    """How many tokens an architecture can take, by its positions; None where they are relative, and any number is."""
    found = next((getattr(config, name, None) for name in _NAMES["max_length"][0] if getattr(config, name, None)), None)
    if found is None or found <= 0:
        return None
    padded = config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet")
    return int(found) - (_OFFSET if padded else 0)
