"""Which data does the NLP plugin bring: languages' names for languages and countries, and small generated sets?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_LANGUAGES = {
    "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish", "fr": "French", "hu": "Hungarian",
    "it": "Italian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "sv": "Swedish", "tr": "Turkish",
}  # fmt: skip
"""Languages in Latin script: their letters alone do not give them away as another script's would."""


def locale_names() -> Mapping[str, Any]:
    """Names of countries, languages and currencies in twelve languages, from the Unicode CLDR as babel ships it:
    a name's language is to be told. One text lists three of them, so that there is something to go by.

    The test part holds other countries and languages than the training part: no name is in both.
    """
    from babel import Locale

    parts: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
    english = Locale("en")
    kinds = ("territories", "languages", "currencies")
    codes = {kind: sorted(getattr(english, kind)) for kind in kinds}
    for kind, listed in codes.items():
        order = np.random.default_rng(0).permutation(len(listed))
        for first in range(0, len(order) - 2, 3):
            chosen = [listed[index] for index in order[first : first + 3]]
            share = first / len(order)
            part = "train" if share < 0.7 else "valid" if share < 0.85 else "test"
            for code, language in _LANGUAGES.items():
                names = [getattr(Locale(code), kind).get(each) for each in chosen]
                if all(names):
                    parts[part].append({"text": ", ".join(names), "label": language})
    taken = {row["text"] for row in parts["train"]}
    return {name: [row for row in rows if name == "train" or row["text"] not in taken] for name, rows in parts.items()}


_TOPICS = {
    "weather": "rain storm cloud sunshine frost thunder breeze drizzle",
    "food": "bread soup cheese apple pepper noodle honey garlic",
    "music": "guitar chorus drum melody singer concert violin rhythm",
    "travel": "train ticket harbour luggage airport journey hotel map",
    "sport": "goal match referee runner league trophy racket coach",
}
_FILLERS = [
    "the",
    "a",
    "some",
    "that",
    "this",
    "one",
    "every",
    "another",
    "yesterday",
    "today",
    "often",
    "rarely",
    "near",
    "behind",
    "with",
    "without",
    "after",
    "before",
]


def synthetic_topics() -> list[dict[str, Any]]:
    """600 sentences, each on one to three of five topics: two words of each among fillers. Synthetic."""
    generator, names = np.random.default_rng(0), list(_TOPICS)
    rows = []
    for _ in range(600):
        chosen = sorted(generator.choice(names, size=int(generator.integers(1, 4)), replace=False).tolist())
        words = [
            str(word) for name in chosen for word in generator.choice(_TOPICS[name].split(), size=2, replace=False)
        ]
        words += [str(word) for word in generator.choice(_FILLERS, size=6)]
        rows.append({"text": " ".join(generator.permutation(words).tolist()), "label": chosen})
    return rows


def synthetic_similarity() -> list[dict[str, Any]]:
    """600 pairs of sentences of six content words, of which 0 to 5 are shared; that number is the target. Synthetic."""
    generator = np.random.default_rng(1)
    words = [word for topic in _TOPICS.values() for word in topic.split()]
    rows = []
    for index in range(600):
        shared = index % 6
        chosen = generator.choice(words, size=12 - shared, replace=False).tolist()
        one, other = chosen[:6], chosen[6 - shared :]
        texts = [
            " ".join(generator.permutation([*part, *generator.choice(_FILLERS, size=3).tolist()]).tolist())
            for part in (one, other)
        ]
        rows.append({"text": texts[0], "pair": texts[1], "label": float(shared)})
    return rows


_ASKED = {
    "where does {} live": "the home of {} is in {}",
    "what does {} eat": "a meal for {} is mostly {}",
    "when does {} work": "the hours of {} begin at {}",
    "why does {} laugh": "{} is amused by every {}",
}
_THINGS = (
    "harbour", "valley", "noodle", "honey", "midnight", "seven", "joke", "puppet",
    "garden", "tower", "almond", "biscuit", "noon", "dawn", "riddle", "clown",
)  # fmt: skip
_SYLLABLES = ["ba", "ko", "mi", "ra", "tu", "le", "so", "fi", "na", "do"]


def synthetic_questions() -> list[dict[str, Any]]:
    """600 questions and answers: a made-up name and one of four topics belong to both, in other words. Synthetic."""
    generator = np.random.default_rng(2)
    rows = []
    for index in range(600):
        name = "".join(generator.choice(_SYLLABLES, size=3).tolist())
        question, answer = list(_ASKED.items())[index % len(_ASKED)]
        rows.append({"text": question.format(name), "pair": answer.format(name, generator.choice(_THINGS))})
    return rows
