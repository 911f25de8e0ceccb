"""Which recordings are for training, which for choosing and which for judging?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from plait.data import carve
from plait.errors import DataError, did_you_mean
from plait_speech.word_recognition.listing import Item, several

How = Literal["auto", "given", "random", "stratified", "speaker"]
Parts = Mapping[str, Sequence[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a source is divided. It knows no recording.

    Args:
        how: "auto": splits that the source names, else stratified; "given": only these, none is carved; "random" and
            "stratified" by utterance, "speaker" so that nobody is heard in training and testing.
        valid_fraction, test_fraction: the parts to draw, of utterances (of speakers for a test by speaker).
        test_speakers, valid_speakers: who is tested; under "speaker". Without, testing speakers are drawn by the seed,
            and valid is carved from the utterances of the training speakers.
        fixed: the classes are fixed by an option or a trained run, so that train may lack some, or be missing.
    """

    how: How
    valid_fraction: float
    test_fraction: float
    test_speakers: tuple[str, ...]
    valid_speakers: tuple[str, ...]
    seed: int
    fixed: bool

    def of(self, parts: Parts) -> dict[str, list[Item]]:
        """The recordings of train, valid and test.

        Raises:
            DataError: the splits asked for cannot be had: none is named, no train, no such speaker, only one speaker.
        """
        named = {split: list(items) for split, items in parts.items() if split and items}
        if self.how == "speaker" or (self.how == "auto" and (self.test_speakers or self.valid_speakers)):
            return self._by_speaker(list(chain.from_iterable(parts.values())))
        if self.how == "given" and not (named and (self.fixed or len(named) > 1)):
            raise DataError(
                f"data.split=given, but the data name {', '.join(named) or 'no splits'}" + (" only" if named else ""),
                hint="name folders, tables or groups of data.pattern train, valid and test, or set data.split=auto",
            )
        if named and self.how in ("auto", "given"):
            if "train" not in named and not self.fixed:
                raise DataError(
                    f"there is no train; the data have {', '.join(named)}",
                    hint="name a folder or table train, or set data.split=stratified to divide all data anew",
                )
            if self.how == "auto" and "train" in named and "valid" not in named:
                named = self._carved(named, "valid", self.valid_fraction)
            return _ordered(named)
        drawn = {"train": list(chain.from_iterable(parts.values()))}
        drawn = self._carved(drawn, "test", self.test_fraction)
        return _ordered(self._carved(drawn, "valid", self.valid_fraction))

    def _by_speaker(self, items: list[Item]) -> dict[str, list[Item]]:
        nobody = [item for item in items if not item.speaker]
        if nobody:
            raise DataError(
                f"{len(nobody)} of {len(items)} recordings name no speaker (first {nobody[0].where})",
                hint="data.split=speaker needs a column 'speaker', or a group (?P<speaker>...) in data.pattern",
            )
        speakers = sorted({item.speaker for item in items})
        for option, wanted in (("test_speaker", self.test_speakers), ("valid_speaker", self.valid_speakers)):
            for name in wanted:
                if name not in speakers:
                    raise DataError(
                        f"data.{option}: nobody is called {name!r}; the speakers are {several(speakers)}",
                        hint=did_you_mean(name, speakers),
                    )
        test = set(self.test_speakers)
        if not test and self.test_fraction:
            rest = [name for name in speakers if name not in self.valid_speakers]
            test = {rest[index] for index in carve(len(rest), fraction=self.test_fraction, seed=self.seed)[1]}
        valid = set(self.valid_speakers)
        if both := test & valid:
            raise DataError(f"{several(sorted(both))} is both data.test_speaker and data.valid_speaker")
        parts: dict[str, list[Item]] = {"train": [], "valid": [], "test": []}
        for item in items:
            parts["test" if item.speaker in test else "valid" if item.speaker in valid else "train"].append(item)
        if not parts["train"] or not (test or valid):
            raise DataError(
                f"the data have {len(speakers)} speakers ({several(speakers)}), and none is left to "
                + ("train on" if not parts["train"] else "test"),
                hint="a division by speaker needs two speakers or more",
            )
        return _ordered(parts if valid else self._carved(parts, "valid", self.valid_fraction))

    def _carved(self, parts: dict[str, list[Item]], split: str, fraction: float) -> dict[str, list[Item]]:
        items = parts["train"]
        labels = [item.label for item in items]
        rest, part = carve(labels, fraction=fraction, seed=self.seed, stratify=self.how != "random")
        return parts | {"train": [items[index] for index in rest], split: [items[index] for index in part]}


def _ordered(parts: Parts) -> dict[str, list[Item]]:
    return {split: list(parts[split]) for split in ("train", "valid", "test") if parts.get(split)}
