"""Order the samples of a training, as a function of the manifest, the seed and the position alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
import torch

from flip.config.schema import Mix
from flip.data.batch_types import PAIRS
from flip.data.selection import Selection
from flip.rng import uniform

Shares = list[tuple[str, float]]
Weights = Mapping[str, float]  # how often samples of a source are seen, relative to those of others
Items = Callable[[int], np.ndarray]  # those of a shard that take part, ascending
NO_WEIGHTS: Weights = MappingProxyType({})


def build_order(
    manifest: dict, mix: Mix | None, batch: int, seed: int, window: int, weights: Weights = NO_WEIGHTS,
    selection: Selection | None = None,
) -> "AnyOrder":  # fmt: skip
    """Order the samples of a manifest's shards: as pairs, of which some may be chosen, or, with a mix, in steps of
    `batch` samples of one type."""
    shards = manifest["shards"]
    if mix:
        return Mixture(shards, mix, batch, seed, window, weights)
    if selection:
        return order_of(shards, seed, window, weights, selection.counts, selection.items)
    return order_of(shards, seed, window, weights, np.array([shard["samples"] for shard in shards]))


class Order:
    """Define the training order: shards shuffled per epoch, samples shuffled among `window` neighbouring shards.

    Memory is that of one window's permutation, whatever the data's size. Where not all samples of a shard take part,
    `items(shard)` returns those that do, as many as `counts` has; where not all shards do, `shards` has their numbers.
    """

    def __init__(
        self,
        counts: Sequence[int] | np.ndarray,
        seed: int,
        window: int,
        items: Items | None = None,
        shards: np.ndarray | None = None,
    ):
        self.counts = np.asarray(counts)
        self.shards: np.ndarray = np.arange(len(self.counts)) if shards is None else shards
        self.items = items or (lambda shard: np.arange(int(self.counts[shard])))
        self.total = int(self.counts[self.shards].sum())
        self.seed, self.window = seed, window
        self.breadth = window  # shards that are read from at a time
        self._epoch = lru_cache(maxsize=2)(self._epoch)  # type: ignore[method-assign]
        self._permutation = lru_cache(maxsize=2)(self._permutation)  # type: ignore[method-assign]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this epoch's order of shards, and where each window of them ends (in samples)."""
        shards = np.random.default_rng([self.seed, epoch]).permutation(self.shards)
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

    def window_at(self, position: int) -> tuple[int, int]:
        """Return epoch and window of a position."""
        epoch, offset = divmod(position, self.total)
        return epoch, int(np.searchsorted(self._epoch(epoch)[1], offset, side="right"))

    def coming(self, position: int) -> list[int]:
        """List all shards in the order in which they are needed next, beginning with those of a position's window."""
        epoch, window = self.window_at(position)
        rest = self._epoch(epoch)[0][window * self.window :]
        return list(dict.fromkeys(np.concatenate([rest, self._epoch(epoch + 1)[0]]).tolist()))

    def locate(self, position: int) -> tuple[int, int]:
        """Return shard and item of the pair at a position of the training order."""
        epoch, window = self.window_at(position)
        offset, ends = position - epoch * self.total, self._epoch(epoch)[1]
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


def turn(step: int, shares: Shares) -> tuple[str, int]:
    """Return whose turn a step is, and how many turns that one had before.

    All take turns as evenly as their shares allow, the first one first.
    """
    (name, share), *others = shares
    if not others:
        return name, step
    rest = sum(one for _, one in others)
    before, after = (int(count * (rest / (share + rest))) for count in (step, step + 1))
    return (name, step - before) if after == before else turn(before, others)


def turns(step: int, shares: Shares) -> dict[str, int]:
    """Return how many turns each had before a step (`turn`)."""
    (name, share), *others = shares
    if not others:
        return {name: step}
    rest = sum(one for _, one in others)
    theirs = int(step * (rest / (share + rest)))
    return {name: step - theirs} | turns(theirs, others)


class Interleaved:
    """Define a training order in which several orders take turns by their shares, `unit` positions at a time."""

    def __init__(self, orders: "dict[str, AnyOrder]", shares: Shares, unit: int):
        self.orders, self.shares, self.unit = orders, shares, unit
        self.breadth: int = sum(order.breadth for order in orders.values())

    def _turn(self, position: int) -> "tuple[AnyOrder, int]":
        """Return the order whose turn a position is, and the position in it."""
        step, offset = divmod(position, self.unit)
        name, before = turn(step, self.shares)
        return self.orders[name], before * self.unit + offset

    def _places(self, position: int) -> "list[tuple[AnyOrder, int]]":
        """Return all orders, with the positions in them that come next."""
        before = turns(position // self.unit, self.shares)
        return [(order, before[name] * self.unit) for name, order in self.orders.items()]

    def batch_type(self, position: int) -> str:
        """Return the type of the batch at a position."""
        return PAIRS

    def locate(self, position: int) -> tuple[int, int]:
        """Return shard and item of the sample at a position of the training order."""
        order, place = self._turn(position)
        return order.locate(place)

    def from_item(self, position: int, shard: int, item: int) -> Iterator[int]:
        """Yield as `Order.from_item`, items of the same order."""
        order, place = self._turn(position)
        return order.from_item(place, shard, item)

    def window_at(self, position: int) -> tuple:
        """Return the windows of all orders."""
        return tuple(order.window_at(place) for order, place in self._places(position))

    def coming(self, position: int) -> list[int]:
        """List all shards in the order in which they are needed next, about."""
        lists = [order.coming(place) for order, place in self._places(position)]
        return list(dict.fromkeys(one for some in zip_longest(*lists) for one in some if one is not None))


class Mixture(Interleaved):
    """Define a training order of which some samples are pairs, some images alone and some captions alone, a step of one
    type at a time.

    Types alternate, each as often as its share of the samples, so that all samples are seen as often (FLAVA, Table A.2,
    draws the data set of each step by such shares). Of which type a sample is follows from its place among the shards
    alone, so that no seed, step or process lets the types overlap. `batch` positions of the training order are a step.

    Raises:
        ValueError: a type has fewer samples than a batch.
    """

    def __init__(self, shards: list[dict], mix: Mix, batch: int, seed: int, window: int, weights: Weights = NO_WEIGHTS):
        shares, self.shards = list(mix.shares.items()), shards
        self._ends = np.cumsum([share for _, share in shares])[:-1]
        self._kinds = lru_cache(maxsize=2 * window)(self._kinds)  # type: ignore[method-assign]
        counts = np.stack([np.bincount(self._kinds(shard), minlength=len(shares)) for shard in range(len(shards))])
        for (name, share), total in zip(shares, counts.sum(axis=0), strict=True):
            if total < batch:
                raise ValueError(
                    f"flava.mix.{name} = {share:g} of {counts.sum()} pairs are {total}, fewer than a batch of {batch}; "
                    "give it a larger share, or lower train.batch"
                )
        orders = {
            name: order_of(shards, seed, window, weights, counts[:, row], partial(self._items, row))
            for row, (name, _) in enumerate(shares)
        }
        super().__init__(orders, shares, batch)

    def _kinds(self, shard: int) -> np.ndarray:
        """Draw the type of each item of a shard, as a row of `shares`: int64 [samples]."""
        name, samples = self.shards[shard]["name"], self.shards[shard]["samples"]
        draws = uniform(0, f"mix.{name}", torch.arange(samples), 1)[:, 0].numpy()
        return np.searchsorted(self._ends, draws, side="right")

    def _items(self, row: int, shard: int) -> np.ndarray:
        return np.flatnonzero(self._kinds(shard) == row)

    def batch_type(self, position: int) -> str:
        """Return the type of the batch at a position."""
        return turn(position // self.unit, self.shares)[0]


AnyOrder = Order | Interleaved


def order_of(
    shards: list[dict], seed: int, window: int, weights: Weights, counts: np.ndarray, items: Items | None = None
) -> AnyOrder:
    """Order the samples of shards, or those of them that `items` returns, as many as `counts` has: all together or,
    where sources have different weights, in turns, so that those of weight 2 are seen twice as often as those of 1."""
    sources = np.array([shard.get("source", "") for shard in shards])
    factors = {name: weights.get(name, 1.0) for name in dict.fromkeys(sources.tolist())}
    if len({*factors.values()}) < 2:
        return Order(counts, seed, window, items)
    of = {name: np.flatnonzero((sources == name) & (counts > 0)) for name in factors}
    shares = [(name, factor * int(counts[of[name]].sum())) for name, factor in factors.items()]
    shares = [(name, share) for name, share in shares if share]
    return Interleaved({name: Order(counts, seed, window, items, of[name]) for name, _ in shares}, shares, 1)
