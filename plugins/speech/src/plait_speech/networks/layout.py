"""How do the frames of a batch of utterances lie one below the other, so that no padding is ever computed?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which of the stacked frames belong to which utterance. It knows no values.

    A batch of 32 spoken digits, padded to the longest, is 45 % padding; stacked frames need none, see no other
    utterance, and a batch's statistics are those of its speech.

    Args:
        lengths: int64 [batch], frames of each utterance, one at least.
        first, last: int64 [frames], where the utterance of each frame begins and ends.
    """

    lengths: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Layout:
        """The layout of utterances of these lengths."""
        ends = lengths.cumsum(0)
        return cls(lengths, (ends - lengths).repeat_interleave(lengths), (ends - 1).repeat_interleave(lengths))

    def neighbours(self, values: Tensor, kernel: int, dilation: int = 1) -> Tensor:
        """What a convolution over time sees: zero beyond an utterance's ends.

        Args:
            values: [frames, ...].

        Returns:
            [frames, kernel, ...], the middle one a frame itself.
        """
        count = len(values)
        offsets = (torch.arange(kernel, device=values.device) - (kernel - 1) // 2) * dilation
        places = torch.arange(count, device=values.device)[:, None] + offsets
        outside = (places < self.first[:, None]) | (places > self.last[:, None])
        rows = F.pad(values.flatten(1), (0, 0, 0, 1))  # the last row is zero
        # an embedding's gradient is a sum in one order, on every device; that of an index is not
        found = F.embedding(places.masked_fill(outside, count), rows)
        return found.view(count, kernel, *values.shape[1:])

    def every(self, stride: int, values: Tensor) -> tuple[Layout, Tensor]:
        """Every so-manieth frame of each utterance, its first one always, and their layout."""
        places = torch.arange(len(values), device=values.device)
        kept = (places - self.first) % stride == 0
        return Layout.of((self.lengths + stride - 1).div(stride, rounding_mode="floor")), values[kept]

    def statistics(self, values: Tensor) -> Tensor:
        """Mean and standard deviation over each utterance's frames (Snyder et al. 2018).

        Args:
            values: [frames, channels].

        Returns:
            [batch, 2 * channels].
        """
        mean = torch.segment_reduce(values, "mean", lengths=self.lengths)
        centred = values - mean.repeat_interleave(self.lengths, dim=0)
        variance = torch.segment_reduce(centred.square(), "mean", lengths=self.lengths)
        return torch.cat((mean, (variance + 1e-5).sqrt()), dim=1)  # the root's slope at zero would be infinite


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation of stacked frames, [frames, channels] or [frames, channels, bands]; of a single value, which
    has no variance, as in evaluation: an epoch's last batch may well be one frame."""

    def forward(self, values: Tensor) -> Tensor:
        if values.numel() > values.shape[1] or not self.training:
            return super().forward(values)
        return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
