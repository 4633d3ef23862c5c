"""Order the samples of a training, as a function of the manifest, the seed and the position alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import numpy as np
import torch

from flip.config.schema import Mix
from flip.data.batch_types import PAIRS
from flip.rng import uniform


def build_order(manifest: dict, mix: Mix | None, batch: int, seed: int, window: int) -> "Order | Mixture":
    """Order the samples of a manifest's shards: as pairs or, with a mix, in steps of `batch` samples of one type."""
    if mix:
        return Mixture(manifest["shards"], mix, batch, seed, window)
    return Order([shard["samples"] for shard in manifest["shards"]], seed, window)


class Order:
    """Define the training order: shards shuffled per epoch, samples shuffled among `window` neighbouring shards.

    Memory is that of one window's permutation, whatever the data's size. Where not all samples of a shard take part,
    `items(shard)` returns those that do, ascending, as many as `counts` has.
    """

    def __init__(
        self,
        counts: Sequence[int] | np.ndarray,
        seed: int,
        window: int,
        items: Callable[[int], np.ndarray] | None = None,
    ):
        self.counts = np.asarray(counts)
        self.items = items or (lambda shard: np.arange(self.counts[shard]))
        self.total = int(self.counts.sum())
        self.seed, self.window = seed, window
        self._epoch = lru_cache(maxsize=2)(self._epoch)  # type: ignore[method-assign]
        self._permutation = lru_cache(maxsize=2)(self._permutation)  # type: ignore[method-assign]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this epoch's order of shards, and where each window of them ends (in samples)."""
        shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
        ends = self.counts[shards].cumsum()
        return shards, ends[np.minimum(np.arange(self.window, len(shards) + self.window, self.window), len(ends)) - 1]

    def _permutation(self, epoch: int, window: int) -> np.ndarray:
        """Return (shard, item) of each sample of a window: int64 [samples, 2]."""
        shards = self._epoch(epoch)[0][window * self.window : (window + 1) * self.window]
        every = [self.items(shard) for shard in shards.tolist()]
        pairs = np.concatenate(
            [np.column_stack([np.full(len(one), s), one]) for s, one in zip(shards, every, strict=True)]
        )
        return np.random.default_rng([self.seed, epoch, window]).permutation(pairs)

    def locate(self, position: int) -> tuple[int, int]:
        """Return shard and item of the pair at a position of the training order."""
        epoch, offset = divmod(position, self.total)
        ends = self._epoch(epoch)[1]
        window = int(np.searchsorted(ends, offset, side="right"))
        start = int(ends[window - 1]) if window else 0
        shard, item = self._permutation(epoch, window)[offset - start]
        return int(shard), int(item)

    def batch_type(self, position: int) -> str:
        """Return the type of the batch at a position."""
        return PAIRS

    def from_item(self, position: int, shard: int, item: int) -> Iterator[int]:
        """Yield the items of a shard that may replace the one at a position, from `item` on, round to the one
        before."""
        yield item
        items = self.items(shard)
        yield from np.roll(items, -np.searchsorted(items, item))[1:].tolist()


def turn(step: int, shares: list[tuple[str, float]]) -> tuple[str, int]:
    """Return whose turn a step is, and how many turns that one had before.

    All take turns as evenly as their shares allow, the first one first.
    """
    (name, share), *others = shares
    if not others:
        return name, step
    rest = sum(one for _, one in others)
    before, after = (int(count * (rest / (share + rest))) for count in (step, step + 1))
    return (name, step - before) if after == before else turn(before, others)


class Mixture:
    """Define a training order of which some samples are pairs, some images alone and some captions alone, a step of one
    type at a time.

    Types alternate, each as often as its share of the samples, so that all samples are seen as often (FLAVA, Table A.2,
    draws the data set of each step by such shares). Of which type a sample is follows from its place among the shards
    alone, so that no seed, step or process lets the types overlap. `batch` positions of the training order are a step.

    Raises:
        ValueError: a type has fewer samples than a batch.
    """

    def __init__(self, shards: list[dict], mix: Mix, batch: int, seed: int, window: int):
        self.shares, self.batch = list(mix.shares.items()), batch
        self.shards = shards
        self._kinds = lru_cache(maxsize=2 * window)(self._kinds)  # type: ignore[method-assign]
        counts = np.stack([np.bincount(self._kinds(shard), minlength=len(self.shares)) for shard in range(len(shards))])
        for (name, share), total in zip(self.shares, counts.sum(axis=0), strict=True):
            if total < batch:
                raise ValueError(
                    f"flava.mix.{name} = {share:g} of {counts.sum()} pairs are {total}, fewer than a batch of {batch}; "
                    "give it a larger share, or lower train.batch"
                )
        self.orders = {
            name: Order(counts[:, row], seed, window, partial(self._items, row))
            for row, (name, _) in enumerate(self.shares)
        }

    def _kinds(self, shard: int) -> np.ndarray:
        """Draw the type of each item of a shard, as a row of `shares`: int64 [samples]."""
        name, samples = self.shards[shard]["name"], self.shards[shard]["samples"]
        draws = uniform(0, f"mix.{name}", torch.arange(samples), 1)[:, 0].numpy()
        ends = np.cumsum([share for _, share in self.shares])[:-1]
        return np.searchsorted(ends, draws, side="right")

    def _items(self, row: int, shard: int) -> np.ndarray:
        return np.flatnonzero(self._kinds(shard) == row)

    def batch_type(self, position: int) -> str:
        """Return the type of the batch at a position."""
        return turn(position // self.batch, self.shares)[0]

    def locate(self, position: int) -> tuple[int, int]:
        """Return shard and item of the sample at a position of the training order."""
        step, offset = divmod(position, self.batch)
        name, turns = turn(step, self.shares)
        return self.orders[name].locate(turns * self.batch + offset)

    def from_item(self, position: int, shard: int, item: int) -> Iterator[int]:
        """Yield as `Order.from_item`, items of the same type."""
        return self.orders[self.batch_type(position)].from_item(position, shard, item)
