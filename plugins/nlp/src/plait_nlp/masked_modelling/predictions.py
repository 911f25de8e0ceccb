"""What does a model say of hidden words, and of whether a text goes on?"""

from __future__ import annotations

from dataclasses import dataclass

from plait_nlp.masked_modelling.passages import Passage


@dataclass(frozen=True, slots=True)
class Filled:
    """What a model says of one hidden word.

    Args:
        guesses: words with their probabilities, the most probable first. Of a word of several tokens, each of them at
            its most probable, with the product of their probabilities.
        nats: the negative log-probability of the true word, its tokens taken as independent.
        tokens: of the true word.
        right: how many of them were the most probable ones.
        spelled: whether the word lies beyond what the model sees, or has tokens that the model cannot write: it then
            costs 8 bits a byte (on top of what its tokens cost).
    """

    guesses: tuple[tuple[str, float], ...]
    nats: float = 0.0
    tokens: int = 1
    right: int = 0
    spelled: bool = False


@dataclass(frozen=True, slots=True)
class MaskedPrediction:
    """What a model says of a passage.

    Args:
        passage: the one that it is for.
        filled: one for each hidden word.
        follows: the probability that the pair goes on where the text ends; None where the model does not say.
    """

    passage: Passage
    filled: tuple[Filled, ...]
    follows: float | None = None

    @property
    def text(self) -> str:
        """The passage's texts with the best guesses in place, the pair on a line of its own."""
        parts = [self.passage.text, self.passage.pair or ""]
        for (which, start, end), each in reversed(list(zip(self.passage.spans, self.filled, strict=True))):
            if each.guesses:
                parts[which] = f"{parts[which][:start]}{each.guesses[0][0]}{parts[which][end:]}"
        return parts[0] if self.passage.pair is None else "\n".join(parts)
