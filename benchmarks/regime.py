"""Check that `tiny` can show what masking does: criteria on the baseline and on the data alone, on no difference.

    python -m benchmarks.regime              # 3 seeds: about half an hour on one core

The criteria were written down before any masked variant was trained on this data set:

(a) twice the baseline's schedule adds at most 4 points of the primary metric: rows of equal time are not decided by who
    had seen too little;
(b) the baseline reaches 55 to 92 %: there is room on both sides;
(c) a classifier that is trained with labels, without captions, on images of which 50 or 75 % of the patches are removed
    keeps 97 or 90 % of its accuracy on whole images: what masking removes is told by what it leaves, as in photographs,
    so a loss is the method's.

The baseline's rate is that of params.yaml. The classifier is the baseline's image tower with a linear head, trained
three times as long.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from benchmarks.pixels import FEW, errors, of_few, samples, write_data
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data.loader import Loader
from flip.device import keep_memory
from flip.evaluate.inputs import read
from flip.files import read_json
from flip.model.masking import mask_patches
from flip.model.transformer import initialize
from flip.model.vision import VisionEncoder
from flip.synthetic.scenes import FINE
from flip.synthetic.world import scene
from flip.train.step import build_loader

LONGER = 3  # than the baseline's schedule
RATE, WARMUP = 0.002, 0.07  # peak learning rate at the baseline's batch, share of the steps until there
KEPT = {0.5: 0.97, 0.75: 0.9}  # criterion (c)
TEST = 1 << 40  # first position of test images, whose masks are none of those in training


class Classifier(nn.Module):
    """Tell fine's classes of images of which a share `masked` of the patches is removed, the rest at random."""

    def __init__(self, params: Params, masked: float, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.params, self.masked, self.seed = params, masked, seed
        self.vision = VisionEncoder(params.model, params.form.vision)
        self.head = nn.Linear(params.model.vision.width, len(FINE))
        self.apply(initialize)

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Compute logits [batch, classes] of uint8 images [batch, height, width, 3]."""
        patches = self.params.model.patches
        kept = round(patches * (1 - self.masked))
        order = mask_patches(self.seed, positions, patches, kept) if self.masked else None
        return self.head(self.vision.feature(images, order.ids_keep if order else None))


def labels(params: Params, loader: Loader, positions: Tensor) -> Tensor:
    """Return the classes [batch] of what the images at positions show: keys of pairs are rows of the world."""
    keys = [name.rpartition(" ")[2] for name in loader.keys(int(positions[0]), len(positions))]
    mains = [scene(params.world, int(key)).main for key in keys]
    return torch.tensor([FINE.index(f"{thing.colour} {thing.shape}") for thing in mains])


def accuracy(params: Params, data: Path, masked: float, seed: int) -> float:
    """Return the share of fine's test images, masked alike, that a classifier tells after training on masked ones."""
    manifest, batch = read_json(data / "manifest.json"), params.train.global_batch
    loader, model = build_loader(params, data, manifest, seed), Classifier(params, masked, seed)
    steps = max(LONGER * params.train.steps(manifest["samples"]), 1)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.05)
    batches = loader.batches(0, batch, 0, batch)
    for step in trange(steps, desc=f"labels, mask {masked:.0%}, seed {seed}", unit="step", disable=None):
        one = next(batches)
        warm, cosine = min(1, (step + 1) / (WARMUP * steps)), (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = RATE * warm * cosine
        logits = model(one["images"], one["positions"])
        loss = F.cross_entropy(logits, labels(params, loader, one["positions"]), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batches.close()
    return tested(model.eval(), params, data)


@torch.no_grad()
def tested(model: Classifier, params: Params, data: Path) -> float:
    """Return the share of fine's test images that are told right."""
    right = total = 0
    for images, classes in read(params, data, "fine"):
        positions = torch.arange(TEST + total, TEST + total + len(images))
        right += int((model(images, positions).argmax(1) == classes).sum())
        total += len(images)
    return right / total


def rows(clip: Params, longer: Params, folder: Path, images: int, seeds: list[int]) -> Iterator[Row]:
    """Yield a row per criterion; percent of fine's test images."""
    data = write_data(clip, folder, samples(clip, images), ["fine"])
    once, twice = (
        [100 * (1 - errors(one, data, data, ["fine"], seed)["fine"]) for seed in seeds] for one in (clip, longer)
    )
    yield alone("(b) the baseline, % of fine, at most 92", "", once, at_most=92)
    yield alone("(b) the baseline, % of fine, at least 55", "", once, at_least=55)
    gains = [after - before for before, after in zip(once, twice, strict=True)]
    yield alone("(a) what twice its schedule adds, points", "", gains, at_most=4)
    whole = [accuracy(clip, data, 0.0, seed) for seed in seeds]
    for masked, share in KEPT.items():
        found = [accuracy(clip, data, masked, seed) for seed in seeds]
        name = f"(c) classifier with labels, {masked:.0%} of the patches removed: share of its accuracy on whole images"
        yield against(name, "", whole, "masked", found, at_least=share)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the criteria by the options of the command line."""
    parser = arguments("regime", __doc__ or "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    options = parser.parse_args(argv)
    variants = read_project(scale="tiny").variants
    clip, longer, seeds = variants["clip"], variants["clip-double"], options.seeds
    images = clip.world.images
    if options.dry:
        images, seeds, clip, longer = FEW, [0], of_few(clip), of_few(longer)
    torch.set_num_threads(1)
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        found = attempt("regime", lambda: rows(clip, longer, Path(folder), images, seeds))
        publish("regime", found, options.results, {"images": images, "seeds": len(seeds)})


if __name__ == "__main__":
    main()
