"""What is a text for which another one is to be written, and what does a model write?"""

from __future__ import annotations

from dataclasses import dataclass

from plait_nlp.examples import TextExample


@dataclass(frozen=True, slots=True)
class SequenceExample(TextExample):
    """A text, and the texts any of which may be written for it: they are its `label`, a tuple.

    Args:
        sentences: of the text, where the data list them; () where it is whole.
    """

    sentences: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """What may be written; () where it is to be predicted."""
        return self.label or ()


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A text that a model wrote.

    Args:
        text: as a reader sees it, without special tokens.
        log_probability: nats a token, the end counted as one; None where the model has none.
        finished: whether it came to an end of its own; False where the longest length that is allowed ended it.
        cut: tokens at the end of the input that the model did not see.
    """

    text: str
    log_probability: float | None = None
    finished: bool = True
    cut: int = 0
