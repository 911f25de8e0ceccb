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


_PLACES = {
    "harbour": ("sailor fisher captain", "herring mussels crab"),
    "farm": ("farmer shepherd miller", "cheese bread butter"),
    "orchard": ("gardener picker ladder", "apples cherries plums"),
    "palace": ("king queen minister", "pheasant truffles cake"),
    "camp": ("soldier scout cook", "beans rice biscuits"),
    "forest": ("hunter ranger woodman", "mushrooms berries nuts"),
}
_TOLD = (
    "the {who} comes to the {place} in the {when} .",
    "in the {place} the {who} eats {food} .",
    "there is {food} for the {who} .",
    "the {who} likes the {food} of the {place} .",
    "every {when} the {who} waits near the {place} .",
    "the {food} of the {who} is gone .",
)


def synthetic_stories() -> list[list[str]]:
    """1,200 stories of six sentences. A story has one of six places, and the people and food of its sentences belong
    there: a hidden word can be told from the others, and whether a sentence is of another story, too. Synthetic."""
    generator, places = np.random.default_rng(3), list(_PLACES)
    stories = []
    for index in range(1200):
        place = places[index % len(places)]
        people, foods = (names.split() for names in _PLACES[place])
        stories.append(
            [
                _TOLD[kind].format(
                    who=generator.choice(people), place=place, food=generator.choice(foods),
                    when=generator.choice(["morning", "evening", "spring"]),
                )
                for kind in generator.permutation(len(_TOLD)).tolist()
            ]
        )  # fmt: skip
    return stories


_SAID = (
    "{person} moved from {place} to {place} .",
    "{firm} opened an office in {place} .",
    "yesterday {person} left {firm} for {firm} .",
    "in {place} nobody has heard of {person} .",
    "the shares of {firm} fell by five percent .",
    "{person} and {person} met near the harbour .",
    "it rained again and the match was over early .",
    "who has seen the new film about {place} ?",
)
_FIRM_ENDS = ("Works", "Bank", "Lines", "Foods")


def synthetic_entities() -> Mapping[str, Any]:
    """600 sentences in which made-up people, places and firms occur, tagged in IOB2. Synthetic.

    Half of the names of the valid and test parts do not occur in training: a list of known names finds only the rest.
    """
    generator = np.random.default_rng(3)

    def name(syllables: int) -> str:
        return "".join(generator.choice(_SYLLABLES, size=syllables).tolist()).capitalize()

    def names(count: int) -> dict[str, list[list[str]]]:
        return {
            "person": [[name(2), name(3)] if index % 2 else [name(3)] for index in range(count)],
            "place": [[name(2) + "ville"] if index % 2 else ["Port", name(2)] for index in range(count)],
            "firm": [[name(2), _FIRM_ENDS[index % 4]] for index in range(count)],
        }

    known, new = names(40), names(40)
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for index in range(600):
        part = ("train", "train", "train", "valid", "test")[index % 5]
        tokens, tags = [], []
        for piece in _SAID[index % len(_SAID)].split():
            if not piece.startswith("{"):
                tokens.append(piece)
                tags.append("O")
                continue
            kind = piece.strip("{}")
            pool = known if part == "train" or generator.random() < 0.5 else new
            words = pool[kind][int(generator.integers(len(pool[kind])))]
            tokens += words
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(words) - 1)]
        parts[part].append({"tokens": tokens, "tags": tags})
    return parts


_FACTS = {
    "lives": ("{} lives in the {}", "where does {} live ?", ("harbour", "valley", "garden", "tower")),
    "eats": ("{} mostly eats {}", "what does {} eat ?", ("noodles", "honey", "almonds", "biscuits")),
    "works": ("the hours of {} begin at {}", "when does {} begin to work ?", ("midnight", "seven", "noon", "dawn")),
    "laughs": ("{} is amused by every {}", "what does {} laugh about ?", ("joke", "puppet", "riddle", "clown")),
}


def synthetic_facts() -> list[dict[str, Any]]:
    """600 questions about 150 texts of three sentences, each on another person with a made-up name; a question in six
    is on something that its text does not say. Synthetic."""
    generator = np.random.default_rng(4)
    rows = []
    for article in range(150):
        people = ["".join(generator.choice(_SYLLABLES, size=3).tolist()).capitalize() for _ in range(3)]
        context, facts = "", []
        for name in people:
            kind = list(_FACTS)[int(generator.integers(len(_FACTS)))]
            said, asked, answers = _FACTS[kind]
            answer = str(generator.choice(answers))
            sentence = said.format(name, answer)
            start = len(context) + sentence.rindex(answer)
            facts.append((asked.format(name), {"text": answer, "answer_start": start}, kind))
            context += f"{sentence} . "
        rows += [(article, question, context, [answer]) for question, answer, _ in facts]
        missing = next(kind for kind in _FACTS if kind != facts[0][2])
        if article % 3 == 0:  # a third of the fourth questions asks again, two thirds ask what is not there
            rows.append((article, f"say , {facts[1][0]}", context, [facts[1][1]]))
        else:
            rows.append((article, _FACTS[missing][1].format(people[0]), context, []))
    return [
        {"question": question, "context": context, "answers": answers, "title": f"text {article}"}
        for article, question, context, answers in rows
    ]


_FORMS = {"man": "he his beard", "woman": "she her dress", "child": "it toy small"}
_TRADES = 14


def synthetic_analogies() -> Mapping[str, Any]:
    """1,200 texts of two sentences on people: made-up names of fourteen trades, each for a man, a woman and a child.
    What stands around a name is of its trade and of its form, each in words of its own; so names of one trade are
    alike, and one trade's man is to its woman as another's. With 100 of the analogies, and 60 pairs that are alike (2),
    half alike (1) or not (0). Synthetic."""
    generator, forms = np.random.default_rng(4), list(_FORMS)
    every = [one + other + last for one in _SYLLABLES for other in _SYLLABLES for last in _SYLLABLES]
    made = iter(generator.permutation(every).tolist())
    names = [{form: next(made) for form in forms} for _ in range(_TRADES)]
    tools = [[next(made) for _ in range(4)] for _ in range(_TRADES)]
    texts = []
    for index in range(1200):
        sentences = []
        for form in generator.choice(forms, size=2):
            trade = index % _TRADES
            words = [names[trade][form], *generator.choice(tools[trade], size=2)]
            words += [*generator.choice(_FORMS[form].split(), size=2), *generator.choice(_FILLERS, size=3)]
            sentences.append(" ".join(map(str, generator.permutation(words))))
        texts.append(sentences)
    analogies: list[list[str]] = []
    pairs: list[tuple[str, str, float]] = []
    while len(analogies) < 100:
        one, other = generator.choice(_TRADES, size=2, replace=False).tolist()
        first, second = generator.choice(forms, size=2, replace=False).tolist()
        analogies.append([names[one][first], names[one][second], names[other][first], names[other][second]])
    for index in range(60):
        one, other = generator.choice(_TRADES, size=2, replace=False).tolist()
        first, second = generator.choice(forms, size=2, replace=False).tolist()
        alike = index % 3
        second_name = names[one if alike == 2 else other][first if alike == 1 else second]
        pairs.append((names[one][first], second_name, float(alike)))
    parts = {"train": texts[:1000], "valid": texts[1000:1100], "test": texts[1100:]}
    return {**parts, "analogies": analogies, "similarities": pairs}
