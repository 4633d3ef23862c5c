"""Cache the tokenization of training captions for all variants, seeds and epochs: an array per shard, memory-mapped.

    data/<scale>/tokens/<tokenizer>/<shard>.npy      int32: where each caption's ids begin, where the last's end, ids

Both names are hashes of what the ids follow from, so that a file is never one of other captions or another tokenizer,
and whoever needs a missing one may write it. Its own digest (flip.data.checksum) is compared before it is used.
"""

import json
import sys
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flip.data.checksum import check, checked
from flip.data.prefetch import prefetch
from flip.data.shard import Several, open_captions
from flip.data.tokenizer import CaptionTokenizer
from flip.data.translations import Translations
from flip.provenance.environment import versions
from flip.provenance.sources import source_hash


def joined(words: list[list[int]]) -> np.ndarray:
    """Join the ids of captions into one array, as a file holds them: int32 [captions + 1 + ids], where
    each caption ends and then all ids."""
    bounds = len(words) + 1 + np.cumsum([0, *map(len, words)])
    return np.fromiter(chain(bounds, chain.from_iterable(words)), np.int32, count=bounds[-1])


def words(stored: np.ndarray, item: int) -> np.ndarray:
    """Return the ids of one caption from a file's array: int32 [tokens]."""
    begin, end = stored[item : item + 2].tolist()
    return stored[begin:end]


class Tokens:
    """Read or compute tokens: tokens(number) -> ids of the captions of the manifest's shard of that number, as a file's
    array.

    `translations` replace the shards' captions.
    """

    def __init__(
        self, tokenizer: CaptionTokenizer, data: str | Path, manifest: dict, translations: Translations | None = None
    ):
        self.tokenizer, self.translations, self.shards = tokenizer, translations, manifest["shards"]
        self.source, self.writable = Path(data) / "shards", True
        self.good: set[Path] = set()
        made_by = json.dumps([tokenizer.stored, versions(), source_hash(__name__)], sort_keys=True)
        self.folder = Path(data) / "tokens" / sha256(made_by.encode()).hexdigest()[:16]

    def path(self, number: int) -> Path:
        """Return the file of a shard's tokens."""
        entry = self.shards[number]
        captions = entry.get("captions", entry["sha256"]) + (self.translations.identity if self.translations else "")
        return self.folder / f"{sha256(captions.encode()).hexdigest()[:32]}.npy"

    def several(self, number: int) -> Several | None:
        """Return which captions of a shard are each sample's; None where each has one."""
        return None if self.translations else open_captions(self.source, self.shards[number]).several()

    def captions(self, number: int) -> list[str]:
        """Return the captions of a shard, of one sample after the other."""
        if self.translations:
            return self.translations(number)
        return open_captions(self.source, self.shards[number]).captions()

    def __call__(self, number: int) -> np.ndarray:
        path = self.path(number)
        if path in self.good or (path.exists() and self._is_good(path)):
            return np.load(path, mmap_mode="r").view(np.ndarray)
        stored = joined(self.tokenizer.encode(self.captions(number)))
        try:
            with checked(path) as file:
                np.save(file, stored)
        except OSError as error:
            if self.writable:
                print(f"{self.folder}: captions are encoded again in each epoch ({error})", file=sys.stderr)
            self.writable = False
        return stored

    def _is_good(self, path: Path) -> bool:
        """Tell whether a file holds what was written; checked once, as that reads all of it."""
        try:
            check(path)
        except (ValueError, OSError) as error:
            print(f"{path}: cannot be used ({error}); its captions are encoded again", file=sys.stderr)
            return False
        self.good.add(path)
        return True

    def encode(self, first: int, step: int, workers: int) -> None:
        """Write what is missing of every `step`-th shard from `first` on, by `workers` threads.

        What other processes have not written when it is needed is written then.
        """
        missing = [number for number in range(first, len(self.shards), step) if not self.path(number).exists()]
        done = prefetch(self, missing, workers)
        for _ in tqdm(done, "captions", len(missing), unit="shard", disable=None if missing and not first else True):
            if not self.writable:
                return
