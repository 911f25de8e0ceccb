"""What is a conformer layer?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plait_speech.networks.encoder import masked
from plait_speech.networks.layout import FrameNorm


def normalised(norm: FrameNorm, values: Tensor, there: Tensor) -> Tensor:
    """Values, [batch, channels, frames], normalised over the frames that are speech, bool [batch, frames]; padding
    neither counts nor changes from zero."""
    frames = values.transpose(1, 2)
    spoken = norm(frames[there])
    result = torch.zeros_like(frames, dtype=spoken.dtype)
    result[there] = spoken
    return result.transpose(1, 2)


class ConvolutionModule(nn.Module):
    """The convolution module (Gulati et al. 2020, figure 2): pointwise, gated linear unit, depthwise over time,
    normalisation, swish, pointwise, dropout. It knows padding as zeros."""

    def __init__(self, width: int, *, kernel: int, dropout: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.sequential = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(dim=1),
            nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2, groups=width),
            FrameNorm(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
            nn.Dropout(dropout),
        )

    def forward(self, frames: Tensor, there: Tensor) -> Tensor:
        """[batch, frames, width] and which of them are speech, bool [batch, frames], to the like."""
        values = self.layer_norm(frames).transpose(1, 2)
        enter, gate, depthwise, norm, swish, leave, dropout = self.sequential
        values = gate(enter(values)) * there[:, None]  # else a neighbour's padding would be heard
        assert isinstance(norm, FrameNorm)
        values = swish(normalised(norm, depthwise(values), there))
        return dropout(leave(values)).transpose(1, 2)  # type: ignore[no-any-return]  # torch does not type calls


class FeedForward(nn.Module):
    """Layer normalisation, four times the width with swish, and back (Gulati et al. 2020, figure 4)."""

    def __init__(self, width: int, inner: int, *, dropout: float) -> None:
        super().__init__()
        self.sequential = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner), nn.SiLU(), nn.Dropout(dropout), nn.Linear(inner, width),
            nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, frames: Tensor) -> Tensor:
        """[..., width] to the like."""
        found: Tensor = self.sequential(frames)
        return found


class ConformerLayer(nn.Module):
    """Half a feed-forward module, self-attention, convolution, the other half, layer normalisation (Gulati et al. 2020,
    figure 1)."""

    def __init__(self, width: int, inner: int, *, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.ffn1 = FeedForward(width, inner, dropout=dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.self_attn_dropout = nn.Dropout(dropout)
        self.conv_module = ConvolutionModule(width, kernel=kernel, dropout=dropout)
        self.ffn2 = FeedForward(width, inner, dropout=dropout)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor, there: Tensor) -> Tensor:
        """[batch, frames, width] and which of them are speech, bool [batch, frames], to the like."""
        frames = frames + 0.5 * self.ffn1(frames)
        normal = self.self_attn_layer_norm(frames)
        attended, _ = self.self_attn(normal, normal, normal, key_padding_mask=~there, need_weights=False)
        frames = frames + self.self_attn_dropout(attended)
        frames = frames + self.conv_module(frames, there)
        frames = frames + 0.5 * self.ffn2(frames)
        found: Tensor = self.final_layer_norm(frames)
        return found


class Conformer(nn.Module):
    """Conformer layers (Gulati et al. 2020), with the parameters and names of `torchaudio.models.Conformer`, whose
    weights load as they are; like it, without the paper's positions: the convolutions tell where a frame is.

    It is not torchaudio's own: torchaudio 2.11 refuses to be imported beside a torch built for another CUDA. Unlike it,
    an utterance's states do not depend on how far a batch is filled up.

    Args:
        width: of the states.
        inner: of the feed-forward modules.
        kernel: states that a convolution sees, odd.
    """

    def __init__(self, width: int, *, inner: int, layers: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conformer_layers = nn.ModuleList(
            ConformerLayer(width, inner, heads=heads, kernel=kernel, dropout=dropout) for _ in range(layers)
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """[batch, frames, width] of these lengths, int64 [batch], to the like, zero beyond them."""
        there = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
        frames = masked(frames, lengths)
        for layer in self.conformer_layers:
            frames = layer(frames, there)
        return masked(frames, lengths)
