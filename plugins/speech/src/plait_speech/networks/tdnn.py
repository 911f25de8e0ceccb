"""What does the time-delay network look like?"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from plait_speech.networks.classifier import UtteranceClassifier
from plait_speech.networks.layout import FrameNorm, Layout
from plait_speech.networks.processor import NetworkOptions

Width = Annotated[int, Field(ge=1)]

_KERNEL = 5  # frames that the first layer sees
_LATER_KERNEL = 3


class TdnnOptions(NetworkOptions):
    """The `model` block of speech/tdnn."""

    width: Width = 96
    """Channels of each layer."""
    dilations: tuple[Width, ...] = Field(default=(1, 2, 3, 4), min_length=1)
    """Frames between the inputs of each layer; together they see 23 frames, a quarter of a second."""


class Tdnn(UtteranceClassifier):
    """A time-delay network (Waibel et al. 1989; pooled over time as Snyder et al. 2018): convolutions over time,
    dilated ever more, with ReLU and normalisation; mean and deviation over all frames; a linear layer.

    On 40 mel bands and ten classes it has 104,842 parameters. It knows neighbours in time and none in frequency.
    """

    Options: ClassVar[type[TdnnOptions]] = TdnnOptions

    options: TdnnOptions

    def make_layers(self, dims: int) -> int:
        width = self.options.width
        kernels = [_KERNEL, *[_LATER_KERNEL] * (len(self.options.dilations) - 1)]
        widths = [dims, *[width] * (len(kernels) - 1)]
        self.kernels = kernels
        self.convolutions = nn.ModuleList(
            nn.Linear(kernel * before, width, bias=False) for kernel, before in zip(kernels, widths, strict=True)
        )
        self.norms = nn.ModuleList(FrameNorm(width) for _ in kernels)
        return 2 * width

    def embed(self, frames: Tensor, layout: Layout) -> Tensor:
        layers = zip(self.convolutions, self.norms, self.kernels, self.options.dilations, strict=True)
        for convolution, norm, kernel, dilation in layers:
            frames = norm(convolution(layout.neighbours(frames, kernel, dilation).flatten(1)).relu())
        return layout.statistics(frames)
