"""How does text become numbers: by which tokenizer, trained on the spot or taken from a directory?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import (
    AddedToken,
    Encoding,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from plait.errors import DataError, RecipeError

Kind = Literal["wordpiece", "bpe", "unigram", "byte", "char"]
Style = Literal["bert", "gpt", "seq2seq"]

_SPECIALS: Mapping[Style, Mapping[str, str]] = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "gpt": {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "seq2seq": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<s>"},
}
"""Names of special tokens by what surrounds a text: [CLS] text [SEP] pair [SEP]; nothing; text </s>."""
_LONGEST = 100_000  # characters of a text that a vocabulary is counted on; the rest of a book adds little


@dataclass(slots=True)
class TextTokenizer:
    """A tokenizer with the names of its special tokens. It is picklable, and knows no model and no tensor.

    Args:
        tokenizer: of the library `tokenizers`; its truncation and padding are off, and set for each call.
        specials: the special tokens by role: pad, unk, cls, sep, mask, bos, eos.
        limit: the longest input that it was made for, tokens; None: any.
    """

    tokenizer: Tokenizer
    specials: Mapping[str, str]
    limit: int | None = None
    _truncation: tuple[int, int] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def id(self, role: str) -> int | None:
        """The number of a special token by its role ("pad"); None where there is none."""
        token = self.specials.get(role)
        return None if token is None else self.tokenizer.token_to_id(token)

    @property
    def pad(self) -> int:
        """What fills short rows; a tokenizer without a token for it takes the end's, which masks hide."""
        found = self.id("pad")
        found = self.id("eos") if found is None else found
        return 0 if found is None else found

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, special: bool = True
    ) -> list[list[int]]:
        """Token numbers of whole texts, with special tokens around them unless not wanted."""
        self._truncate(None)
        rows: Any = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        return [each.ids for each in self.tokenizer.encode_batch_fast(rows, add_special_tokens=special)]

    def encodings(
        self, rows: Sequence[Any], *, length: int | None = None, stride: int = 0, words: bool = False,
        special: bool = True,
    ) -> list[Encoding]:  # fmt: skip
        """The library's own encodings: ids, type_ids, offsets (characters), word_ids, and what overflows `length`.

        Args:
            rows: texts, pairs of texts, or (where `words`) lists of words.
            length: longest row, tokens; what is over is in `overflowing` of each, in pieces that share `stride` tokens.
        """
        self._truncate(None if length is None else (length, stride))
        found: list[Encoding] = self.tokenizer.encode_batch(
            list(rows), is_pretokenized=words, add_special_tokens=special
        )
        return found

    def cut(self, rows: Sequence[Any], length: int) -> list[Encoding]:
        """Encodings of at most `length` tokens, without offsets: twice as fast as with them.

        Args:
            rows: texts, or pairs of texts.
        """
        self._truncate((length, 0))
        found: list[Encoding] = self.tokenizer.encode_batch_fast(list(rows))
        return found

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token numbers, special tokens left out unless wanted."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not special))

    def _truncate(self, wanted: tuple[int, int] | None) -> None:
        if wanted == self._truncation:
            return
        if wanted is None:
            self.tokenizer.no_truncation()
        else:
            self.tokenizer.enable_truncation(wanted[0], stride=wanted[1])
        self._truncation = wanted

    # Storage

    def as_json(self) -> dict[str, Any]:
        """The whole tokenizer as JSON values."""
        self._truncate(None)
        return {"tokenizer": self.tokenizer.to_str(), "specials": dict(self.specials), "limit": self.limit}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(Tokenizer.from_str(state["tokenizer"]), dict(state["specials"]), state["limit"])

    def __reduce__(self) -> Any:  # loader processes get their own
        return type(self).from_json, (self.as_json(),)

    def config(self) -> dict[str, Any]:
        """What transformers expects in tokenizer_config.json beside tokenizer.json."""
        named = {f"{role}_token": token for role, token in self.specials.items()}
        longest = {} if self.limit is None else {"model_max_length": self.limit}
        inputs = (
            ["input_ids", "token_type_ids", "attention_mask"]
            if "cls" in self.specials
            else ["input_ids", "attention_mask"]
        )
        return {"tokenizer_class": "PreTrainedTokenizerFast", **named, **longest, "model_input_names": inputs}


def train_tokenizer(
    texts: Iterable[str], *, kind: Kind = "wordpiece", style: Style = "bert", size: int = 8000, lowercase: bool = False,
    extra: Sequence[str] = (),
) -> TextTokenizer:  # fmt: skip
    """A tokenizer learned from texts, without any file.

    Args:
        kind: wordpiece (Schuster and Nakajima 2012), bpe on bytes (Radford et al. 2019), unigram (Kudo 2018), byte
            (256 numbers), or char (each character that occurs).
        style: which special tokens there are, and which surround a text.
        size: numbers at most, special tokens among them; byte and char have their own.
        lowercase: whether case and accents are dropped first.
        extra: further special tokens.

    Raises:
        DataError: there is no text to learn from.
    """
    names = _SPECIALS[style]
    special = [*names.values(), *extra]
    lower = normalizers.BertNormalizer(lowercase=True) if lowercase else None
    seen = [text[:_LONGEST] for text in texts if text.strip()]
    if not seen:
        raise DataError("there is no text to learn a tokenizer from", hint="give training texts, or a model.directory")
    if kind in ("byte", "char"):
        normal = (lower.normalize_str(text) for text in seen) if lower else seen
        symbols = sorted(pre_tokenizers.ByteLevel.alphabet() if kind == "byte" else set().union(*map(set, normal)))
        tokenizer = _symbols(kind, [*special, *(each for each in symbols if each not in special)], names["unk"])
        tokenizer.add_special_tokens([AddedToken(each, special=True) for each in special])
        tokenizer.normalizer = lower
    else:
        tokenizer, trainer = _untrained(kind, names["unk"], special, size)
        tokenizer.normalizer = lower or (normalizers.BertNormalizer(lowercase=False) if kind == "wordpiece" else None)
        if kind == "wordpiece":
            tokenizer.model = _wordpieces(tokenizer, seen, names["unk"], special, size)
        else:
            tokenizer.train_from_iterator(seen, trainer)
        if kind == "unigram":
            tokenizer.model = _settled(tokenizer, len(special))
        tokenizer.add_special_tokens([AddedToken(each, special=True) for each in special])
    around = {"bert": ("cls", "sep"), "seq2seq": ("", "eos"), "gpt": ("", "")}[style]
    if any(around):
        tokenizer.post_processor = _around(tokenizer, *(names.get(each, "") for each in around))
    return TextTokenizer(tokenizer, dict(names))


def load_tokenizer(path: Path, *, transformers: Any) -> TextTokenizer:
    """The tokenizer of a directory that transformers can load.

    Args:
        transformers: the package.

    Raises:
        DataError: it cannot be loaded, or is not one of the library `tokenizers`.
    """
    try:
        found = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # whatever transformers and tokenizers make of damaged or foreign files
        raise DataError(
            f"{path}: its tokenizer cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0]}",
            hint="write it again with tokenizer.save_pretrained(DIR)",
        ) from error
    return wrap_tokenizer(found)


def wrap_tokenizer(found: Any) -> TextTokenizer:
    """A `TextTokenizer` from a tokenizer of transformers.

    Raises:
        DataError: it is written in Python, without a tokenizer of the library `tokenizers` behind it.
    """
    backend = getattr(found, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise DataError(
            f"the tokenizer {type(found).__name__} has no fast form", hint="convert it to a tokenizer.json first"
        )
    roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    named = {role: getattr(found, f"{role}_token", None) for role in roles}
    limit = (
        found.model_max_length if found.model_max_length < 1_000_000 else None
    )  # transformers writes 10**30 for none
    copy = Tokenizer.from_str(backend.to_str())
    return TextTokenizer(copy, {role: str(token) for role, token in named.items() if token is not None}, limit)


def _untrained(kind: Kind, unknown: str, special: Sequence[str], size: int) -> tuple[Tokenizer, Any]:
    """A tokenizer without a vocabulary, and what learns it."""
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(special), show_progress=False)
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return tokenizer, trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
        )
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer(
            vocab_size=size, special_tokens=list(special), unk_token=unknown, show_progress=False
        )
    raise RecipeError(f"no tokenizer is called {kind!r}", hint="wordpiece, bpe, unigram, byte or char")


def _wordpieces(tokenizer: Tokenizer, texts: Sequence[str], unknown: str, special: Sequence[str], size: int) -> Any:
    """The pieces of words that texts teach: the same ones in every process.

    The library numbers continuing letters ("##a") in the order in which a hash table with a random seed meets them, and
    decides between equally frequent pairs by number. Numbered beforehand, as if they were special, they are fixed.
    """
    letters = sorted(set().union(*(tokenizer.normalizer.normalize_str(text) for text in texts)))
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    known = [*special, *inside]
    trainer = trainers.WordPieceTrainer(vocab_size=max(size, len(known)), special_tokens=known, show_progress=False)
    pupil = Tokenizer(models.WordPiece(unk_token=unknown))
    pupil.normalizer, pupil.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    pupil.train_from_iterator(texts, trainer)
    return models.WordPiece(pupil.get_vocab(), unk_token=unknown)


def _settled(tokenizer: Tokenizer, special: int) -> Any:
    """A unigram model with log-probabilities of four decimals: threads add the last ones up in any order."""
    state = json.loads(tokenizer.to_str())["model"]
    first, rest = state["vocab"][:special], [(piece, round(score, 4)) for piece, score in state["vocab"][special:]]
    pieces = [*map(tuple, first), *sorted(rest, key=lambda each: (-each[1], each[0]))]
    return models.Unigram(pieces, state["unk_id"], byte_fallback=False)


def _symbols(kind: Kind, vocabulary: Sequence[str], unknown: str) -> Tokenizer:
    """Each byte, or each character, is a token."""
    numbers = {symbol: number for number, symbol in enumerate(vocabulary)}
    if kind == "byte":
        tokenizer = Tokenizer(models.BPE(vocab=numbers, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _around(tokenizer: Tokenizer, before: str, after: str) -> Any:
    """Special tokens around a text, and between a text and its pair."""
    first = f"{before} $A {after}".strip()
    tokens = [(token, tokenizer.token_to_id(token)) for token in (before, after) if token]
    return processors.TemplateProcessing(single=first, pair=f"{first} $B:1 {after}:1", special_tokens=tokens)
