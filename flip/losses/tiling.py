"""Cut the batch x batch matrix of logits of a contrastive loss into tiles, so that it is never held as one.

A tile is computed, used and forgotten; the gradients compute it once more where they need to. Memory is then that of
the features, and time that of the matrix products: a tile stays in the processor's cache while it is worked on.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from flip.config.tiles import SIDE, TILES_FROM


class BatchGroup(Protocol):
    """Describe what a loss asks of the processes that share its batch (flip.train.process_group.ProcessGroup)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def device(self) -> str: ...
    def all_gather(self, rows: Tensor) -> Tensor: ...
    def shift(self, x: Tensor) -> Callable[[], Tensor]: ...
    def logsumexp(self, x: Tensor) -> Tensor: ...
    def sum(self, x: Tensor) -> Tensor: ...


class SingleProcess:
    """Stand in for a process group (flip.train.process_group.ProcessGroup) where a single process holds the global
    batch."""

    rank, size, device = 0, 1, "cpu"

    def all_gather(self, rows: Tensor) -> Tensor:
        """Return the rows [rows, ...] of all processes: these."""
        return rows

    def shift(self, x: Tensor) -> Callable[[], Tensor]:
        """Return a function that returns x, what the previous process would send."""
        return lambda: x

    def logsumexp(self, x: Tensor) -> Tensor:
        """Return the log-sum-exp over processes: x."""
        return x

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over processes: x."""
        return x


SINGLE_PROCESS = SingleProcess()


def strips(pairs: int, side: int) -> list[slice]:
    """Return the rows, or columns, of the tiles of a pairs x pairs matrix; where both are equal, a tile has the
    diagonal."""
    return [slice(start, min(start + side, pairs)) for start in range(0, pairs, side)]


def tiles(own: int, group: BatchGroup, side: int) -> Iterator[tuple[slice, slice, bool]]:
    """Yield (rows, columns, whether they hold the matched pairs) of the own * size columns against this process's
    rows."""
    for rows in strips(own, side):
        for rank in range(group.size):
            for columns in strips(own, side):
                shifted = slice(columns.start + rank * own, columns.stop + rank * own)
                yield rows, shifted, rank == group.rank and rows == columns


def pick_side(features: Tensor, side: int | None) -> int | None:
    """Choose the side of the tiles for features [pairs, width]; None for small batches: the full logits at once."""
    if side is None and len(features) < TILES_FROM:
        return None
    return side or SIDE["cpu" if features.device.type == "cpu" else "cuda"]


def add_products(row_sum: Tensor, column_sum: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add weight @ columns and weight.T @ rows, [rows or columns, width], to the sums, for a tile's weights [rows,
    columns]."""
    # With `out`, since FlopCounterMode (flip.train.step_cost) does not count `addmm_`.
    torch.addmm(row_sum, weight, columns, out=row_sum)
    torch.addmm(column_sum, weight.T, rows, out=column_sum)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Sum the products of the elements of two matrices of one shape, without a third matrix."""
    return torch.einsum("ij,ij->i", a, b).sum()
