"""How do frames become hidden states, four frames to one, whole utterances at a time or as they arrive?"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Direction = Literal["both", "forward"]

_KERNEL, _STRIDE = 5, 2
_REACH = _KERNEL // 2

SUBSAMPLING = _STRIDE**2
"""Frames to one hidden state."""


class Halving(nn.Module):
    """A convolution over time of five frames and stride two, with layer normalisation and ReLU. It knows no unit, and
    of an utterance's end only that zeros follow."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(before, width, _KERNEL, stride=_STRIDE, padding=_REACH)
        self.norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, before] and int64 [batch] to [batch, ceil(frames / 2), width] and their lengths; whatever
        lies beyond an utterance is taken for zeros."""
        convolved = self.convolution(masked(frames, lengths).transpose(1, 2))
        shorter = (lengths + _STRIDE - 1).div(_STRIDE, rounding_mode="floor")
        return self.norm(convolved.transpose(1, 2)).relu(), shorter

    def piece(self, held: Tensor, frames: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """The same for frames as they arrive.

        Args:
            held: [kept, before], what an earlier call gave back; two rows of zeros at first.
            frames: [frames, before].
            last: nothing comes after these.

        Returns:
            The frames that are complete, [some, width], and what to hold.
        """
        held = torch.cat((held, frames))
        if last:
            held = torch.cat((held, held.new_zeros(_REACH, held.shape[1])))
        count = max(0, (len(held) - _KERNEL) // _STRIDE + 1)
        if not count:
            return held.new_zeros(0, self.convolution.out_channels), held
        seen = held[: (count - 1) * _STRIDE + _KERNEL].T[None]
        # the layer's own call would pad every piece with zeros
        convolved = F.conv1d(seen, self.convolution.weight, self.convolution.bias, stride=_STRIDE)
        return self.norm(convolved[0].T).relu(), held[count * _STRIDE :]


class Subsampling(nn.Module):
    """Two `Halving`s: a quarter of the frames is left, and each state sees six frames to either side.

    Args:
        dims: values of a frame.
        width: channels.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.first = Halving(dims, width)
        self.second = Halving(width, width)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, dims] and int64 [batch] to [batch, ceil(frames / 4), width] and their lengths."""
        return self.second(*self.first(frames, lengths))  # type: ignore[no-any-return]  # torch does not type calls


class SubsamplingStream:
    """Runs a `Subsampling` over one utterance in pieces: a state comes out six frames after its middle."""

    def __init__(self, module: Subsampling) -> None:
        self._layers = (module.first, module.second)
        self._held = [each.convolution.weight.new_zeros(_REACH, each.convolution.in_channels) for each in self._layers]

    def accept(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """Further frames, [frames, dims], to the states that they complete, [states, width].

        Args:
            last: no frame comes after these.
        """
        for number, layer in enumerate(self._layers):
            frames, self._held[number] = layer.piece(self._held[number], frames, last=last)
        return frames


class RecurrentEncoder(nn.Module):
    """`Subsampling`, then gated recurrent units (Cho et al. 2014) in both directions, or forward only, which can follow
    speech as it arrives.

    Args:
        layers: of recurrent units.
        dropout: between them.
    """

    def __init__(self, dims: int, width: int, *, layers: int, direction: Direction, dropout: float) -> None:
        super().__init__()
        self.subsampling = Subsampling(dims, width)
        self.recurrent = nn.GRU(
            width, width, layers, batch_first=True, bidirectional=direction == "both",
            dropout=dropout if layers > 1 else 0.0,
        )  # fmt: skip
        self.width = 2 * width if direction == "both" else width

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, dims] to hidden states [batch, states, width] and how many each utterance has."""
        states, lengths = self.subsampling(frames, lengths)
        packed = pack_padded_sequence(states, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return hidden, lengths

    def stream(self) -> EncoderStream:
        """The same for frames as they arrive; of a forward encoder only."""
        return EncoderStream(self)


class EncoderStream:
    """Runs a forward `RecurrentEncoder` over one utterance in pieces."""

    def __init__(self, module: RecurrentEncoder) -> None:
        if module.recurrent.bidirectional:
            raise ValueError("an encoder that also runs backwards cannot follow an utterance as it arrives")
        self._module = module
        self._subsampling = SubsamplingStream(module.subsampling)
        self._state: Tensor | None = None

    def accept(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """Further frames, [frames, dims], to hidden states, [states, width]; see `SubsamplingStream`."""
        states = self._subsampling.accept(frames, last=last)
        if not len(states):
            return states.new_zeros(0, self._module.width)
        hidden, self._state = self._module.recurrent(states[None], self._state)
        found: Tensor = hidden[0]
        return found


def masked(frames: Tensor, lengths: Tensor) -> Tensor:
    """[batch, frames, ...] with zeros beyond each utterance's length."""
    there = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    return frames * there[..., None]
