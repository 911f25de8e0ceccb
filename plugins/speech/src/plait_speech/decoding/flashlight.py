"""How does flashlight-text find the text, where it is installed?"""

from __future__ import annotations

from typing import Any

import numpy as np

from plait.errors import RecipeError
from plait_speech.decoding.search import Hypothesis, Rows
from plait_speech.decoding.words import WordList
from plait_speech.networks.units import BLANK, Units

_UNLIKELY = 100.0  # nats below the best text at which flashlight drops one


class FlashlightSearch:
    """Beam search of flashlight-text (Kahn et al. 2022) over units, or over the words of a list. It counts the best
    alignment of each text only. It knows no language model: the wheel has none built in.

    Raises:
        RecipeError: flashlight-text is not installed, or the list has words that the units cannot spell.
    """

    def __init__(self, units: Units, *, beam: int, bonus: float, words: WordList | None) -> None:
        try:
            from flashlight.lib.text import decoder
        except ImportError as error:
            raise RecipeError(
                "model.decoding.search=flashlight needs flashlight-text, which is not installed",
                hint="pip install flashlight-text, or set model.decoding.search=beam",
            ) from error
        self._units, self._rows = units, [np.zeros((0, len(units)), np.float32)]
        criterion, language = decoder.CriterionType.CTC, decoder.ZeroLM()
        if words is None or units.kind == "words":
            allowed = len(units) if words is None else sum(symbol in words for symbol in units.symbols)
            self._blocked = [
                n for n, symbol in enumerate(units.symbols, 1) if words is not None and symbol not in words
            ]
            options = decoder.LexiconFreeDecoderOptions(
                beam_size=beam, beam_size_token=max(1, allowed), beam_threshold=_UNLIKELY, lm_weight=0.0,
                sil_score=0.0, log_add=False, criterion_type=criterion,
            )  # fmt: skip
            self._decoder = decoder.LexiconFreeDecoder(options, language, -1, BLANK, [])
            return
        self._blocked = []
        if " " not in units.symbols:
            raise RecipeError("model.decoding.search=flashlight with a word list needs transcripts with spaces")
        space = units.symbols.index(" ") + 1
        trie = decoder.Trie(len(units), space)
        for number, word in enumerate(words.words):
            spelling, unknown = units.encode(word)
            if unknown:
                raise RecipeError(f"the word {word!r} of the list has {unknown[0]!r}, which this model cannot write")
            trie.insert([*spelling, space], number, 0.0)
        trie.smear(decoder.SmearingMode.MAX)
        lexicon = decoder.LexiconDecoderOptions(
            beam_size=beam, beam_size_token=len(units), beam_threshold=_UNLIKELY, lm_weight=0.0, word_score=bonus,
            unk_score=-np.inf, sil_score=0.0, log_add=False, criterion_type=criterion,
        )  # fmt: skip
        self._decoder = decoder.LexiconDecoder(lexicon, trie, language, space, BLANK, -1, [], False)

    def advance(self, rows: Rows) -> None:
        rows = rows.astype(np.float32)
        rows[:, self._blocked] = -np.inf
        self._rows.append(rows)

    def best(self, *, final: bool) -> Hypothesis:
        rows = np.ascontiguousarray(np.concatenate(self._rows))
        if not len(rows):
            return Hypothesis((), 0.0)
        found: Any = self._decoder.decode(rows.ctypes.data, *rows.shape)
        if not found:
            return Hypothesis((), -np.inf)
        numbers, last = [], BLANK
        for number in found[0].tokens:
            if number not in (BLANK, last) and number > 0:
                numbers.append(int(number))
            last = number
        return Hypothesis(tuple(numbers), float(found[0].score))
