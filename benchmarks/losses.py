"""Measure time and memory of the contrastive losses, forward and backward, against open_clip's.

    python -m benchmarks.losses                          # 1,024, 4,096 and 16,384 pairs: ten minutes on one core
    python -m benchmarks.losses --pairs 256 512 1024     # where tiles become faster (flip/config/tiles.py)

Both get the same features of unit length and must give the same loss. `whole` rows are of ours with the full matrix of
logits, as used for smaller batches. The floor (matmul-only bound) is the time of the matrix products of the tiles (four
for InfoNCE, three for the sigmoid loss). Every form keeps freed memory, as training does, so that the allocator makes
no difference.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Form, called, measure, peer, same
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.losses import contrastive, sigmoid
from flip.losses.tiling import SIDE, strips

LOSSES = ["InfoNCE", "sigmoid"]
# Targets from this batch size on: our time and memory as a share of open_clip's.
LARGE = 16_384
SHARES = {"InfoNCE": (0.55, 1 / 25), "sigmoid": (0.5, 1 / 37)}


@torch.no_grad()
def products(image: Tensor, text: Tensor, count: int) -> None:
    """Compute nothing but `count` products of the batch's size, tile by tile."""
    for rows in strips(len(image), SIDE["cpu"]):
        for columns in strips(len(text), SIDE["cpu"]):
            for _ in range(count):
                image[rows] @ text[columns].T


def forms() -> dict[str, dict[str, Callable[..., Tensor | None]]]:
    """Return by loss and form a function of image, text, scale and bias."""
    theirs = peer("open_clip.loss")
    return {
        "InfoNCE": {
            "open_clip": lambda image, text, scale, bias: theirs.ClipLoss()(image, text, scale),
            "whole": lambda image, text, scale, bias: contrastive.dense_info_nce(image, text, scale),
            "tiles": lambda image, text, scale, bias: contrastive.info_nce(image, text, scale, SIDE["cpu"]),
            "floor": lambda image, text, scale, bias: products(image, text, 4),
        },
        "sigmoid": {
            "open_clip": theirs.SigLipLoss(),
            "whole": sigmoid.dense_sigmoid,
            "tiles": lambda image, text, scale, bias: sigmoid.pairwise_sigmoid(image, text, scale, bias, SIDE["cpu"]),
            "floor": lambda image, text, scale, bias: products(image, text, 3),
        },
    }


def features(pairs: int, width: int) -> list[Tensor]:
    """Return image and text features [pairs, width] of unit length, scale and bias."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(pairs, width, generator=generator), dim=1) for _ in range(2))
    return [x.requires_grad_() for x in (image, text, torch.tensor(1 / 0.07), torch.tensor(-10.0))]


def run(form: Callable[..., Tensor | None], inputs: list[Tensor]) -> Tensor | None:
    """Compute a loss and its gradients."""
    for x in inputs:
        x.grad = None
    loss = form(*inputs)
    if loss is not None:
        loss.backward()
    return loss


def build(loss: str, name: str, pairs: int, width: int) -> Callable[[], object]:
    """Return a function that computes a form once."""
    form = forms()[loss][name]
    run(form, features(8, width))  # what a first call loads is not the batch's
    inputs = features(pairs, width)
    return lambda: run(form, inputs)


def check(loss: str, pairs: int, width: int) -> str:
    """Check that ours and open_clip's have the same value and gradients; return a note.

    Raises:
        ValueError: they differ.
    """
    found = {}
    for name in ("tiles", "open_clip"):
        inputs = features(pairs, width)
        value = run(forms()[loss][name], inputs)
        assert value is not None
        found[name] = torch.cat([value.detach()[None], *(x.grad.flatten() for x in inputs[:2] if x.grad is not None)])
    return f"loss and gradients equal to {same(loss, found['tiles'], found['open_clip'], 1e-4):.0e}"


def compare(loss: str, pairs: int, width: int, rounds: int) -> Iterator[Row]:
    """Yield rows of time and memory of one loss at one batch size."""
    name, small = f"{loss}, {pairs:,} pairs of width {width}", min(pairs, 2048)
    note, who = f"{check(loss, small, width)} at {small:,}", called("open_clip_torch")
    kinds = ["open_clip", "tiles", "floor"] + (["whole"] if pairs < LARGE else [])
    found = measure({one: Form(build, (loss, one, pairs, width), keep=True) for one in kinds}, rounds)
    ours, theirs, floor = found["tiles"], found["open_clip"], found["floor"]
    time, memory = SHARES[loss] if pairs >= LARGE else (None, None)
    yield against(f"{name}: time", "s", ours.seconds, who, theirs.seconds, at_most=time, note=note)
    yield against(f"{name}: memory", "B", [ours.rise], who, [theirs.rise], at_most=memory)
    yield against(f"{name}: share of the matmul-only bound", "s", ours.seconds, "products", floor.seconds)
    if "whole" in found:
        yield against(f"{name}: tiled against full logits", "s", ours.seconds, "whole", found["whole"].seconds)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all batch sizes and losses."""
    for pairs in options.pairs:
        for loss in options.losses:
            name = f"{loss}, {pairs:,} pairs of width {options.width}"
            yield from attempt(name, partial(compare, loss, pairs, options.width, options.rounds))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    parser = arguments("losses", __doc__ or "")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1024, 4096, LARGE], help="batch sizes")
    parser.add_argument("--width", type=int, default=512, help="width of the features (default: 512)")
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES, help="which of them (default: both)")
    options = parser.parse_args(argv)
    if options.dry:
        options.pairs, options.losses, options.width, options.rounds = [SIDE["cpu"] + 8], ["sigmoid"], 16, 1
    publish("losses", rows(options), options.results, {"rounds": options.rounds, "threads": 1, "precision": "float32"})


if __name__ == "__main__":
    main()
