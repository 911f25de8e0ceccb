"""Which items are nearest, without looking at all of them?"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plait.weights import load_tensors, save_tensors
from plait_recommendation.ids import UNKNOWN
from plait_recommendation.ranking.cases import EMPTY, no_user
from plait_recommendation.ranking.queries import Queries
from plait_recommendation.ranking.topk import Rankings, top_k

_ROUNDS = 10  # of k-means; at 20,000 vectors of width 32 ten more changed recall by less than 0.01


@dataclass(frozen=True, slots=True)
class InvertedLists:
    """Item vectors sorted into lists around centroids; a search looks at the lists whose centroids are nearest.

    It is approximate: an item in another list is missed. It knows no ids and no users.

    Args:
        centroids: [lists, width].
        starts: int64 [lists + 1]; list l is items[starts[l]:starts[l + 1]].
        items: codes, ascending within a list, int64 [items].
        vectors: in the order of `items`, [items, width]: a search reads a few stretches of memory.
    """

    centroids: Tensor
    starts: Tensor
    items: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, vectors: Tensor, *, lists: int, seed: int) -> InvertedLists:
        """Lists by k-means (Lloyd) on vectors [items, width], the same for the same seed.

        Args:
            lists: how many, at most as many as there are vectors; the square root of these is a good number.
        """
        lists = min(lists, len(vectors))
        chosen = np.random.PCG64(seed).random_raw(len(vectors)).argsort(kind="stable")[:lists]
        centroids = vectors[torch.from_numpy(np.sort(chosen))].clone()
        for _ in range(_ROUNDS):
            nearest = _nearest(vectors, centroids)
            sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
            counts = torch.bincount(nearest, minlength=lists)
            centroids = torch.where((counts > 0)[:, None], sums / counts.clamp(min=1)[:, None], centroids)
        nearest = _nearest(vectors, centroids)
        counts = torch.bincount(nearest, minlength=lists)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        items = torch.sort(nearest, stable=True).indices
        return cls(centroids, starts, items, vectors[items])

    def search(self, wanted: Tensor, queries: Queries, *, k: int, probes: int) -> Rankings:
        """The nearest items by product of those in the `probes` nearest lists, without the barred ones.

        Args:
            wanted: a vector each, [queries, width].
            queries: what must not be given; a query that allows only some items is not served here.
            k: how many, where a query does not say.
        """
        deepest = max([k, *queries.counts.values()])
        items = np.full((len(wanted), deepest), UNKNOWN, np.int32)
        scores = np.full((len(wanted), deepest), -np.inf, np.float32)
        near = torch.topk(wanted @ self.centroids.T, min(probes, len(self.centroids)), dim=1).indices
        starts = self.starts.tolist()
        for row, lists in enumerate(near.tolist()):
            stretches = [slice(starts[each], starts[each + 1]) for each in lists]
            products = torch.cat([self.vectors[each] @ wanted[row] for each in stretches]).float()
            among = torch.cat([self.items[each] for each in stretches])
            if queries.barred is not None and len(queries.barred[row]):
                kept = ~torch.isin(among, torch.from_numpy(queries.barred[row].astype(np.int64)))
                products, among = products[kept], among[kept]
            best, found = _best(products, among, queries.counts.get(row, k))
            items[row, : len(found)], scores[row, : len(found)] = found.numpy(), best.numpy()
        return Rankings(items, scores, queries.notes)

    def recall(self, wanted: Tensor, *, k: int, probes: int) -> float:
        """The part of the k exactly nearest items that a search finds, mean over queries."""
        queries = Queries.of([no_user(EMPTY)] * len(wanted))
        exact, found = (self.search(wanted, queries, k=k, probes=each).items for each in (len(self.centroids), probes))
        return float(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        save_tensors({each.name: getattr(self, each.name) for each in fields(self)}, file)

    @classmethod
    def load(cls, file: Path) -> InvertedLists:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the file is not readable.
        """
        # cloned: a file's tensors lie at any address, and products of unaligned rows are rounded in another order
        return cls(**{name: tensor.clone() for name, tensor in load_tensors(file).items()})


def _best(scores: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores and their items, equals in ascending order of items."""
    if len(scores) > k:
        kept = scores >= torch.topk(scores, k).values[-1]  # all that tie with the last: sorting ids is for few
        scores, items = scores[kept], items[kept]
    items, order = items.sort()
    best, places = top_k(scores[order][None], k)
    return best[0], items[places[0]]


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each vector, [items], in blocks of 8,192."""
    half = centroids.square().sum(dim=1) / 2
    return torch.cat([(part @ centroids.T - half).argmax(dim=1) for part in torch.split(vectors, 8192)])
