"""From tar shards to batches: an exact, endless order, memory-mapped reading, and pixels that stay bytes.

Which pair stands at which position of the training order (flip.data.order) follows from the manifest, the seed and the
position alone. So a run resumes at any position at no cost, and any number of processes reads the same global batches.
"""

import math
import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch

from flip.data.index import BLOCK, check_size, read_index
from flip.data.noise import Corruption
from flip.data.order import Mixture, Order
from flip.data.views import DRAWS, recolour
from flip.kinds import IMAGES, PAIRS, TEXTS
from flip.model.masking import uniform
from flip.schema import Augmentation, Mix, Views


class Shard:
    """One tar file, memory-mapped."""

    def __init__(self, path):
        self.index = read_index(path)
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, item: int) -> tuple[bytes, str]:
        """JPEG bytes and caption."""
        jpeg, jpeg_size, *_ = self.index[item]
        return self.bytes[jpeg : jpeg + jpeg_size], self.caption(item)

    def caption(self, item: int) -> str:
        _, _, text, text_size = self.index[item]
        return self.bytes[text : text + text_size].decode()

    def key(self, item: int) -> str:
        """The sample's name, from the header before its picture."""
        header = int(self.index[item][0]) - BLOCK
        return self.bytes[header : header + 100].split(b"\0")[0].decode().removesuffix(".jpg")


def crop_box(height: int, width: int, augmentation: Augmentation, draws: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop: area and aspect drawn as in Inception's (and torchvision's).

    `draws` holds uniform numbers [tries, 4]; if no try fits inside the picture, the largest centred crop of an
    allowed aspect is taken. Where all of the area is asked for, it is the whole picture.
    """
    low, high = augmentation.crop_area
    if low == 1:
        return 0, 0, height, width
    shortest, longest = map(math.log, augmentation.crop_aspect)
    for area, aspect, y, x in draws.tolist():  # numbers of Python's own are several times faster one by one
        area = height * width * (low + (high - low) * area)
        aspect = math.exp(shortest + (longest - shortest) * aspect)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    aspect = min(max(width / height, augmentation.crop_aspect[0]), augmentation.crop_aspect[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """[height, width, 3] -> [side, side, 3]; pixel areas are averaged when shrinking, so that nothing aliases."""
    shrinks = image.shape[0] > side and image.shape[1] > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def squares(jpeg: bytes, boxes_of, side: int) -> list[np.ndarray] | None:
    """Parts of a picture, uint8 [side, side, 3] each; None where the bytes are no picture.

    `boxes_of(height, width)` gives their boxes. The picture is decoded at a half, a quarter or an eighth of its size
    where all boxes still have `side` pixels each way: libjpeg then does less, and averages the pixels as it goes.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
        boxes = boxes_of(height, width)
        enough = min(min(box[2:]) for box in boxes) // side
        part = min(1 << max(enough.bit_length() - 1, 0), 8)
        least = -(-height // part), -(-width // part)
        image = simplejpeg.decode_jpeg(jpeg, "RGB", True, True, *least)
    except ValueError:
        return None
    boxes = ([round(edge / part) for edge in box] for box in boxes)
    return [resize(image[top : top + rows, left : left + columns], side) for top, left, rows, columns in boxes]


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


class Loader:
    """Batches of training pairs: images uint8 [batch, side, side, 3], ids int64 [batch, slots], positions int64
    [batch]; and where `views` says how to make them, two views of each picture, uint8 [batch, 2, side, side, 3].

    A shard that is missing or cut short is a ValueError here, before the first batch. `broken` counts pictures that
    could not be decoded; each is replaced by the next pair of its shard. `noise` (flip.data.noise) corrupts pairs.
    With a share of `mismatched` pairs there are also other_ids [batch, slots], in which these have a neighbour's
    caption, and mismatched, bool [batch]. `translations(number, item)` gives captions in place of the shards' own.

    With a `mix`, each step of `step` positions has one kind (flip.data.order): a batch of pictures alone has no ids,
    and one of captions alone no images.
    """

    TRIES = 10
    CROP = 1 + 4 * TRIES  # random numbers per crop: to flip or not, then the tries

    def __init__(
        self,
        manifest: dict,
        folder,
        tokenizer,
        side: int,
        augmentation: Augmentation,
        seed: int,
        window: int,
        noise: Corruption | None = None,
        views: Views | None = None,
        mismatched: float = 0.0,
        translations: Callable[[int, int], str] | None = None,
        mix: Mix | None = None,
        step: int = 1,
    ):
        self.paths = [Path(folder) / shard["name"] for shard in manifest["shards"]]
        for path, shard in zip(self.paths, manifest["shards"], strict=True):
            check_size(path, shard["bytes"])
        counts = [shard["samples"] for shard in manifest["shards"]]
        self.order = Mixture(manifest["shards"], mix, step, seed, window) if mix else Order(counts, seed, window)
        self.tokenizer, self.side, self.augmentation, self.seed = tokenizer, side, augmentation, seed
        self.noise, self.views, self.mismatched = noise, views, mismatched
        self.text = translations or (lambda number, item: self.shard(number).caption(item))
        self.broken = 0
        # A batch may straddle two windows; more open files than that are never of use.
        self.shard = lru_cache(maxsize=2 * window)(lambda number: Shard(self.paths[number]))

    def _picture(self, number: int, item: int, draws: list[np.ndarray]) -> list[np.ndarray] | None:
        """What is learned from of a shard's item, cropped by each of the `draws`: the picture, then its views; None
        where that cannot be read."""
        ways = list(zip((self.augmentation, self.views, self.views), draws, strict=False))

        def boxes(height: int, width: int) -> list[tuple]:
            return [crop_box(height, width, way, one[1 : self.CROP].reshape(-1, 4)) for way, one in ways]

        crops = squares(self.shard(number)[item][0], boxes, self.side)
        if crops is None:
            return None
        return [
            crop[:, ::-1] if way.flip and one[0] < 0.5 else crop for crop, (way, one) in zip(crops, ways, strict=True)
        ]

    def _pair(self, position: int, *draws):
        """What `_picture` gives for the pair at a position, and its caption."""
        number, item = self.order.at(position)
        for place in self.order.from_item(position, number, item):
            picture = self._picture(number, place, *draws)
            if picture is not None:
                return picture, self.text(number, place)
            self.broken += 1
        raise ValueError(f"{self.paths[number]}: no picture can be decoded; run the shards stage again")

    def _caption(self, position: int) -> str:
        return self.text(*self.order.at(position))

    def _inputs(self, positions: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[str]]:
        """What of the pairs' pictures goes into the model, and their captions."""
        size, texts = len(positions), []
        draws = list(uniform(self.seed, "augmentation", positions, self.CROP).numpy())
        found, of_views = {"images": np.empty((size, self.side, self.side, 3), dtype=np.uint8)}, [()] * size
        if self.views:
            found["views"] = np.empty((size, 2, self.side, self.side, 3), dtype=np.uint8)
            of_views = uniform(self.seed, "views", positions, 2 * (self.CROP + DRAWS)).numpy().reshape(size, 2, -1)
        for row, position in enumerate(positions.tolist()):
            (image, *views), text = self._pair(position, [draws[row], *of_views[row]])
            found["images"][row] = image
            for number, view in enumerate(views):
                found["views"][row, number] = recolour(view, self.views, of_views[row][number, self.CROP :])
            texts.append(text)
        return {name: torch.from_numpy(array) for name, array in found.items()}, texts

    def batch(self, start: int, size: int) -> dict[str, torch.Tensor]:
        """The samples at positions start .. start + size - 1, which are of one kind."""
        positions, kind = torch.arange(start, start + size), self.order.kind(start)
        if kind == TEXTS:
            inputs, texts = {}, [self._caption(position) for position in positions.tolist()]
        else:
            inputs, texts = self._inputs(positions)
        batch = inputs | {"positions": positions}
        if kind != IMAGES:
            batch["ids"] = torch.from_numpy(self.tokenizer(self._exchanged(texts, start)))
        if self.noise:
            self.noise.corrupt(batch)
        return batch | self._mismatch(batch) if self.mismatched and kind == PAIRS else batch

    def _exchanged(self, texts: list[str], start: int) -> list[str]:
        """The captions from position `start` on, some of which noise has put in others' places."""
        if not self.noise:
            return texts
        sources = enumerate(self.noise.sources(start, len(texts)), start)
        return [texts[at - start] if source == at else self._caption(source) for at, source in sources]

    def _mismatch(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Captions of which some are those of the pair beside theirs in the training order; equal ones still match."""
        ids, positions = batch["ids"].clone(), batch["positions"]
        chosen = uniform(self.seed, "mismatched", positions, 1)[:, 0] < self.mismatched
        for row in chosen.nonzero()[:, 0].tolist():
            ids[row] = torch.from_numpy(self.tokenizer([self._caption(int(positions[row]) ^ 1)]))[0]
        return {"other_ids": ids, "mismatched": (ids != batch["ids"]).any(dim=1)}

    def keys(self, start: int, size: int) -> list[str]:
        """Shard and key of the pairs at positions start .. start + size - 1, for messages."""
        places = [self.order.at(position) for position in range(start, start + size)]
        return [f"{self.paths[number]}: {self.shard(number).key(item)}" for number, item in places]

    def batches(self, start: int, size: int, workers: int, stride: int):
        """Endless batches, each `stride` positions after the last, from `start` on, prepared ahead by `workers`
        threads."""
        return ahead(lambda first: self.batch(first, size), count(start, stride), workers)
