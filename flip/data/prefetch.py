"""Work done ahead of when it is asked for."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def ahead(function, items, workers: int):
    """function(item) of each item, in their order, computed ahead by `workers` threads."""
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
