"""Which listed examples are for training, which for choosing and which for judging?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from plait.data import SPLITS, carve, limit
from plait.errors import DataError, did_you_mean
from plait.listing import Item, Media, several

How = Literal["auto", "given", "random", "stratified"]
Parts = Mapping[str, Sequence[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a source is divided. It knows no content.

    Args:
        media: what is divided; examples whose target is no class are drawn without regard to it.
        how: "auto": splits that the source names, and a missing valid is carved from train, else as "stratified";
            "given": only these, none is carved; "random", "stratified": all examples are divided anew; or the name of
            `group`: nobody is in two splits.
        valid_fraction, test_fraction: the parts to draw, of examples (of groups for a test by group).
        seed: draws them.
        fixed: the classes are fixed by an option or a trained run, so that train may lack some, or be missing.
        group: the field that says whose an example is, such as "speaker"; "" where there is none.
        test_groups, valid_groups: who is tested. Without, testing groups are drawn by the seed, and valid is carved
            from the examples of the training groups.
        single: what happens to a class with one example: it is refused unless how is "random", or stays in train.
    """

    media: Media
    how: str
    valid_fraction: float
    test_fraction: float
    seed: int
    fixed: bool = False
    group: str = ""
    test_groups: tuple[str, ...] = ()
    valid_groups: tuple[str, ...] = ()
    single: Literal["refuse", "keep"] = "keep"

    def of(self, parts: Parts) -> dict[str, list[Item]]:
        """The examples of train, valid and test, as far as there are any, in this order.

        Raises:
            DataError: the splits asked for cannot be had: none is named, no train, a class too small, no such group.
        """
        named = {split: list(items) for split, items in parts.items() if split and items}
        everything = list(chain.from_iterable(parts.values()))
        if self.group and (self.how == self.group or (self.how == "auto" and (self.test_groups or self.valid_groups))):
            return self._by_group(everything)
        if self.how == "stratified" and not self.media.classes:
            raise DataError(
                f"data.split=stratified, but a {self.media.target} is no class", hint="set data.split=random"
            )
        if self.how == "given":
            self._check_given(named)
        if named and self.how in ("auto", "given"):
            return self._named(named)
        if self.how != "random":
            self._check_divisible(everything, {"test": self.test_fraction, "valid": self.valid_fraction})
        drawn = self._carved({"train": everything}, "test", self.test_fraction)
        return _ordered(self._carved(drawn, "valid", self.valid_fraction))

    def _named(self, named: dict[str, list[Item]]) -> dict[str, list[Item]]:
        if "train" not in named and not self.fixed:
            raise DataError(
                f"there is no train; the data have {', '.join(named)}",
                hint="name a folder or table train, or divide all data anew with data.split="
                + ("stratified" if self.media.classes else "random"),
            )
        if self.how == "auto" and "train" in named and "valid" not in named:
            self._check_divisible(named["train"], {"valid": self.valid_fraction})
            named = self._carved(named, "valid", self.valid_fraction)
        return _ordered(named)

    def _check_given(self, named: Mapping[str, Sequence[Item]]) -> None:
        if not named:
            raise DataError(
                "data.split=given, but the data name no splits",
                hint="name folders, tables or groups of data.pattern train, valid and test, or set data.split=auto",
            )
        if not self.fixed and len(named) < 2:
            missing = "train" if "train" not in named else "valid and test"
            raise DataError(
                f"data.split=given, but there is no {missing}; the data have {', '.join(named)}",
                hint="add it, or set data.split=auto, which carves a missing valid from train",
            )

    def _check_divisible(self, items: Sequence[Item], fractions: Mapping[str, float]) -> None:
        wanted = [split for split, fraction in fractions.items() if fraction]
        if self.single == "keep" or self.fixed or not wanted or not self.media.classes:
            return
        counts = Counter(item.target for item in items)
        alone = [label for label, count in counts.items() if count == 1]
        if not alone or len(counts) < 2:  # one class only is another error
            return
        noun, zero = self.media.noun, " ".join(f"data.{split}_fraction=0" for split in wanted)
        first = next(str(item.where) for item in items if item.target == alone[0])
        raise DataError(
            f"{len(alone)} classes have one {noun} only, which cannot be in both train and {wanted[0]}:"
            f" {several(map(repr, alone))} (first {first})",
            hint=f"add {noun}s, name the splits in the data, or set data.split=random (it stays in train) or {zero}",
            details={"classes": alone[:100], "total": len(alone)},
        )

    def _by_group(self, items: list[Item]) -> dict[str, list[Item]]:
        group, names = self.group, self._groups(items)
        test, valid = set(self.test_groups), set(self.valid_groups)
        if not test and self.test_fraction:
            rest = [name for name in names if name not in valid]
            test = {rest[index] for index in carve(len(rest), fraction=self.test_fraction, seed=self.seed)[1]}
        if both := test & valid:
            raise DataError(f"{several(sorted(both))} is both data.test_{group} and data.valid_{group}")
        parts: dict[str, list[Item]] = {split: [] for split in SPLITS}
        for item in items:
            owner = item.more[group]
            parts["test" if owner in test else "valid" if owner in valid else "train"].append(item)
        if not parts["train"] or not (test or valid):
            raise DataError(
                f"the data have {len(names)} {group}s ({several(names)}), and none is left to "
                + ("train on" if not parts["train"] else "test"),
                hint=f"a division by {group} needs two {group}s or more",
            )
        return _ordered(parts if valid else self._carved(parts, "valid", self.valid_fraction))

    def _groups(self, items: Sequence[Item]) -> list[str]:
        """Who there is, by name; everybody who is asked for among them."""
        group = self.group
        nobody = [item for item in items if not item.more.get(group)]
        if nobody:
            raise DataError(
                f"{len(nobody)} of {len(items)} {self.media.nouns} name no {group} (first {nobody[0].where})",
                hint=f"data.split={group} needs a column {group!r} (or data.fields.{group}=COLUMN), or a group"
                f" (?P<{group}>...) in data.pattern",
            )
        names = sorted({item.more[group] for item in items})
        for option, wanted in ((f"test_{group}", self.test_groups), (f"valid_{group}", self.valid_groups)):
            for name in wanted:
                if name not in names:
                    raise DataError(
                        f"data.{option}: nobody is called {name!r}; the {group}s are {several(names)}",
                        hint=did_you_mean(name, names),
                    )
        return names

    def _carved(self, parts: dict[str, list[Item]], split: str, fraction: float) -> dict[str, list[Item]]:
        items = parts["train"]
        targets = [item.target for item in items] if self.media.classes else len(items)
        rest, part = carve(targets, fraction=fraction, seed=self.seed, stratify=self.how != "random")
        return parts | {"train": [items[index] for index in rest], split: [items[index] for index in part]}


def limited(parts: Parts, *, media: Media, most: int | None, seed: int) -> dict[str, list[Item]]:
    """At most `most` examples of each split, drawn by the seed (`data.limit`); every class gives its share."""
    found = {}
    for split, items in parts.items():
        targets = [item.target for item in items] if media.classes else len(items)
        found[split] = [items[index] for index in limit(targets, most=most, seed=seed)]
    return found


def _ordered(parts: Parts) -> dict[str, list[Item]]:
    return {split: list(parts[split]) for split in SPLITS if parts.get(split)}
