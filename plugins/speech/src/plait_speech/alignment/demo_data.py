"""Which transcribed strings come with this plugin whose word boundaries are known?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from plait_speech.audio import Utterance
from plait_speech.demo_data import synthetic_words
from plait_speech.strings import WordString, word_strings


@cache
def aligned_strings() -> dict[str, list[Utterance]]:
    """320 strings of one to four made-up words to train, 80 to test (from other takes), 8,000 Hz, whose
    `more["alignment"]` says where each word was put; see `word_strings`."""
    words = synthetic_words()
    return {
        "train": with_alignments(word_strings(words["train"], count=320, words_each=(1, 4), seed=2)),
        "test": with_alignments(word_strings(words["test"], count=80, words_each=(1, 4), seed=3)),
    }


def with_alignments(strings: Sequence[WordString]) -> list[Utterance]:
    """The strings' utterances with their known boundaries as `more["alignment"]`."""
    return [replace(each.utterance, more={**each.utterance.more, "alignment": each.spans}) for each in strings]
