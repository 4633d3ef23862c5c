"""Build a loader of pairs from its parts."""

from flip.data.loader import CaptionReader, ImageReader, Loader, ShardReader
from flip.data.sampler import build_order


def pairs_loader(manifest, folder, tokens, side, augmentation, seed, window, noise=None, cache=None) -> Loader:
    shards, order = ShardReader(manifest, folder, window, cache), build_order(manifest, None, 1, seed, window)
    captions = CaptionReader(tokens, order, shards.most, noise and noise.sources, seed)
    return Loader(order, ImageReader(shards, order, side, augmentation, seed), captions, [noise] if noise else [])
