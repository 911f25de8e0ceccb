"""What does a transducer lose on a batch: minus the logarithm of the probability of all alignments together?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_NEVER = -1e30  # a logarithm of zero whose differences are no NaN: (-inf) - (-inf) would spoil every gradient


def transducer_loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor, *, blank: int = 0) -> Tensor:
    """Minus ln P(target | frames) of each example (Graves 2012, "Sequence Transduction with Recurrent Neural Networks",
    equations 16 to 18), in nats. Gradients come from autograd.

    The forward variable alpha(t, u), the probability of having emitted u units by frame t, follows from its neighbours

        alpha(t, u) = alpha(t - 1, u) P(blank | t - 1, u) + alpha(t, u - 1) P(target_u | t, u - 1)

    and is computed an anti-diagonal t + u at a time, whose cells do not depend on each other: frames + units small
    steps for the whole batch, in place of frames * units.

    Args:
        logits: [batch, frames, units + 1, symbols], not normalised; what lies beyond an example's frames and units
            does not matter.
        targets: int64 [batch, units], filled up with any symbol.
        frames: int64 [batch], one at least.
        lengths: int64 [batch], units of each target; may be zero.
        blank: the symbol that ends a frame.

    Returns:
        [batch].
    """
    blanks, emissions = _log_probabilities(logits, targets, blank)
    blanks, emissions = _skewed(blanks), _skewed(emissions)  # [diagonals, batch, units + 1]
    alpha = torch.full_like(blanks[0], _NEVER)
    alpha[:, 0] = 0.0
    diagonals = [alpha]
    for blank_row, emission_row in zip(blanks[:-1], emissions[:-1], strict=True):
        stayed = alpha + blank_row
        emitted = F.pad((alpha + emission_row)[:, :-1], (1, 0), value=_NEVER)
        alpha = torch.logaddexp(stayed, emitted).clamp(min=_NEVER)
        diagonals.append(alpha)
    row = torch.arange(len(lengths), device=logits.device)
    last = frames - 1 + lengths
    return -(torch.stack(diagonals)[last, row, lengths] + blanks[last, row, lengths])


def _log_probabilities(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """ln P(blank) and ln P(next unit) in each cell, [batch, frames, units + 1]; there is no unit after the last."""
    total = logits.logsumexp(dim=-1)
    following = F.pad(targets, (0, 1), value=blank)[:, None, :, None].expand(*logits.shape[:3], 1)
    wanted = logits.gather(-1, following)[..., 0] - total
    there = torch.arange(logits.shape[2], device=logits.device) < targets.shape[1]
    return logits[..., blank] - total, wanted.masked_fill(~there, _NEVER)


def _skewed(cells: Tensor) -> Tensor:
    """[batch, frames, units + 1] with the diagonals t + u as rows: [frames + units, batch, units + 1]."""
    batch, frames, columns = cells.shape
    column = torch.arange(columns, device=cells.device)
    time = torch.arange(frames + columns - 1, device=cells.device)[:, None] - column  # [diagonals, units + 1]
    inside = (time >= 0) & (time < frames)
    places = time.clamp(0, frames - 1).expand(batch, -1, -1)
    return cells.gather(1, places).masked_fill(~inside, _NEVER).transpose(0, 1)
