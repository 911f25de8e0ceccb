"""Which sequence of tags is the best one, and how probable is a sequence, where each tag depends on the one before?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plait_nlp.token_classification.tags import allowed_steps

_NEVER = -10_000.0  # a log-probability that no sum of scores outweighs, and whose differences are still finite


def step_penalties(labels: Sequence[str]) -> Tensor:
    """0 where a tag of IOB2 may follow another, else `_NEVER`: [labels + 1, labels], the last row for the first tag."""
    return (~torch.from_numpy(allowed_steps(labels))).float() * _NEVER


def best_paths(scores: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
    """The best sequences (Viterbi 1967).

    Args:
        scores: [batch, words, tags].
        steps: [tags + 1, tags], from each tag, and at last from the beginning, to each.
        lengths: [batch], words of each, 1 or more.

    Returns:
        [batch, words] int64; what is beyond the length has no meaning.
    """
    best = scores[:, 0] + steps[-1]
    pointers = []
    for position in range(1, scores.shape[1]):
        reached, chosen = (best[:, :, None] + steps[:-1]).max(dim=1)
        inside = (position < lengths)[:, None]
        best = torch.where(inside, reached + scores[:, position], best)
        pointers.append(torch.where(inside, chosen, torch.arange(scores.shape[2], device=scores.device)))
    path = [best.argmax(dim=1)]
    for chosen in reversed(pointers):
        path.append(chosen.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1)


class ConditionalRandomField(nn.Module):
    """Scores of tags and of steps between them (Lafferty et al. 2001); what IOB2 does not allow cannot be."""

    allowed: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(len(labels) + 1, len(labels)))
        self.register_buffer("allowed", step_penalties(labels), persistent=False)

    def all_steps(self) -> Tensor:
        """The scores of steps, [tags + 1, tags]."""
        return self.steps + self.allowed

    def log_likelihood(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Of each sequence of tags [batch, words]: [batch], nats."""
        steps, words = self.all_steps(), scores.shape[1]
        inside = torch.arange(words, device=scores.device) < lengths[:, None]
        previous = torch.cat([tags.new_full((len(tags), 1), len(steps) - 1), tags[:, :-1]], dim=1)
        of_tags = scores.gather(2, tags[:, :, None])[:, :, 0] + steps[previous, tags]
        return (of_tags * inside).sum(dim=1) - self._forward(scores, steps, lengths)[-1].logsumexp(dim=1)

    def probabilities(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """How probable each tag of each word is, whatever the others are: [batch, words, tags]."""
        steps = self.all_steps()
        forward = torch.stack(self._forward(scores, steps, lengths), dim=1)
        backward = [torch.zeros_like(scores[:, 0])]
        for position in range(scores.shape[1] - 1, 0, -1):
            reached = (steps[:-1] + (scores[:, position] + backward[-1])[:, None, :]).logsumexp(dim=2)
            backward.append(torch.where((position < lengths)[:, None], reached, backward[-1]))
        return (forward + torch.stack(backward[::-1], dim=1)).softmax(dim=2)

    @staticmethod
    def _forward(scores: Tensor, steps: Tensor, lengths: Tensor) -> list[Tensor]:
        """The log of the sum over all beginnings that end in each tag, for each word; beyond a length, the last."""
        found = [scores[:, 0] + steps[-1]]
        for position in range(1, scores.shape[1]):
            reached = (found[-1][:, :, None] + steps[:-1]).logsumexp(dim=1) + scores[:, position]
            found.append(torch.where((position < lengths)[:, None], reached, found[-1]))
        return found
