"""Which matrices do closed forms compute from interactions, and do they fit?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from plait.errors import DataError
from plait_recommendation.interactions import Lists


def binary(lists: Lists, columns: int) -> sparse.csr_matrix:
    """Who has which item: float32 [rows, columns] of ones, whatever is repeated."""
    ones = np.ones(len(lists.items), np.float32)
    # copied: sum_duplicates sorts in place, and the lists themselves keep their order
    matrix = sparse.csr_matrix((ones, lists.items, lists.indptr), shape=(len(lists), columns), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def gram(matrix: sparse.csr_matrix) -> Tensor:
    """How many rows have both columns: float32 [columns, columns], exact below 2**24 rows."""
    rows, columns = matrix.shape
    if matrix.nnz > 0.02 * rows * columns:  # a dense product does 50 times the additions of a sparse one a second
        found = torch.zeros(columns, columns)
        for first in range(0, rows, 4096):
            dense = torch.from_numpy(matrix[first : first + 4096].toarray())
            found.addmm_(dense.T, dense)
        return found
    return torch.from_numpy(np.ascontiguousarray((matrix.T @ matrix).toarray(), np.float32))


def require_memory(needed: int, *, what: str, hint: str) -> None:
    """Refuse what this machine has no memory for.

    Args:
        needed: bytes.

    Raises:
        DataError: says how much is needed and how much there is.
    """
    there = available_memory()
    if there is not None and needed > there:
        raise DataError(
            f"{what} needs {needed / 2**30:,.1f} GiB of memory; {there / 2**30:,.1f} GiB are free", hint=hint
        )


def available_memory() -> int | None:
    """Bytes that can be had without swapping, also within a container's limit; None where the system does not say."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        cache = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").split("inactive_file ")[1].split()[0]
        found += [] if limit == "max" else [int(limit) - used + int(cache)]
    except (OSError, ValueError, IndexError):
        pass
    return min(found, default=None)


def bag(weights: Tensor, lists: Lists) -> Tensor:
    """The sum of the rows of `weights` that each list names, float32 [lists, columns]; a repeated item counts once.

    Args:
        weights: [items, columns].
    """
    matrix = binary(lists, len(weights))
    if matrix.nnz > len(lists) * len(weights) / 24:  # from here on a product with zeros in it is faster
        return torch.from_numpy(matrix.toarray()) @ weights
    indices, offsets = (
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.indptr.astype(np.int64)),
    )
    return torch.nn.functional.embedding_bag(indices, weights, offsets[:-1], mode="sum")
