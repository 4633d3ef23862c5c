"""From tar shards to batches: an exact, endless order, memory-mapped reading, and pixels that stay bytes.

Which pair stands at which position of the training order (flip.data.sampler) follows from the manifest, the seed and
the
position alone. So a run resumes at any position at no cost, and any number of processes reads the same global batches.
"""

from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
import torch

from flip.config.schema import Augmentation, Mix, Views
from flip.data.batch_types import IMAGES, PAIRS, TEXTS
from flip.data.corruption import Corruption
from flip.data.crops import crop_box, mirror, squares
from flip.data.prefetch import ahead
from flip.data.sampler import Mixture, Order
from flip.data.shard import Shard, check_size
from flip.data.token_cache import Tokens, words
from flip.data.views import DRAWS, recolour
from flip.model.masking import uniform


def neighbour(position: int, step: int) -> int:
    """Gives the other one of the two positions that stand together in a global batch of `step` positions; of an odd
    number the last has the one before it, and a single one itself."""
    start = position - position % step
    other = start + (position - start ^ 1)
    return other if other < start + step else max(position - 1, start)


class Loader:
    """Batches of training pairs: images uint8 [batch, side, side, 3], ids int64 [batch, slots], positions int64
    [batch]; and where `views` says how to make them, two views of each picture, uint8 [batch, 2, side, side, 3].

    A shard that is missing or cut short is a ValueError here, before the first batch. `broken` counts pictures that
    could not be decoded; each is replaced by the next pair of its shard. `noise` (flip.data.corruption) corrupts pairs.
    With a share of `mismatched` pairs there are also other_ids [batch, slots], in which these have the caption of a
    neighbour in their global batch, of `step` positions, and mismatched, bool [batch]. Without `tokens`
    (flip.data.token_cache) captions are not read. `pinned` memory is what a GPU fetches pictures from without the
    processor.

    With a `mix`, each step of `step` positions has one kind (flip.data.sampler): a batch of pictures alone has no ids,
    and one of captions alone no images.
    """

    TRIES = 10
    CROP = 1 + 4 * TRIES  # random numbers per crop: to flip or not, then the tries

    def __init__(
        self,
        manifest: dict,
        folder,
        tokens: Tokens | None,
        side: int,
        augmentation: Augmentation,
        seed: int,
        window: int,
        noise: Corruption | None = None,
        views: Views | None = None,
        mismatched: float = 0.0,
        mix: Mix | None = None,
        step: int = 1,
        pinned: bool = False,
    ):
        self.paths = [Path(folder) / shard["name"] for shard in manifest["shards"]]
        for path, shard in zip(self.paths, manifest["shards"], strict=True):
            check_size(path, shard["bytes"])
        counts = [shard["samples"] for shard in manifest["shards"]]
        self.order = Mixture(manifest["shards"], mix, step, seed, window) if mix else Order(counts, seed, window)
        self.tokens, self.side, self.augmentation, self.seed = tokens, side, augmentation, seed
        self.noise, self.views, self.pinned = noise, views, pinned
        self.mismatched, self.step = mismatched, step
        self.broken = 0
        # A batch may straddle two windows; more open files than that are never of use.
        self.shard = lru_cache(maxsize=2 * window)(lambda number: Shard(self.paths[number]))
        self.words = tokens and lru_cache(maxsize=2 * window)(tokens)

    def _picture(self, number: int, item: int, out: list[np.ndarray], draws: list[np.ndarray]) -> bool:
        """Puts what is learned from of a shard's item into `out`, each part cropped by its `draws`: the picture, then
        its views; False where that cannot be read."""
        ways = list(zip((self.augmentation, self.views, self.views), draws, strict=False))

        def boxes(height: int, width: int) -> list[tuple]:
            return [crop_box(height, width, way, one[1 : self.CROP].reshape(-1, 4)) for way, one in ways]

        if not squares(self.shard(number).jpeg(item), boxes, out):
            return False
        for square, (way, one) in zip(out, ways, strict=True):
            if way.flip and one[0] < 0.5:
                mirror(square)
        return True

    def _pair(self, position: int, *where) -> tuple[int, int]:
        """Shard and item of the pair at a position, of which `_picture` has put what is learned from where it goes."""
        number, item = self.order.at(position)
        for place in self.order.from_item(position, number, item):
            if self._picture(number, place, *where):
                return number, place
            self.broken += 1
        raise ValueError(f"{self.paths[number]}: no picture can be decoded; run the shards stage again")

    def _inputs(self, positions: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[tuple[int, int]]]:
        """What of the pairs' pictures goes into the model, and the pairs' shards and items."""
        images = self._room(len(positions))
        draws = uniform(self.seed, "augmentation", positions, self.CROP).numpy()
        if self.views:
            return self._with_views(positions, images, draws)
        rows = zip(positions.tolist(), images.numpy(), draws, strict=True)
        return {"images": images}, [self._pair(at, [image], [one]) for at, image, one in rows]

    def _room(self, *pictures: int) -> torch.Tensor:
        """For so many, uint8 [*pictures, side, side, 3]."""
        return torch.empty(*pictures, self.side, self.side, 3, dtype=torch.uint8, pin_memory=self.pinned)

    def _with_views(self, positions: torch.Tensor, images: torch.Tensor, draws: np.ndarray):
        """As `_inputs`, with two views of each picture."""
        views, places = self._room(len(images), 2), []
        of_views = uniform(self.seed, "views", positions, 2 * (self.CROP + DRAWS)).numpy().reshape(len(views), 2, -1)
        rows = positions.tolist(), images.numpy(), draws, views.numpy(), of_views
        for at, image, one, both, theirs in zip(*rows, strict=True):
            places.append(self._pair(at, [image, *both], [one, *theirs]))
            for view, numbers in zip(both, theirs[:, self.CROP :], strict=True):
                view[:] = recolour(view, self.views, numbers)
        return {"images": images, "views": views}, places

    def batch(self, start: int, size: int) -> dict[str, torch.Tensor]:
        """The samples at positions start .. start + size - 1, which are of one kind."""
        positions, kind = torch.arange(start, start + size), self.order.kind(start)
        if kind == TEXTS:
            inputs, places = {}, [self.order.at(position) for position in positions.tolist()]
        else:
            inputs, places = self._inputs(positions)
        batch = inputs | {"positions": positions}
        if self.tokens and kind != IMAGES:
            batch["ids"] = self._ids(self._exchanged(places, start))
        if self.noise:
            self.noise.corrupt(batch)
        return batch | self._mismatch(batch) if self.mismatched and kind == PAIRS else batch

    def _ids(self, places: list[tuple[int, int]]) -> torch.Tensor:
        """Captions of these shards and items: int64 [captions, slots]."""
        return torch.from_numpy(self.tokens.tokenizer.arranged([words(self.words(n), item) for n, item in places]))

    def _exchanged(self, places: list[tuple[int, int]], start: int) -> list[tuple[int, int]]:
        """Where the captions from position `start` on come from, some of which noise has put in others' places."""
        if not self.noise:
            return places
        sources = enumerate(self.noise.sources(start, len(places)), start)
        return [places[at - start] if source == at else self.order.at(source) for at, source in sources]

    def _mismatch(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Captions of which some are those of the neighbouring pair; equal ones still match."""
        ids, positions = batch["ids"].clone(), batch["positions"]
        chosen = uniform(self.seed, "mismatched", positions, 1)[:, 0] < self.mismatched
        for row in chosen.nonzero()[:, 0].tolist():
            ids[row] = self._ids([self.order.at(neighbour(int(positions[row]), self.step))])[0]
        return {"other_ids": ids, "mismatched": (ids != batch["ids"]).any(dim=1)}

    def keys(self, start: int, size: int) -> list[str]:
        """Shard and key of the pairs at positions start .. start + size - 1, for messages."""
        places = [self.order.at(position) for position in range(start, start + size)]
        return [f"{self.paths[number]}: {self.shard(number).key(item)}" for number, item in places]

    def batches(self, start: int, size: int, workers: int, stride: int):
        """Endless batches, each `stride` positions after the last, from `start` on, prepared ahead by `workers`
        threads."""
        return ahead(lambda first: self.batch(first, size), count(start, stride), workers)
