"""Which classes are there, in which order, do the data keep to them, and how is the answer shown?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plait.data import no_such_path
from plait.errors import DataError, did_you_mean, near
from plait.evaluation import ClassPrediction
from plait.listing import NOTHING, Item, Listing, Media, several
from plait.task import Prediction

ALL_SCORES = 20
TOP_SCORES = 5


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that a run knows.

    Args:
        names: in the order of a model's outputs.
        given: what fixed them ("data.labels", "the trained run"), or "" where the training data do.
        aliases: other ways in which data may write a class: ImageNet's synset numbers.
    """

    names: tuple[str, ...]
    given: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)

    def of(self, item: Item) -> str:
        """The class of an example."""
        return self.aliases.get(item.target, item.target)


def given_classes(
    labels: Sequence[str] | str | None, *, named: Mapping[str, Callable[[], Classes]] = NOTHING
) -> Classes | None:
    """The classes of the option `data.labels`: a list, a text file with one name a line, or a name.

    Args:
        named: classes that are known by a name, such as "imagenet-1k".

    Raises:
        DataError: no such file, an empty list, or a name that occurs twice.
    """
    if labels is None:
        return None
    names, where = list(labels), "data.labels"
    if isinstance(labels, str):
        if labels in named:
            return named[labels]()
        path = Path(labels).expanduser()
        if not path.is_file():
            error = no_such_path(path)
            expected = ", ".join(("a list of names", "a text file with one name a line", *map(repr, named)))
            raise DataError(f"data.labels: {error.message}", hint=f"expected {expected}")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"data.labels: {path} is not UTF-8 text ({error})", hint="one class name a line") from error
        names, where = [line.strip() for line in lines if line.strip()], f"data.labels: {path}"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names or not all(name.strip() for name in names):
        wrong = f"names {several(map(repr, twice))} twice" if twice else "has an empty name, or none"
        raise DataError(f"{where} {wrong}", hint="give every class once, in the order of the model's outputs")
    return Classes(tuple(names), "data.labels")


def classes_of(listing: Listing, train: Sequence[Item]) -> Classes:
    """The classes that the training examples have: in the order that the source states, else by number or by name.

    Raises:
        DataError: a class folder is empty, or there is only one class.
    """
    noun, found = listing.media.noun, {item.target for item in train}
    empty = [name for split in ("", "train") for name in listing.empty.get(split, ()) if name not in found]
    if empty:
        raise DataError(
            f"{len(empty)} class folders hold no {noun}: {several(empty)}",
            hint=f"add {noun}s to them or remove them",
            details={"classes": empty[:100], "total": len(empty)},
        )
    if len(found) < 2:
        only = next(iter(found), None)
        raise DataError(
            f"one class only: every training {noun} is labelled {only!r}" if only else f"there is no training {noun}",
            hint="a classifier needs two classes or more; data.labels fixes classes that the data lack",
        )
    if listing.classes and found <= set(listing.classes):
        return Classes(listing.classes)
    key = int if all(name.isascii() and name.isdecimal() for name in found) else str
    return Classes(tuple(sorted(found, key=lambda name: (key(name), name))))


def check_known(parts: Mapping[str, Sequence[Item]], classes: Classes, *, media: Media) -> None:
    """Refuse labels that no model of this run could predict.

    Raises:
        DataError: says which labels, how often, where first, and what is near.
    """
    known = set(classes.names)
    unknown: dict[str, list[tuple[str, Item]]] = {}
    for split, items in parts.items():
        for item in items:
            if classes.of(item) not in known:
                unknown.setdefault(item.target, []).append((split, item))
    if not unknown:
        return
    lacking = classes.given or "the training data"
    listed = [
        f"{label!r} ({len(found)} in {found[0][0]}, first {found[0][1].where})" for label, found in unknown.items()
    ]
    first = next(iter(unknown))
    guess = did_you_mean(first, classes.names) or f"known are {several(map(repr, classes.names))}"
    mend = (
        f"add them to {classes.given}" if classes.given == "data.labels" else f"add {media.nouns} of them to {lacking}"
    )
    if classes.given == "the trained run":
        mend = "rename or remove them; a trained model knows no other labels"
    raise DataError(
        f"{len(unknown)} labels that {lacking} lack{'' if lacking.endswith('data') else 's'}: {several(listed)}",
        hint=f"{guess} Else {mend}" if guess.endswith("?") else f"{guess}; {mend}",
        details=[
            {"label": label, "count": len(found), "first": str(found[0][1].where), "near": near(label, classes.names)}
            for label, found in list(unknown.items())[:10]
        ],
    )


def alike(classes: Classes) -> list[str]:
    """A note on names that differ only in case or outer spaces, which are rarely meant as two classes."""
    seen: dict[str, str] = {}
    for name in classes.names:
        other = seen.setdefault(name.strip().casefold(), name)
        if other != name:
            return [f"the classes {other!r} and {name!r} differ only in case or spaces"]
    return []


def present_class(prediction: ClassPrediction, labels: Sequence[str]) -> Prediction:
    """The most probable class; probabilities of all classes where there are at most 20, else of the first five."""
    probabilities = prediction.probabilities
    best = np.argsort(-probabilities, kind="stable")
    shown = range(len(labels)) if len(labels) <= ALL_SCORES else best[:TOP_SCORES]
    label = labels[prediction.index]
    scores = {labels[index]: float(probabilities[index]) for index in shown}
    return Prediction(prediction=label, scores=scores, outputs={"label": label})
