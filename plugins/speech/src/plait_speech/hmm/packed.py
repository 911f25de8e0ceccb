"""In which order do frames of many utterances lie in memory, so that one step of all of them is one slice?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """The order of torch's `PackedSequence`: utterances (lanes) longest first, frames step by step.

    Frame t of all utterances that have one lies in `starts[t] : starts[t] + live[t]`, lane by lane, and nothing is
    padded. On spoken digits (longest 229 frames, mean 44) padding would be five times the work. It knows no features.

    Args:
        order: the utterance of each lane, int64 [utterances].
        lengths: frames of each lane, int64 [utterances], falling.
        live: for each step, how many lanes have a frame.
        starts: for each step, where it begins.
        source: for each packed frame, its place in the utterances laid end to end, int64 [frames].
        place: the inverse: for each frame of the utterances laid end to end, where it is packed, int64 [frames].
        lane: for each packed frame, its lane, int64 [frames].
        last: for each lane, where its last frame is packed, int64 [utterances].
    """

    order: Tensor
    lengths: Tensor
    live: tuple[int, ...]
    starts: tuple[int, ...]
    source: Tensor
    place: Tensor
    lane: Tensor
    last: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Packing:
        """The packing of utterances of these lengths (frames); equal lengths keep their order.

        Raises:
            ValueError: an utterance has no frame; says which one.
        """
        empty = [index for index, length in enumerate(lengths) if length < 1]
        if empty:
            raise ValueError(f"utterance {empty[0]} has no frame ({len(empty)} such); leave it out or make it longer")
        given = torch.tensor(list(lengths), dtype=torch.int64)
        order = torch.argsort(given, descending=True, stable=True)
        falling = given[order]
        longest = int(falling[0]) if len(falling) else 0
        ended = torch.bincount(falling, minlength=longest + 1)[: max(longest, 0)]
        live = (len(given) - ended.cumsum(0)).tolist() if longest else []
        starts = [0, *accumulate(live)]
        begins = given.cumsum(0) - given
        lane = torch.cat([torch.arange(count) for count in live]) if live else torch.zeros(0, dtype=torch.int64)
        step = torch.repeat_interleave(torch.arange(longest), torch.tensor(live, dtype=torch.int64))
        source = begins[order][lane] + step
        last = torch.tensor(starts, dtype=torch.int64)[falling - 1] + torch.arange(len(given))
        place = torch.empty_like(source)
        place[source] = torch.arange(len(source))
        return cls(order, falling, tuple(live), tuple(starts[:-1]), source, place, lane, last)

    @property
    def steps(self) -> list[tuple[int, int, int]]:
        """For each step: its first frame, the frame after its last, and its live lanes."""
        return [(start, start + count, count) for start, count in zip(self.starts, self.live, strict=True)]

    def blocks(self, most: int) -> list[list[tuple[int, int, int]]]:
        """The steps, in runs of at most `most` frames (a step that is longer is a run of its own)."""
        blocks: list[list[tuple[int, int, int]]] = []
        for step in self.steps:
            if not blocks or step[1] - blocks[-1][0][0] > most:
                blocks.append([])
            blocks[-1].append(step)
        return blocks

    def unpack(self, values: Tensor) -> list[Tensor]:
        """Values of packed frames, [..., frames], as one tensor [..., length] an utterance, in the given order."""
        flat = values[..., self.place]
        lengths = torch.empty_like(self.lengths)
        lengths[self.order] = self.lengths
        ends = [0, *accumulate(lengths.tolist())]
        return [flat[..., first:after] for first, after in pairwise(ends)]

    def restore(self, values: Tensor) -> Tensor:
        """Values of lanes, [..., utterances], in the order in which the utterances were given."""
        restored = torch.empty_like(values)
        restored[..., self.order] = values
        return restored
