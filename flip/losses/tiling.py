"""Cut the batch x batch matrix of logits of a contrastive loss into tiles, so that it is never held as one.

A tile is computed, used and forgotten; the gradients compute it once more where they need to. Memory is then that of
the features, and time that of the matrix products: a tile stays in the processor's cache while it is worked on.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

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
        """Return a function that returns x [...], what the previous process would send."""
        return lambda: x

    def logsumexp(self, x: Tensor) -> Tensor:
        """Return the log-sum-exp over processes of each of x [...]: x."""
        return x

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over processes of each of x [...]: x."""
        return x


SINGLE_PROCESS = SingleProcess()


def strips(pairs: int, side: int) -> list[slice]:
    """Return the rows, or columns, of the tiles of a pairs x pairs matrix; where both are equal, a tile has the
    diagonal."""
    return [slice(start, min(start + side, pairs)) for start in range(0, pairs, side)]


class Tile(NamedTuple):
    """Hold the rows and columns of a tile; `matched` are the rows and columns in it, if any, on whose diagonal the
    matched pairs lie."""

    rows: slice
    columns: slice
    matched: tuple[slice, slice] | None

    def diagonal(self, values: Tensor) -> Tensor:
        """Return a view of the values [rows, columns] of the matched pairs; empty where there are none."""
        rows, columns = self.matched or (slice(0), slice(0))
        return values[rows, columns].diagonal()


def tiles(own: int, group: BatchGroup, side: int) -> Iterator[Tile]:
    """Yield the tiles of this process's rows against the own * size columns of the global batch, of side * side numbers
    at most: where a process has few rows, a tile has the columns of many processes."""
    for rows in strips(own, side):
        count = rows.stop - rows.start
        first = group.rank * own + rows.start  # the column of the first row's match
        for columns in strips(own * group.size, max(side, side * side // count)):
            start, stop = max(columns.start, first), min(columns.stop, first + count)
            within = slice(start - first, stop - first), slice(start - columns.start, stop - columns.start)
            yield Tile(rows, columns, within if start < stop else None)


def pick_side(features: Tensor, side: int | None, size: int = 1) -> int | None:
    """Choose the side of the tiles for features [pairs, width] of one of `size` processes; None for small batches of
    one process: the full logits at once."""
    if side is None and len(features) < TILES_FROM and size == 1:
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
