"""What is one text, or a pair of texts, with what is to be learned of it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from plait.data import digest


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, perhaps with a second one, and its target.

    Args:
        text, pair: as read.
        label: a class's name, a tuple of names, or a number; None where it is to be predicted.
        id: of the row.
    """

    text: str
    pair: str | None = None
    label: Any = None
    id: str = ""

    @property
    def size(self) -> int:
        """Characters of both texts."""
        return len(self.text) + len(self.pair or "")


class Texts(Protocol):
    """What `TextSplit` asks of an example; `TextExample` has it."""

    @property
    def text(self) -> str: ...
    @property
    def pair(self) -> str | None: ...
    @property
    def label(self) -> Any: ...
    @property
    def id(self) -> str: ...


class TextSplit(Sequence[Any]):
    """Examples in memory, as `plait.checking` sees a split. It knows no file."""

    in_memory = True

    def __init__(self, examples: Sequence[Texts]) -> None:
        self.examples = list(examples)
        self.ids = [each.id for each in self.examples]
        self.targets = [str(each.label) for each in self.examples]
        both = ("\0".join(map(_normal, (each.text, each.pair or ""))) for each in self.examples)
        self.digests = [digest(text.encode("utf-8", "surrogatepass")) for text in both]
        """Equal where the texts are, apart from case and spaces."""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        return self.examples[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.examples)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
