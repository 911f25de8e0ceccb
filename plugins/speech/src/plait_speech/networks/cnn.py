"""What does the two-dimensional convolutional network look like?"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from plait_speech.networks.classifier import UtteranceClassifier
from plait_speech.networks.layout import FrameNorm, Layout
from plait_speech.networks.processor import NetworkOptions

Width = Annotated[int, Field(ge=1)]

_STEM_KERNEL = 5
_TIME_KERNEL = 3


class CnnOptions(NetworkOptions):
    """The `model` block of speech/cnn."""

    widths: tuple[Width, ...] = Field(default=(16, 24, 32), min_length=1, max_length=6)
    """Channels of each stage; each stage after the first halves the frequency axis."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks of each stage."""


class BroadcastedBlock(nn.Module):
    """A block of BC-ResNet (Kim et al. 2021, figure 2): a depthwise convolution over frequency keeps two dimensions;
    its mean over frequency goes through a depthwise convolution over time, cheap for having one dimension, and is
    broadcast back onto every frequency.

    It knows neither the frequencies that it is given nor how many.

    Args:
        dilation: frames between the inputs of the convolution over time.
        stride: over frequency.
    """

    def __init__(self, before: int, width: int, *, dilation: int, stride: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.enter: nn.Module | None = None
        if before != width or stride > 1:
            convolution = nn.Conv1d(before, width, 1, stride=stride, bias=False)
            self.enter = nn.Sequential(convolution, FrameNorm(width), nn.ReLU())
        self.over_frequency = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)
        self.frequency_norm = FrameNorm(width)
        self.over_time = nn.Parameter(torch.empty(_TIME_KERNEL, width).uniform_(-1, 1) / math.sqrt(_TIME_KERNEL))
        self.time_norm = FrameNorm(width)
        self.mix = nn.Linear(width, width)

    def forward(self, frames: Tensor, layout: Layout) -> Tensor:
        """Stacked frames, [frames, channels, bands], to the like."""
        if self.enter is not None:
            frames = self.enter(frames)
        two = self.frequency_norm(self.over_frequency(frames))
        around = layout.neighbours(two.mean(dim=2), _TIME_KERNEL, self.dilation)
        one = F.silu(self.time_norm((around * self.over_time).sum(dim=1)))
        summed = two + self.mix(one)[:, :, None]
        # a block that changes the shape has no identity to add (the paper's transition block)
        return F.relu(summed if self.enter is not None else summed + frames)


class Cnn(UtteranceClassifier):
    """A small two-dimensional network of broadcasted residual blocks on the log mel spectrogram.

    A 5x5 convolution that halves both dimensions, stages of `BroadcastedBlock`, one dense layer over all bands, mean
    and deviation over time. It knows neighbours in time and frequency.
    """

    Options: ClassVar[type[CnnOptions]] = CnnOptions

    options: CnnOptions

    def make_layers(self, dims: int) -> int:
        widths = self.options.widths
        self.stem = nn.Conv1d(_STEM_KERNEL, widths[0], _STEM_KERNEL, stride=2, padding=2, bias=False)
        self.stem_norm = FrameNorm(widths[0])
        blocks: list[BroadcastedBlock] = []
        before, bands = widths[0], (dims + 1) // 2
        for stage, width in enumerate(widths):
            for index in range(self.options.blocks):
                stride = 2 if stage and not index else 1
                bands = (bands + stride - 1) // stride
                blocks.append(BroadcastedBlock(before, width, dilation=2**stage, stride=stride))
                before = width
        self.blocks = nn.ModuleList(blocks)
        self.gather = nn.Linear(before * bands, 2 * before, bias=False)
        self.gather_norm = FrameNorm(2 * before)
        return 4 * before

    def embed(self, frames: Tensor, layout: Layout) -> Tensor:
        around = layout.neighbours(frames, _STEM_KERNEL)  # five frames are five channels to a convolution over bands
        layout, around = layout.every(2, around)
        maps = self.stem_norm(self.stem(around)).relu()
        for block in self.blocks:
            maps = block(maps, layout)
        return layout.statistics(self.gather_norm(self.gather(maps.flatten(1))).relu())
