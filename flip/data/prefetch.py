"""Compute items in the background before they are asked for."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def prefetch(function, items, workers: int):
    """Yield function(item) of each item, in their order, prefetched by `workers` threads; with 0, computed on
    demand."""
    if not workers:
        yield from map(function, items)
        return
    items, pending = iter(items), deque()
    with ThreadPoolExecutor(workers) as pool:
        pending.extend(pool.submit(function, item) for item in islice(items, workers + 1))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
