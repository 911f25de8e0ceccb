"""Which classes are known by a name?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from plait import classes
from plait.classes import Classes

IMAGENET = "imagenet-1k"


def given_classes(labels: Sequence[str] | str | None) -> Classes | None:
    """The classes of the option `data.labels`: a list, a text file with one name a line, or "imagenet-1k".

    Raises:
        DataError: no such file, an empty list, or a name that occurs twice.
    """
    return classes.given_classes(labels, named={IMAGENET: imagenet_classes})


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
