"""Measure a training step against open_clip's with `patch_dropout`: same architecture, batch, captions and optimizer.

    python -m benchmarks.steps                           # both models at masks 0, 50 and 75 %
    python -m benchmarks.steps --models small --masks 0.5 0.75 --curve
    python -m benchmarks.steps --masks --curve small     # the masking curve alone: time per pair over kept patches

Both have the original CLIP architecture and equal weights: before anything is timed, they give the same loss for the
same kept patches. Each gets a batch in its own format: bytes and ids here, normalized floats and padded ids there.
Seconds are CPU seconds of one thread. `as shipped` is each as its own program runs it: flip.train.__main__ keeps freed
memory (flip.device.keep_memory), open_clip leaves it to the allocator, which costs page faults for each large tensor.
With `both keep freed memory` open_clip has our setting, so that only the computation differs. The floor (matmul-only
bound) is the time of the matrix products and the attention of our own step: no norm, activation, optimizer or I/O.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

import flip.data.torchvision_operators  # noqa: F401  (before open_clip, which imports torchvision)
from benchmarks import products
from benchmarks.harness import Form, called, measure, peer, same
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from flip.config.faults import check as checked
from flip.config.frozen import merge
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data.loader import Loader
from flip.export.open_clip_models import OpenClip
from flip.export.target import their_weights
from flip.model.masking import mask_patches
from flip.model.text import PAD
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_model

VOCABULARY = 49_408  # CLIP's; its last id ends a caption
WORDS = (7, 21)  # tokens of a caption, start and end included: 14 on average, as in web captions
# In addition to those of params.yaml.
MODELS: dict[str, dict[str, Any]] = {
    "small": {
        "image": 64, "patch": 8, "embedding": 192, "tokens": 32,
        "vision": {"layers": 6, "width": 192, "heads": 3}, "text": {"layers": 4, "width": 192, "heads": 3},
    },
    "dry": {
        "image": 16, "patch": 8, "embedding": 8, "tokens": 32,
        "vision": {"layers": 1, "width": 16, "heads": 2}, "text": {"layers": 1, "width": 16, "heads": 2},
    },
}  # fmt: skip
ALONG = [number / 10 for number in range(10)]
BATCHES = {"small": 256, "b16": 16, "dry": 4}
# Targets: speed-up over open_clip at the same mask ratio, and time as a share of our own unmasked step.
TARGETS = {("small", 0.5): 1.9, ("small", 0.75): 2.3, ("b16", 0.5): 1.45, ("b16", 0.75): 1.65}
OF_BOUND = 0.95
SHARES = {("b16", 0.5): 0.52, ("b16", 0.75): 0.30}


def parameters(name: str, mask: float, batch: int, precision: str = "float32") -> Params:
    """Return the parameters of a model at a mask ratio."""
    project = read_project(scale="tiny")
    base = project.variants["clip-form"].model_dump(mode="json")
    train = {"batch": batch, "batch_scale": 1, "precision": precision}
    model = MODELS.get(name) or project.tree["models"][name]
    delta: dict[str, Any] = {"model": model, "masking": {"image": mask}, "train": train}
    return checked(Params, merge(base, delta), f"{name} at mask {mask}")


def make_batch(params: Params) -> dict[str, Tensor]:
    """Return random images and captions of WORDS ids."""
    generator = torch.Generator().manual_seed(0)
    size, side, slots = params.train.global_batch, params.model.image, params.model.tokens
    lengths = torch.randint(WORDS[0], WORDS[1] + 1, (size, 1), generator=generator)
    ids = torch.randint(1, VOCABULARY - 2, (size, slots), generator=generator)
    ids[torch.arange(slots) >= lengths] = PAD
    ids.scatter_(1, lengths - 1, VOCABULARY - 1)
    images = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=generator)
    return {"images": images, "ids": ids, "positions": torch.arange(size)}


class Chosen(nn.Module):
    """Replace open_clip's patch dropout: keep the patches `kept` [batch, kept]."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        """Select the class token and the kept patches."""
        return torch.cat([x[:, :1], x[:, 1:].take_along_dim(self.kept[:, :, None], dim=1)], dim=1)


class Ours:
    """Run flip's training step on one batch."""

    def __init__(self, params: Params, batch: dict[str, Tensor], device: str = "cpu") -> None:
        model, world = build_model(params, VOCABULARY, 0, device), ProcessGroup(device=device)
        self.batch = batch
        self.run = TrainingRun(params, cast(Loader, SimpleNamespace(broken=0)), model, 10**9, 0, world)

    def loss(self) -> float:
        """Return the loss of the batch."""
        batch = {name: tensor.to(self.run.group.device) for name, tensor in self.batch.items()}
        with torch.no_grad():
            return float(sum(self.run.losses(batch).values()))

    def step(self) -> None:
        """Make a training step."""
        self.run.step(self.batch)


class Theirs:
    """Run open_clip's training step on one batch, compiled if a backend of torch.compile is given."""

    def __init__(
        self, params: Params, batch: dict[str, Tensor], device: str = "cpu", backend: str | None = None
    ) -> None:
        import open_clip
        from open_clip.loss import ClipLoss

        model = params.model
        vision: dict[str, float] = {
            "layers": model.vision.layers,
            "width": model.vision.width,
            "patch_size": model.patch,
        }
        vision |= {
            "head_width": model.vision.width // model.vision.heads,
            "image_size": model.image,
            "patch_dropout": params.masking.image,
        }
        text = {"layers": model.text.layers, "width": model.text.width, "heads": model.text.heads}
        text |= {"context_length": model.tokens, "vocab_size": VOCABULARY}
        self.model = open_clip.CLIP(embed_dim=params.embedding, vision_cfg=vision, text_cfg=text).to(device)
        self.called = torch.compile(self.model, backend=backend) if backend else self.model
        self.loss_of, self.device, train = ClipLoss(), device, params.train
        self.low = train.precision == "bfloat16"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=train.peak_lr, betas=train.betas, eps=train.epsilon, weight_decay=0.2
        )
        form = params.form.vision
        pixels = batch["images"].permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
        self.images, self.ids = (pixels - mean) / std, batch["ids"].where(batch["ids"] != PAD, 0)

    def copy(self, run: TrainingRun) -> None:
        """Copy the weights of our model."""
        self.model.load_state_dict(their_weights(OpenClip(), run.model, self.model.state_dict()))

    def losses(self) -> Tensor:
        """Return the loss of the batch, with a graph."""
        images, ids = (tensor.to(self.device, non_blocking=True) for tensor in (self.images, self.ids))
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.low):
            return self.loss_of(*self.called(images, ids))

    def loss(self, kept: Tensor | None) -> float:
        """Return the loss of the batch with these patches kept; None for all."""
        dropout = self.model.visual.patch_dropout
        if kept is not None:
            self.model.visual.patch_dropout = Chosen(kept.to(self.device))
        with torch.no_grad():
            found = self.losses().item()
        self.model.visual.patch_dropout = dropout
        return found

    def step(self) -> None:
        """Make a training step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.losses().backward()
        self.optimizer.step()


def kept_patches(params: Params, batch: dict[str, Tensor]) -> Tensor | None:
    """Return the patches [batch, kept] that ours keeps; None for all."""
    if not params.masking.image:
        return None
    return mask_patches(0, batch["positions"], params.model.patches, params.kept_patches).ids_keep


def check(name: str, mask: float, size: int, device: str = "cpu") -> str:
    """Check in float32 that both have the same loss with the same weights and patches; return a note.

    Raises:
        ValueError: the losses differ.
    """
    params = parameters(name, mask, size)
    batch = make_batch(params)
    ours, theirs = Ours(params, batch, device), Theirs(params, batch, device)
    theirs.copy(ours.run)
    apart = same(f"{name} at mask {mask}", ours.loss(), theirs.loss(kept_patches(params, batch)), 1e-4)
    return f"loss equal to {apart:.0e}"


def build(name: str, mask: float, which: str) -> Callable[[], None]:
    """Return a function that makes a step, of flip or open_clip."""
    params = parameters(name, mask, BATCHES[name])
    return (Ours if which == "flip" else Theirs)(params, make_batch(params)).step


def floor(name: str, mask: float) -> Callable[[], None]:
    """Return a function that computes the products of our step alone."""
    return products.alone(build(name, mask, "flip"))


def compare(name: str, mask: float, rounds: int) -> Iterator[Row]:
    """Yield rows of time, as shipped and with one allocator setting, of the matmul-only bound, and of memory."""
    peer("open_clip")
    title, who, goal = f"{name}, mask {mask:.0%}", called("open_clip_torch"), TARGETS.get((name, mask))
    note = check(name, mask, BATCHES[name])
    sides = {"flip": True, "open_clip": False, "open_clip that keeps memory": True}
    forms = {side: Form(build, (name, mask, side.split()[0]), keep) for side, keep in sides.items()}
    ours, shipped, keeping, least = measure(forms | {"floor": Form(floor, (name, mask), True)}, rounds).values()
    yield against(f"{title}: as shipped", "s", ours.seconds, who, shipped.seconds, at_least=goal, note=note)
    yield against(f"{title}: both keep freed memory", "s", ours.seconds, who, keeping.seconds)
    share = f"{title}: share of the matmul-only bound"
    yield against(share, "s", ours.seconds, "products, attention", least.seconds, at_least=OF_BOUND)
    yield against(f"{title}: the matmul-only bound", "s", least.seconds, who, shipped.seconds)
    yield against(f"{title}: memory", "B", [ours.rise], who, [shipped.rise])


def masked(name: str, mask: float, rounds: int) -> Iterator[Row]:
    """Yield the row of our step over our unmasked one."""
    found = measure({str(one): Form(build, (name, one, "flip"), True) for one in (mask, 0.0)}, rounds)
    title, goal = f"{name}, mask {mask:.0%}: over ours unmasked", SHARES.get((name, mask))
    yield against(title, "s", found[str(mask)].seconds, "flip, unmasked", found["0.0"].seconds, at_most=goal)


def curve(name: str, masks: list[float], rounds: int) -> Iterator[Row]:
    """Yield rows of our time per pair at many mask ratios, and of a linear regression over kept patches."""
    found = measure({str(mask): Form(build, (name, mask, "flip"), True) for mask in masks}, rounds)
    patches: list[int] = []
    seconds: list[float] = []
    size = BATCHES[name]
    for mask, one in zip(masks, found.values(), strict=True):
        patches.append(parameters(name, mask, size).kept_patches)
        row = alone(f"{name}, mask {mask:.0%}: a pair, {patches[-1]} patches", "s", one.seconds, per=size)
        assert row.ours is not None
        seconds.append(row.ours)
        yield row
    slope, rest = statistics.linear_regression(patches, seconds)
    yield Row(f"{name}, line over kept patches: each patch", "s", slope)
    yield Row(f"{name}, line over kept patches: all else of a pair", "s", rest)
    yield Row(f"{name}, line over kept patches: R²", "", statistics.correlation(patches, seconds) ** 2)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all models and mask ratios, then of the curves."""
    for name in options.models:
        for mask in options.masks:
            yield from attempt(f"{name}, mask {mask:.0%}", partial(compare, name, mask, options.rounds))
        for mask in (mask for mask in options.masks if mask):
            yield from masked(name, mask, options.rounds)
    for name in options.curve:
        yield from curve(name, options.along, options.rounds)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    parser = arguments("steps", __doc__ or "")
    parser.add_argument("--models", nargs="+", default=["small", "b16"], choices=list(BATCHES), help="default: both")
    parser.add_argument("--masks", type=float, nargs="*", default=[0.0, 0.5, 0.75], help="default: 0 0.5 0.75")
    parser.add_argument("--curve", nargs="*", default=["small"], choices=list(BATCHES), help="default: small")
    parser.add_argument("--along", type=float, nargs="+", default=ALONG, help="masks of the curve (default: 0 to 0.9)")
    options = parser.parse_args(argv)
    if options.dry:
        options.models, options.masks, options.rounds = ["dry"], [0.5], 1
        options.curve, options.along = ["dry"], [0.0, 0.5, 0.75]
    publish("steps", rows(options), options.results, {"rounds": options.rounds, "threads": 1, "precision": "float32"})


if __name__ == "__main__":
    main()
