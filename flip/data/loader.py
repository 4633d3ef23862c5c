"""Read batches from tar shards: a deterministic, endless order, memory-mapped reading, and pixels that stay bytes.

Which pair stands at which position of the training order (flip.data.sampler) follows from the manifest, the seed and
the position alone. So a run resumes at any position at no cost, and any number of processes reads the same batches.
"""

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from flip.config.schema import Augmentation
from flip.data.batch_types import IMAGES, TEXTS
from flip.data.crops import Box, crop_box, decode_crops, mirror
from flip.data.fetch_ahead import FetchAhead
from flip.data.prefetch import prefetch
from flip.data.sampler import AnyOrder
from flip.data.shard import check_shard, open_shard, remote_file
from flip.data.tar_cache import TarCache, not_fetched
from flip.data.token_cache import Tokens, words
from flip.data.views import DRAWS, ViewSet, recolour
from flip.formats.remote import RemoteFile
from flip.rng import uniform

Place = tuple[int, int]  # number of a shard, number of a sample in it
Batch = dict[str, Tensor]
TRIES = 10
CROP = 1 + 4 * TRIES  # random numbers per crop: to flip or not, then the tries


class ShardReader:
    """Open the shards of a manifest when they are first read, and keep those of two windows of the order open. Tars
    that lie elsewhere are fetched into `cache`, before they are read if `expect` has said so.

    Raises:
        ValueError: a shard is missing or cut short, before the first is opened; or the cache is too small.
    """

    def __init__(self, manifest: dict, folder: str | Path, window: int, cache: TarCache | None = None):
        entries = manifest["shards"]
        self.paths = [entry.get("tar") or Path(folder) / entry["name"] for entry in entries]
        for entry in entries:
            check_shard(folder, entry)
        # A batch may straddle two windows; more open files than that are never of use.
        self.most = 2 * window
        self.ahead = self._fetching(cache, [remote_file(entry) for entry in entries], window)
        hold = self.ahead.hold if self.ahead else not_fetched
        self.open = lru_cache(maxsize=self.most)(lambda number: open_shard(folder, entries[number], hold))

    def _fetching(self, cache: TarCache | None, files: list[RemoteFile | None], window: int) -> FetchAhead | None:
        if cache is None or not any(files):
            return None
        # Processes may be a window apart.
        needed = sum(sorted(file.size for file in files if file)[-3 * window :])
        if needed > cache.room:
            raise ValueError(
                f"source.cache.gigabytes = {cache.room / 1e9:g}: three windows of train.shuffle_shards tars are up to "
                f"{needed / 1e9:.3g}; raise it, or lower train.shuffle_shards"
            )
        ahead = FetchAhead(cache, files, self.most)
        finalize(self, ahead.end)
        return ahead

    def expect(self, order: AnyOrder, position: int) -> None:
        """Fetch what the order needs from a position on, where it lies elsewhere."""
        if self.ahead:
            self.ahead.plan(order.window_at(position), lambda: order.coming(position))

    def encoded(self, place: Place) -> memoryview:
        """Return the encoded image at a place."""
        return self.open(place[0]).encoded(place[1])

    def name(self, place: Place) -> str:
        """Return shard and key of a place, for messages."""
        return f"{self.paths[place[0]]}: {self.open(place[0]).key(place[1])}"


class ImageReader:
    """Read the images at positions of the training order: uint8 [batch, side, side, 3].

    With `views`, there are augmented views of each image, too, with a side of their own, from position `views_from` of
    the order on: uint8 [batch, number, side, side, 3]; with `second`, another crop of it: uint8 [batch, side, side, 3].
    `broken` counts images that could not be decoded; each is replaced by the next pair of its shard. `pinned` memory
    lets a GPU copy images asynchronously.
    """

    def __init__(
        self,
        shards: ShardReader,
        order: AnyOrder,
        side: int,
        augmentation: Augmentation,
        seed: int,
        views: ViewSet | None = None,
        pinned: bool = False,
        second: bool = False,
    ):
        self.shards, self.order, self.side, self.augmentation = shards, order, side, augmentation
        self.seed, self.views, self.pinned, self.second = seed, views, pinned, second
        self.broken = self.views_from = 0

    def expect(self, position: int) -> None:
        """Prepare to read from a position on."""
        self.shards.expect(self.order, position)

    def __call__(self, positions: Tensor) -> tuple[Batch, list[Place]]:
        """Return the model's inputs by name, and the places of the pairs that they are of; `positions` is int64
        [batch]."""
        images = self._room(self.side, len(positions))
        draws = uniform(self.seed, "augmentation", positions, CROP).numpy()
        if self.views and positions[0] >= self.views_from:
            return self._with_views(self.views, positions, images, draws)
        if self.second:
            return self._with_second(positions, images, draws)
        rows = zip(positions.tolist(), images.numpy(), draws, strict=True)
        return {"images": images}, [self._pair(position, [image], [one]) for position, image, one in rows]

    def _room(self, side: int, *images: int) -> Tensor:
        """Allocate uint8 [*images, side, side, 3]."""
        return torch.empty(*images, side, side, 3, dtype=torch.uint8, pin_memory=self.pinned)

    def _with_second(self, positions: Tensor, images: Tensor, draws: np.ndarray) -> tuple[Batch, list[Place]]:
        """Read as `__call__`, with another crop of each image."""
        second = self._room(self.side, len(images))
        others = uniform(self.seed, "second view", positions, CROP).numpy()
        rows = zip(positions.tolist(), images.numpy(), second.numpy(), draws, others, strict=True)
        places = [self._pair(position, [image, other], [one, its]) for position, image, other, one, its in rows]
        return {"images": images, "second": second}, places

    def _with_views(
        self, wanted: ViewSet, positions: Tensor, images: Tensor, draws: np.ndarray
    ) -> tuple[Batch, list[Place]]:
        """Read as `__call__`, with views of each image."""
        how, number, side = wanted
        views, places = self._room(side, len(images), number), []
        of_views = uniform(self.seed, "views", positions, number * (CROP + DRAWS)).numpy()
        of_views = of_views.reshape(len(views), number, -1)
        rows = positions.tolist(), images.numpy(), draws, views.numpy(), of_views
        for position, image, one, every, theirs in zip(*rows, strict=True):
            places.append(self._pair(position, [image, *every], [one, *theirs]))
            for view, numbers in zip(every, theirs[:, CROP:], strict=True):
                view[:] = recolour(view, how, numbers)
        return {"images": images, "views": views}, places

    def _pair(self, position: int, *where: list) -> Place:
        """Find the pair at a position whose image can be read, and put the image where `where` says."""
        number, item = self.order.locate(position)
        for one in self.order.from_item(position, number, item):
            if self._read((number, one), *where):
                return number, one
            self.broken += 1
        raise ValueError(f"{self.shards.paths[number]}: no image can be decoded; run the shards stage again")

    def _read(self, place: Place, *where: list) -> bool:
        """Decode the crops of a place into `out`: the image, then its views, each cropped by its `draws`; return False
        where it cannot be decoded."""
        out, draws = where
        further = self.views.how if self.views else self.augmentation
        ways = list(zip([self.augmentation, *[further] * (len(out) - 1)], draws, strict=True))

        def boxes(height: int, width: int) -> list[Box]:
            return [crop_box(height, width, way, one[1:CROP].reshape(-1, 4)) for way, one in ways]

        if not decode_crops(self.shards.encoded(place), boxes, out):
            return False
        for square, (way, one) in zip(out, ways, strict=True):
            if way.flip and one[0] < 0.5:
                mirror(square)
        return True


class CaptionReader:
    """Read captions as token ids, int64 [batch, slots], padded with PAD.

    `sources` (flip.data.corruption) maps a batch to the positions whose captions it gets; by default its own. Where a
    sample has several captions, `seed` and position draw one, so that each epoch may have another: a synthetic one with
    the probability `synthetic`, if that is given.
    """

    def __init__(
        self,
        tokens: Tokens,
        order: AnyOrder,
        most: int,
        sources: Callable[[int, int], Sequence[int]] | None = None,
        seed: int = 0,
        synthetic: float | None = None,
    ):
        self.tokens, self.order, self.sources, self.seed, self.synthetic = tokens, order, sources, seed, synthetic
        # As many shards' as are open.
        self.words = lru_cache(maxsize=most)(lambda number: (tokens(number), tokens.several(number)))

    def __call__(self, start: int, places: list[Place]) -> Tensor:
        """Return the captions of a batch that begins at a position, whose images are those of `places`."""
        return self._ids(self._exchanged(start, places), range(start, start + len(places)))

    def read_at(self, positions: list[int]) -> Tensor:
        """Return the ids of the captions at positions of the training order: int64 [captions, tokens]."""
        return self._ids([self.order.locate(position) for position in positions], positions)

    def drawn(self, places: list[Place], positions: Sequence[int]) -> list[int]:
        """Return which of its shard's captions each sample has at a position."""
        several = [self.words(number)[1] for number, _ in places]
        items = [item for _, item in places]
        if all(one is None for one in several):
            return items
        draws = uniform(self.seed, "caption", torch.tensor(positions), 1)[:, 0].tolist()
        found = zip(several, items, draws, strict=True)
        return [item if one is None else one.drawn(item, draw, self.synthetic) for one, item, draw in found]

    def _ids(self, places: list[Place], positions: Sequence[int]) -> Tensor:
        items = self.drawn(places, positions)
        texts = [words(self.words(number)[0], item) for (number, _), item in zip(places, items, strict=True)]
        return torch.from_numpy(self.tokens.tokenizer.arranged(texts))

    def _exchanged(self, start: int, places: list[Place]) -> list[Place]:
        """Find where the captions come from, some of which noise has put in others' places."""
        if not self.sources:
            return places
        sources = enumerate(self.sources(start, len(places)), start)
        return [places[own - start] if source == own else self.order.locate(source) for own, source in sources]


class Loader:
    """Build batches of images, captions (None: there are none to read) and positions, int64 [batch], and apply
    `transforms`. With `embeddings`, there are a teacher's of the pairs, too.

    `order` says which sample is at a position, and of which type a step is: a batch of images alone has no ids, and one
    of captions alone no images.
    """

    def __init__(
        self,
        order: AnyOrder,
        images: ImageReader,
        captions: CaptionReader | None,
        transforms: Sequence[Callable[[Batch], Batch]] = (),
        embeddings: Callable[[list[Place], list[int]], Batch] | None = None,
    ):
        self.embeddings = embeddings
        self.order, self.images, self.captions, self.transforms = order, images, captions, transforms

    def batch(self, start: int, size: int) -> Batch:
        """Return the samples at positions start .. start + size - 1, which are of one type."""
        positions, batch_type = torch.arange(start, start + size), self.order.batch_type(start)
        batch: Batch
        if batch_type == TEXTS:
            batch, places = {}, [self.order.locate(position) for position in positions.tolist()]
        else:
            self.images.expect(start)
            batch, places = self.images(positions)
        batch = batch | {"positions": positions}
        if self.captions and batch_type != IMAGES:
            batch["ids"] = self.captions(start, places)
            if self.embeddings:
                batch |= self.embeddings(places, self.captions.drawn(places, range(start, start + size)))
        for transform in self.transforms:
            batch = transform(batch)
        return batch

    def keys(self, start: int, size: int) -> list[str]:
        """Return shard and key of the pairs at positions start .. start + size - 1, for messages."""
        return [self.images.shards.name(self.order.locate(position)) for position in range(start, start + size)]

    def batches(self, start: int, size: int, workers: int, stride: int) -> Generator[Batch, None, None]:
        """Yield batches without end, each `stride` positions after the last, from `start` on, prefetched by `workers`
        threads."""
        return prefetch(lambda first: self.batch(first, size), count(start, stride), workers)
