"""Which classes are there, in which order, and do the data keep to them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plait.data import no_such_path
from plait.errors import DataError, did_you_mean, near
from plait_vision.image_classification.listing import Item, Listing, several

IMAGENET = "imagenet-1k"


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
        return self.aliases.get(item.label, item.label)


def given_classes(labels: Sequence[str] | str | None) -> Classes | None:
    """The classes of the option `data.labels`: a list, a text file with one name a line, or "imagenet-1k".

    Raises:
        DataError: no such file, an empty list, or a name that occurs twice.
    """
    if labels is None:
        return None
    if labels == IMAGENET:
        return imagenet_classes()
    if isinstance(labels, str):
        path = Path(labels).expanduser()
        if not path.is_file():
            error = no_such_path(path)
            raise DataError(
                f"data.labels: {error.message}",
                hint='a list of names, a text file with one name a line, or "imagenet-1k"',
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"data.labels: {path} is not UTF-8 text ({error})", hint="one class name a line") from error
        names, where = [line.strip() for line in lines if line.strip()], f"data.labels: {path}"
    else:
        names, where = list(labels), "data.labels"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names or not all(name.strip() for name in names):
        wrong = f"names {several(map(repr, twice))} twice" if twice else "has an empty name, or none"
        raise DataError(f"{where} {wrong}", hint="give every class once, in the order of the model's outputs")
    return Classes(tuple(names), "data.labels")


def imagenet_classes() -> Classes:
    """ImageNet-1k's classes in the usual order of outputs, as timm ships them: "tench, Tinca tinca", ...

    Data may also write a class as its synset ("n01440764", as ImageNet's folders are called).
    """
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    synsets: list[str] = info.label_names()  # type: ignore[no-untyped-call]  # timm leaves it bare
    names = list(info.label_descriptions())
    count = Counter(names)  # two classes are both called "crane": the bird and the machine
    names = [f"{name} ({synset})" if count[name] > 1 else name for synset, name in zip(synsets, names, strict=True)]
    return Classes(tuple(names), "data.labels", dict(zip(synsets, names, strict=True)))


def classes_of(listing: Listing, train: Sequence[Item]) -> Classes:
    """The classes that the training examples have: in the order that the source states, else by number or by name.

    Raises:
        DataError: a class folder is empty, or there is only one class.
    """
    found = {item.label for item in train}
    empty = [name for split in ("", "train") for name in listing.empty.get(split, ()) if name not in found]
    if empty:
        raise DataError(
            f"{len(empty)} class folders hold no image: {several(empty)}",
            hint="add images to them or remove them",
            details={"classes": empty[:100], "total": len(empty)},
        )
    if len(found) < 2:
        only = next(iter(found), None)
        raise DataError(
            f"one class only: every training image is labelled {only!r}" if only else "there is no training image",
            hint="a classifier needs two classes or more; data.labels fixes classes that the data lack",
        )
    if listing.classes and found <= set(listing.classes):
        return Classes(listing.classes)
    key = int if all(name.isascii() and name.isdecimal() for name in found) else str
    return Classes(tuple(sorted(found, key=lambda name: (key(name), name))))


def check_known(parts: Mapping[str, Sequence[Item]], classes: Classes) -> None:
    """Refuse labels that no model of this run could predict.

    Raises:
        DataError: says which labels, how often, where first, and what is near.
    """
    known = set(classes.names)
    unknown: dict[str, list[tuple[str, Item]]] = {}
    for split, items in parts.items():
        for item in items:
            if classes.of(item) not in known:
                unknown.setdefault(item.label, []).append((split, item))
    if not unknown:
        return
    lacking = classes.given or "the training data"
    listed = [
        f"{label!r} ({len(found)} in {found[0][0]}, first {found[0][1].where})" for label, found in unknown.items()
    ]
    first = next(iter(unknown))
    guess = did_you_mean(first, classes.names) or f"known are {several(map(repr, classes.names))}"
    mend = f"add them to {classes.given}" if classes.given == "data.labels" else f"add images of them to {lacking}"
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


def alike(classes: Classes) -> str | None:
    """A note on names that differ only in case or outer spaces, which are rarely meant as two classes."""
    seen: dict[str, str] = {}
    for name in classes.names:
        other = seen.setdefault(name.strip().casefold(), name)
        if other != name:
            return f"the classes {other!r} and {name!r} differ only in case or spaces"
    return None
