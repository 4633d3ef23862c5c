"""A whole training step against open_clip's with `patch_dropout`: same architecture, batch, captions and optimizer.

    python -m benchmarks.steps                           # the small model at masks 0, 50 and 75 %: four minutes
    python -m benchmarks.steps --model b16 --rounds 3    # ViT-B/16 at 224 pixels, 16 pairs: ten minutes

Form and weights are CLIP's, and equal: before anything is timed, both give the same loss for the same kept patches.
Each has its batch as it takes it: bytes and ids here, normalised floats and padded ids there. The steps take turns,
round by round; seconds are CPU seconds of one thread, the median over rounds with smallest and largest, ratios medians
of the rounds'. Memory is the rise of the peak in a process of its own. Both keep freed memory
(flip.device.keep_memory), unless --trim leaves it to the allocator: then each large tensor costs its page faults.
"""

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import flip.torchvision_operators  # noqa: F401  (before open_clip, which imports torchvision)
from benchmarks.losses import memory_of, peak_rise
from flip.device import keep_memory
from flip.export.open_clip_models import OpenClip
from flip.export.target import their_weights
from flip.files import write_json
from flip.model.masking import mask_patches
from flip.model.text import PAD
from flip.params import check, merge, read_project
from flip.provenance import processor
from flip.schema import Params
from flip.train.distributed import World
from flip.train.run import Run, build_model

VOCABULARY = 49_408  # CLIP's; its last id ends a caption
WORDS = (7, 21)  # of a caption, both ends with it: 14 on average, as in web captions
MODELS = {
    "small": (
        {
            "image": 64, "patch": 8, "embedding": 192, "tokens": 32,
            "vision": {"layers": 6, "width": 192, "heads": 3}, "text": {"layers": 4, "width": 192, "heads": 3},
        },
        256,
    ),
    "b16": (
        {
            "image": 224, "patch": 16, "embedding": 512, "tokens": 32,
            "vision": {"layers": 12, "width": 768, "heads": 12}, "text": {"layers": 12, "width": 512, "heads": 8},
        },
        16,
    ),
}  # fmt: skip


def parameters(name: str, mask: float) -> Params:
    model, batch = MODELS[name]
    base = read_project(scale="tiny").variants["clip-form"].model_dump(mode="json")
    delta = {"model": model, "masking": {"image": mask}, "train": {"batch": batch, "batch_scale": 1}}
    return check(Params, merge(base, delta), f"{name} at mask {mask}")


def make_batch(params: Params) -> dict[str, Tensor]:
    """Random pictures, and captions of WORDS ids."""
    generator = torch.Generator().manual_seed(0)
    size, side, slots = params.train.global_batch, params.model.image, params.model.tokens
    lengths = torch.randint(WORDS[0], WORDS[1] + 1, (size, 1), generator=generator)
    ids = torch.randint(1, VOCABULARY - 2, (size, slots), generator=generator)
    ids[torch.arange(slots) >= lengths] = PAD
    ids.scatter_(1, lengths - 1, VOCABULARY - 1)
    images = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=generator)
    return {"images": images, "ids": ids, "positions": torch.arange(size)}


class Chosen(nn.Module):
    """In place of open_clip's patch dropout: the patches that ours keeps."""

    def __init__(self, kept: Tensor):
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], x[:, 1:].take_along_dim(self.kept[:, :, None], dim=1)], dim=1)


class Ours:
    def __init__(self, params: Params, batch: dict[str, Tensor]):
        model = build_model(params, VOCABULARY, 0, "cpu")
        self.run, self.batch = Run(params, SimpleNamespace(broken=0), model, 10**9, 0, World()), batch

    def loss(self) -> float:
        with torch.no_grad():
            return sum(self.run.losses(self.batch).values()).item()

    def step(self) -> None:
        self.run.step(self.batch)


class Theirs:
    """open_clip's model, loss and optimizer, as its training has them."""

    def __init__(self, params: Params, batch: dict[str, Tensor]):
        import open_clip
        from open_clip.loss import ClipLoss

        model = params.model
        vision = {"layers": model.vision.layers, "width": model.vision.width, "patch_size": model.patch}
        vision |= {"head_width": model.vision.width // model.vision.heads, "image_size": model.image}
        text = {"layers": model.text.layers, "width": model.text.width, "heads": model.text.heads}
        text |= {"context_length": model.tokens, "vocab_size": VOCABULARY}
        vision["patch_dropout"] = params.masking.image
        self.model = open_clip.CLIP(embed_dim=params.embedding, vision_cfg=vision, text_cfg=text)
        self.loss_of, train = ClipLoss(), params.train
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=train.peak_lr, betas=train.betas, eps=train.epsilon, weight_decay=0.2
        )
        form = params.form.vision
        pixels = batch["images"].permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
        self.images, self.ids = (pixels - mean) / std, batch["ids"].where(batch["ids"] != PAD, 0)

    def copy(self, run: Run) -> None:
        self.model.load_state_dict(their_weights(OpenClip(), run.model, self.model.state_dict()))

    def losses(self) -> Tensor:
        return self.loss_of(*self.model(self.images, self.ids))

    def loss(self, kept: Tensor | None) -> float:
        """Of these patches."""
        dropout = self.model.visual.patch_dropout
        if kept is not None:
            self.model.visual.patch_dropout = Chosen(kept)
        with torch.no_grad():
            found = self.losses().item()
        self.model.visual.patch_dropout = dropout
        return found

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.losses().backward()
        self.optimizer.step()


def compare(ours: Ours, theirs: Theirs) -> float:
    """The loss that both have.

    Raises:
        ValueError: they do not.
    """
    params, kept = ours.run.params, None
    if params.masking.image:
        kept = mask_patches(0, ours.batch["positions"], params.model.patches, params.kept_patches).ids_keep
    theirs.copy(ours.run)
    one, other = ours.loss(), theirs.loss(kept)
    if abs(one - other) > 1e-4 * abs(other):
        raise ValueError(f"not the same: the loss is {one} here and {other} in open_clip")
    return one


def build(name: str, mask: float, which: str):
    params = parameters(name, mask)
    return (Ours if which == "flip" else Theirs)(params, make_batch(params))


def _rise(name: str, mask: float, which: str) -> int:
    one = build(name, mask, which)
    return peak_rise(one.step)


def measure(name: str, mask: float, rounds: int) -> list[dict]:
    """One row for open_clip's step, and one for ours."""
    params = parameters(name, mask)
    batch = make_batch(params)
    steps = {"open_clip": Theirs(params, batch), "flip": Ours(params, batch)}
    loss = compare(steps["flip"], steps["open_clip"])
    spent = {which: [] for which in steps}
    for number in range(rounds + 1):
        for which, one in steps.items():
            begin = time.process_time()
            one.step()
            if number:  # the first warms up
                spent[which].append(time.process_time() - begin)
    rows = []
    for which, seconds in spent.items():
        ratios = [a / b for a, b in zip(spent["open_clip"], seconds, strict=True)]
        row = {"model": name, "mask": mask, "who": which, "loss": loss, "seconds": seconds, "times_as_fast": ratios}
        rows.append(row | {"memory_rise_bytes": memory_of(_rise, name, mask, which)})
    return rows


def markdown(rows: list[dict]) -> str:
    lines = [
        "| model | mask | whose step | CPU seconds (smallest-largest) | times as fast | memory |",
        "|" + "---|" * 6,
    ]
    for row in rows:
        seconds, ratios = row["seconds"], row["times_as_fast"]
        cells = [row["model"], f"{row['mask']:.0%}", row["who"]]
        cells.append(f"{statistics.median(seconds):.3g} ({min(seconds):.3g}-{max(seconds):.3g})")
        cells += [f"{statistics.median(ratios):.2f}", f"{row['memory_rise_bytes'] / 2**20:,.0f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["small"], choices=list(MODELS), help="default: small")
    parser.add_argument("--masks", type=float, nargs="+", default=[0.0, 0.5, 0.75], help="default: 0 0.5 0.75")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median counts (default: 5)")
    parser.add_argument("--trim", action="store_true", help="leave freed memory to the allocator, unlike flip.pretrain")
    parser.add_argument("--out", type=Path, help="JSON file for every round's figures")
    options = parser.parse_args(argv)
    if not options.trim:
        keep_memory()
    torch.set_num_threads(1)
    rows = [row for name in options.model for mask in options.masks for row in measure(name, mask, options.rounds)]
    print(markdown(rows))
    if options.out:
        facts = {"processor": processor(), "torch": torch.__version__, "threads": 1, "trim": options.trim}
        write_json(options.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
