"""What do fitted hidden Markov models give to new ones that start from them (`model.from=RUN`)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from plait_speech.features import Features
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.estimation import split

_SHOWN = 10  # names in a note


@runtime_checkable
class Trained(Protocol):
    """A fitted model that has a hidden Markov model for each of its labels or units."""

    features: Features

    def models(self) -> tuple[HmmBank, list[str]]:
        """The bank [models, ...], and what each model is of."""


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """The models of another run, by name.

    Args:
        bank: [models, ...].
        names: of the models.
        features: what their frames are.
    """

    bank: HmmBank
    names: tuple[str, ...]
    features: Features

    @classmethod
    def of(cls, other: Any) -> Earlier:
        """The models of a fitted model.

        Raises:
            TypeError: it has none.
        """
        if not isinstance(other, Trained):
            raise TypeError(f"{type(other).__name__} has no hidden Markov models; expected a run of speech/gmm-hmm")
        bank, names = other.models()
        return cls(bank, tuple(names), other.features)

    def check(self, *, states: int, mixtures: int, offsets: Sequence[int] | None, tie: Sequence[int] | None) -> None:
        """Refuse models of another shape.

        Raises:
            TypeError: says which options differ.
        """
        wrong = []
        if self.bank.emissions != states:
            wrong.append(f"it has {self.bank.emissions} states, and model.states is {states}")
        if self.bank.mixtures > mixtures:
            wrong.append(f"it has {self.bank.mixtures} mixtures, and model.mixtures is {mixtures}")
        own = self.bank.offsets
        if (own is None) != (offsets is None) or not set(own or ()) <= set(offsets or ()):
            wrong.append("its model.topology has transitions that this one lacks")
        if self.bank.tie != (tuple(tie) if tie is not None else tuple(range(self.bank.states))):
            wrong.append("it has another model.min_duration")
        if wrong:
            raise TypeError("; ".join(wrong))

    def notes(self, names: Sequence[str], asked: Features) -> list[str]:
        """What a reader of the run must know."""
        missing = [name for name in names if name not in self.names]
        found = [] if asked == self.features else ["features are those of the run, not those of the options"]
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            found.append(f"not in the run, from a flat start: {', '.join(missing[:_SHOWN])}{more}")
        return found

    def widened(self, bank: HmmBank, *, seed: int) -> HmmBank:
        """A flat start split to as many mixtures, in directions that the seed draws."""
        while bank.mixtures < self.bank.mixtures:
            bank = split(bank, min(2 * bank.mixtures, self.bank.mixtures), depth=0.2, seed=seed)
        return bank

    def into(self, bank: HmmBank, names: Sequence[str], *, inner: bool = False) -> HmmBank:
        """A flat start in which models that are known by name have the earlier parameters.

        Args:
            bank: `widened`, [models, ...].
            inner: keep starts, and the transitions of each model's last state: there it is joined to others.
        """
        pairs = [(own, self.names.index(name)) for own, name in enumerate(names) if name in self.names]
        pairs = [(own, other) for own, other in pairs if self.bank.heard[other]]
        if not pairs:
            return bank
        own, other = (torch.tensor(each) for each in zip(*pairs, strict=True))

        def taken(name: str) -> Tensor:
            mine: Tensor = getattr(bank, name).clone()
            mine[own] = getattr(self.bank, name)[other].to(mine.dtype)
            return mine

        arcs = bank.log_arcs.clone()
        stop = bank.states - 1 if inner else bank.states
        if bank.offsets is None or self.bank.offsets is None:
            arcs[own] = self.bank.log_arcs[other].to(arcs.dtype)
        else:
            for band, offset in enumerate(bank.offsets):
                known = offset in self.bank.offsets
                values = self.bank.log_arcs[other, self.bank.offsets.index(offset)] if known else None
                arcs[own, band, :stop] = -torch.inf if values is None else values[:, :stop].to(arcs.dtype)
        start = bank.log_start if inner else taken("log_start")
        return replace(
            bank, log_start=start, log_arcs=arcs, log_weight=taken("log_weight"), mean=taken("mean"),
            variance=taken("variance"),
        )  # fmt: skip
