"""Which sizes does a conformer have?"""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from plait.options import Options
from plait_speech.networks.conformer_layers import Conformer


class ConformerSize(Options):
    """The block `model.conformer`."""

    width: int = Field(default=96, ge=2)
    """Of the states; a multiple of heads."""
    inner: int = Field(default=192, ge=1)
    """Of the feed-forward modules; the paper has four times the width."""
    layers: int = Field(default=3, ge=1, le=24)
    """Conformer layers."""
    heads: int = Field(default=4, ge=1)
    """Of the attention."""
    kernel: int = Field(default=15, ge=1)
    """States that a convolution sees: odd; 15 states of 40 ms are 0.6 s."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("kernel must be odd, so that a state is in its middle")
        return kernel

    @model_validator(mode="after")
    def _divisible(self) -> ConformerSize:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    def make(self, *, dropout: float) -> Conformer:
        """Layers of this size."""
        return Conformer(
            self.width, inner=self.inner, layers=self.layers, heads=self.heads, kernel=self.kernel, dropout=dropout
        )
