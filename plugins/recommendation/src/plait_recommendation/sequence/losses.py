"""How far is a network from naming the next item, without always looking at every item?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_NEVER = -1e4  # a logit, within float16's range


def cross_entropy(scores: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """The mean negative log-likelihood of the targets among all items, in nats.

    Args:
        scores: [terms, items].
        targets: item codes, [terms].
        smoothing: part of the target that is spread over all items.
    """
    return F.cross_entropy(scores.float(), targets, label_smoothing=smoothing)


def sampled_cross_entropy(positive: Tensor, negative: Tensor, hits: Tensor, *, items: int) -> Tensor:
    """Cross-entropy against a uniform sample of the items; each sampled item stands for several.

    The logits of the negatives are corrected by the logarithm of how often each is in such a sample (Bengio and Senécal
    2008; logQ), so that the partition function, and with it the loss, estimates the full one.

    Args:
        positive: scores of the targets, [terms].
        negative: scores of the sampled items, [terms, samples].
        hits: where a sampled item is the target itself and does not count, bool [terms, samples].
        items: how many items the sample is drawn from.
    """
    counted = (~hits).sum(dim=1, keepdim=True).clamp(min=1)  # each of them stands for so many of the other items
    weight = math.log(max(items - 1, 1)) - torch.log(counted.float())
    others = (negative.float() + weight).masked_fill(hits, _NEVER)
    logits = torch.cat([positive.float()[:, None], others], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def generalised_binary_cross_entropy(
    positive: Tensor, negative: Tensor, hits: Tensor, *, items: int, calibration: float
) -> Tensor:
    """gBCE (Petrov and Macdonald 2023, "gSASRec", equations 10 and 12): the target's probability to the power beta.

    Args:
        positive, negative, hits: as in `sampled_cross_entropy`.
        calibration: their t: 0 is the plain binary cross-entropy, which is overconfident with few negatives; 1 makes
            the scores as calibrated as those of the full cross-entropy.
    """
    rate = min(negative.shape[1] / max(items - 1, 1), 1.0)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    others = F.logsigmoid(-negative.float()).masked_fill(hits, 0.0).sum(dim=1)
    return -(beta * F.logsigmoid(positive.float()) + others).mean() / (negative.shape[1] + 1)
