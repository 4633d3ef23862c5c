"""Train the image tokenizer of a scale on its training images, or load DALL-E's from a file (codebook.weights).

    python -m flip.train.image_tokenizer --params specs/tiny/params/clip.yaml --data data/tiny --out data/tiny/codebook

Writes weights.safetensors, metrics.json (error and use of the codes, on images that come later in the training order)
and images.webp (originals, and below each its reconstruction). The same inputs give the same bits on one machine.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params
from flip.data.contact_sheet import SHOWN, cell, sheet, webp
from flip.data.loader import ImageReader, Loader, ShardReader
from flip.data.sampler import build_order
from flip.data.tar_cache import TarCache
from flip.device import keep_memory, pick_device
from flip.files import read_json, write_atomic, write_json
from flip.model.dalle import DallE
from flip.model.image_tokenizer import ImageTokenizer, VQTokenizer
from flip.model.weights import load_weights, save_weights
from flip.rng import random_bits

MEASURED, BARS = 1024, 64  # images, parts of a histogram at most
SEEN = 4096  # images, whose patches show what codes of a tokenizer without a decoder mean
RARE = 0.1  # a code whose patches are fewer than this share of the mean is put where patches are


def build_loader(params: Params, data: Path, manifest: dict) -> Loader:
    """Build a loader of the training images in the order of the first seed, cropped as in training; captions stay
    unread."""
    side, window = params.model.image, params.train.shuffle_shards
    seed = params.seeds[0]
    shards = ShardReader(manifest, data / "shards", window, TarCache(params.source.cache))
    order = build_order(manifest, None, 1, seed, window)
    return Loader(order, ImageReader(shards, order, side, params.augmentation, seed), None)


class TokenizerTraining:
    """Train the autoencoder with AdamW, and its codes by moving averages."""

    def __init__(self, params: Params, device: str | torch.device):
        self.form, self.seed = params.codebook, params.seeds[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = VQTokenizer(params).to(device)
        self.steps, self.done = max(self.form.samples // self.form.batch, 1), 0
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.form.lr, weight_decay=0.0)
        self.counts = torch.zeros(self.form.codes, device=device)
        self.sums = torch.zeros_like(self.model.entries)

    def step(self, images: Tensor) -> Tensor:
        """Train on one more batch of uint8 images [batch, height, width, 3].

        Returns the squared error of the pixels, in units of their variance: a detached scalar.
        """
        rate = 0.5 * self.form.lr * (1 + math.cos(math.pi * self.done / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pixels = self.model.targets(images)
        encoded = self.model.encode(pixels)
        if not self.done:
            self._place(encoded.detach().flatten(0, 1), torch.ones_like(self.counts, dtype=torch.bool))
        codes = self.model.nearest(encoded.detach())
        entries = self.model.entries[codes]
        # The straight-through estimator: codes go forward, and the gradient comes back as if nothing had been rounded.
        error = F.mse_loss(self.model.decode(encoded + (entries - encoded).detach()), pixels)
        distance = (encoded - entries).square().sum(dim=-1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (error + self.form.commitment * distance).backward()
        self.optimizer.step()
        self._move(encoded.detach().flatten(0, 1), codes.flatten())
        self.done += 1
        return error.detach()

    def _move(self, encoded: Tensor, codes: Tensor) -> None:
        """Move each code towards the mean of the patches that it stands for; one that stands for too few, to a random
        patch."""
        fresh, decay = 1 - self.form.decay, self.form.decay
        self.counts.mul_(decay).index_add_(0, codes, torch.ones_like(encoded[:, 0]), alpha=fresh)
        self.sums.mul_(decay).index_add_(0, codes, encoded, alpha=fresh)
        self.model.entries.copy_(F.normalize(self.sums, dim=-1))
        self._place(encoded, self.counts < RARE * self.counts.mean())

    def _place(self, encoded: Tensor, chosen: Tensor) -> None:
        """Place the chosen codes, bool [codes], at random patches of encoded [patches, code_width]."""
        bits = random_bits(self.seed, "codebook", torch.tensor([self.done]), len(self.counts))[0]
        there = encoded[bits.to(encoded.device) % len(encoded)]
        self.model.entries[chosen] = there[chosen]
        self.counts[chosen] = len(encoded) / len(self.counts)
        self.sums[chosen] = there[chosen] * self.counts[chosen, None]


def train(params: Params, loader: Loader, device: str | torch.device) -> VQTokenizer:
    """Train an image tokenizer; return it in evaluation mode."""
    training, form = TokenizerTraining(params, device), params.codebook
    batches = loader.batches(0, form.batch, params.train.workers, form.batch)
    bar = tqdm(range(training.steps), unit="step", desc="codebook", mininterval=10)
    for _ in bar:
        error = training.step(next(batches)["images"].to(device))
        if training.done % 50 == 0:
            bar.set_postfix({"error": round(error.item(), 4)}, refresh=False)
    batches.close()
    return training.model.eval()


@torch.no_grad()
def load_dalle(params: Params, loader: Loader, device: str | torch.device) -> ImageTokenizer:
    """Load DALL-E's encoder, and compute what its codes show in training images.

    Raises:
        ValueError: the file is no such encoder, or has another number of codes.
    """
    codebook = DallE(params).to(device).eval()
    load_weights(str(params.codebook.weights), codebook.encoder)
    batches = loader.batches(0, params.codebook.batch, params.train.workers, params.codebook.batch)
    images = torch.cat([next(batches)["images"] for _ in range(-(-SEEN // params.codebook.batch))])
    batches.close()
    codes = torch.cat([codebook(part.to(device)) for part in images.split(params.codebook.batch)])
    codebook.fit(images.to(device), codes)
    return codebook


@torch.no_grad()
def measure(codebook: ImageTokenizer, images: Tensor) -> dict:
    """Measure the tokenizer on uint8 images [images, height, width, 3].

    Returns the squared error in units of the variance within these images, the share of the codes in use, their
    perplexity (as many codes of equal use would be as hard to predict), and their use: of at most BARS equal parts of
    the codes, from the most to the least used, the share of the patches that each stands for.
    """
    pixels, codes = codebook.targets(images), codebook(images)
    error = F.mse_loss(codebook.decode(codebook.entries[codes]), pixels) / pixels.var()
    counts = codes.flatten().bincount(minlength=len(codebook.entries))
    shares = counts[counts > 0].double() / counts.sum()
    entropy = -(shares * shares.log()).sum()
    used, ordered = (counts > 0).double().mean(), counts.sort(descending=True).values.cpu().numpy()
    use = [round(float(part.sum() / ordered.sum()), 5) for part in np.array_split(ordered, min(BARS, len(ordered)))]
    facts = {"error": error.item(), "used": used.item(), "perplexity": entropy.exp().item(), "codes": len(counts)}
    return facts | {"use": use, "trained": isinstance(codebook, VQTokenizer)}


def side_by_side(codebook: ImageTokenizer, images: Tensor) -> np.ndarray:
    """Compose a contact sheet uint8 [height, width, 3]: images, and below each its reconstruction from codes."""
    pairs = zip(images.cpu().numpy(), codebook.decode_images(codebook(images)).cpu().numpy(), strict=True)
    return sheet([[cell(image) for image in pair] for pair in pairs])


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.train.image_tokenizer", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json and shards")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, metrics.json and images.webp")
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        params, device = load(options.params), pick_device()
        loader = build_loader(params, options.data, read_json(options.data / "manifest.json"))
        codebook = (load_dalle if params.codebook.weights else train)(params, loader, device)
        later = loader.batch(params.codebook.samples, MEASURED)["images"].to(device)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    write_json(options.out / "metrics.json", measure(codebook, later))
    write_atomic(options.out / "images.webp", webp(side_by_side(codebook, later[:SHOWN])))
    save_weights(options.out / "weights.safetensors", codebook.state_dict())


if __name__ == "__main__":
    main()
