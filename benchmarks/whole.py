"""Measure training from tars to updated weights against open_clip's own program, each as its command line starts it.

    python -m benchmarks.whole --open-clip ENV/bin/python      # small model, mask 50 %: ten minutes on one core

open_clip's training needs an environment of its own, as it asks for an older webdataset: `python -m venv ENV`, then
`ENV/bin/pip install 'open_clip_torch[training]'`. Both read the same tar of JPEGs of 256 pixels, as img2dataset writes
them, with their own crops, at their defaults. CPU seconds count, of all processes of a program with its workers: those
of a run over many batches less those of a run over few, so that starting up is not in it. Before, both programs get the
same weights and one batch of all images, none of them cropped or masked: their losses must be equal.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

from benchmarks import loading, steps
from benchmarks.harness import Form, Measured, Missing, measure, same
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.config.faults import check as checked
from flip.config.frozen import dump, merge
from flip.config.schema import Params
from flip.data import torchvision_operators
from flip.data.shards import write_shard
from flip.export.open_clip_models import OpenClip
from flip.export.target import their_weights
from flip.files import write_json
from flip.model.weights import save_weights
from flip.train.step import build_model

AT_LEAST = 2.0
# open_clip's command, after the model is made known to it.
THEIRS = """
import runpy, sys
kept = runpy.run_path(sys.argv[1])
import open_clip
from open_clip_train.main import main
open_clip.add_model_config(sys.argv[2])
main(sys.argv[3:])
"""


class Side:
    """Hold the folder of one comparison: data, weights and the model's description, for both programs."""

    def __init__(self, folder: Path, python: str, name: str, mask: float, pairs: int, plain: bool = False):
        self.folder, self.python, self.batch = folder, python, steps.BATCHES[name]
        self.params = parameters(name, mask, self.batch, pairs, plain)
        tar = folder / "shards" / "0000" / "00000.tar"
        write_shard(tar, images(pairs, self.params.model.image if plain else None))
        entry = {"name": "0000/00000.tar", "samples": pairs, "sha256": "0" * 64, "bytes": tar.stat().st_size}
        write_json(folder / "manifest.json", {"id": "f" * 64, "pairs": "e" * 64, "samples": pairs, "shards": [entry]})
        self.tar, self.pairs = tar, pairs
        write_json(folder / "configs" / "small.json", described(self.params))
        self._write_weights()

    def _write_weights(self) -> None:
        torch.manual_seed(0)
        model = build_model(self.params, steps.VOCABULARY, 0, "cpu")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)  # gains and biases, too
        save_weights(self.folder / "weights.safetensors", model.state_dict())
        theirs = steps.Theirs(self.params, steps.make_batch(self.params)).model
        torch.save(their_weights(OpenClip(), model, theirs.state_dict()), self.folder / "weights.pt")

    def ours(self, name: str) -> Path:
        """Train with flip; return the folder of results."""
        out, params = self.folder / name, self.folder / "params.yaml"
        params.write_text(dump(self.params))
        words = ["-m", "flip.train", "--params", str(params), "--data", str(self.folder), "--seed", "0"]
        words += ["--checkpoints", str(out / "checkpoints"), "--start", str(self.folder / "weights.safetensors")]
        run([sys.executable, *words, "--out", str(out)])
        return out

    def theirs(self, name: str) -> Path:
        """Train with open_clip; return the folder of results."""
        train = self.params.train
        words = [THEIRS, torchvision_operators.__file__, str(self.folder / "configs")]
        words += ["--model", "small", "--device", "cpu"]
        words += ["--train-data", str(self.tar), "--train-num-samples", str(self.pairs), "--dataset-type", "webdataset"]
        words += ["--batch-size", str(self.batch), "--epochs", "1", "--lr", str(train.peak_lr), "--warmup", "1"]
        words += ["--pretrained", str(self.folder / "weights.pt"), "--logs", str(self.folder), "--name", name]
        words += ["--log-every-n-steps", "1", "--force-patch-dropout", str(self.params.masking.image)]
        words += ["--save-frequency", "0", "--workers", "1"]  # as many as there are tars
        if self.params.augmentation.crop_area == (1.0, 1.0):
            words += ["--aug-cfg", "scale=(1.0, 1.0)"]
        run([self.python, "-c", *words])
        return self.folder / name


def parameters(name: str, mask: float, batch: int, pairs: int, plain: bool) -> Params:
    """Return ours as open_clip trains: one epoch, its crops, and for a check none."""
    crop = {"crop_area": [1.0, 1.0], "crop_aspect": [1.0, 1.0]} if plain else {"crop_aspect": [0.75, 1.3333333]}
    delta: dict[str, Any] = {"augmentation": {"crop_area": [0.9, 1.0], "flip": False} | crop}
    delta["train"] = {"epochs": 1.0, "epochs_scale": 1.0, "warmup_samples": 0, "shuffle_shards": 1}
    params = steps.parameters(name, mask, batch).model_dump(mode="json")
    return checked(Params, merge(params, delta), "benchmarks.whole")


def described(params: Params) -> dict[str, Any]:
    """Describe the model as open_clip's files do."""
    model = params.model
    vision = {"layers": model.vision.layers, "width": model.vision.width, "patch_size": model.patch}
    vision |= {"head_width": model.vision.width // model.vision.heads, "image_size": model.image}
    text = {"context_length": model.tokens, "vocab_size": steps.VOCABULARY, "width": model.text.width}
    text |= {"heads": model.text.heads, "layers": model.text.layers}
    return {"embed_dim": params.embedding, "vision_cfg": vision, "text_cfg": text}


def images(count: int, side: int | None) -> Iterator[dict[str, Any]]:
    """Yield pairs as benchmarks.loading does; with `side`, squares of so many pixels, which nobody has to resize."""
    for one in loading.samples(count):
        if side:
            pixels = simplejpeg.decode_jpeg(one["jpg"], "RGB")[:side, :side]
            one["jpg"] = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95, colorsubsampling="444")
        yield one


def run(words: list[str]) -> None:
    """Run a program on one thread.

    Raises:
        Missing: it ends with an error.
    """
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise Missing(f"{words[0]}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")


def first_loss(side: Side) -> tuple[float, float]:
    """Return the loss of the first step, ours and theirs."""
    side.ours("ours")
    ours = json.loads((side.folder / "ours" / "training.json").read_text())["loss"]
    log = (side.theirs("theirs") / "out.log").read_text()
    return ours, float(re.findall(r"Contrastive_loss: ([0-9.]+)", log)[0])


def build(folder: str, python: str, name: str, mask: float, pairs: int, which: str) -> Callable[[], object]:
    """Return a function that trains over so many pairs once."""
    place = Path(folder) / f"{which}-{pairs}"
    place.mkdir(parents=True, exist_ok=True)
    side, numbers = Side(place, python, name, mask, pairs), iter(range(10**6))
    return lambda: getattr(side, which)(f"run-{next(numbers)}")


def compare(options: argparse.Namespace, name: str, mask: float) -> Iterator[Row]:
    """Yield the row of CPU seconds per pair, of both programs."""
    if not options.open_clip:
        raise Missing("--open-clip: an environment with open_clip_torch[training]; the module says how it is made")
    with tempfile.TemporaryDirectory() as folder:
        checked_side = Path(folder) / "check"
        checked_side.mkdir()
        found = first_loss(Side(checked_side, options.open_clip, name, 0.0, steps.BATCHES[name], plain=True))
        note = f"first loss {found[0]:.4f} and {found[1]:.4f}"
        same("the first step", *found, 2e-3)
        few, many = steps.BATCHES[name], (1 + options.batches) * steps.BATCHES[name]
        forms = {
            f"{which} {pairs}": Form(build, (folder, options.open_clip, name, mask, pairs, which), clock="children")
            for which in ("ours", "theirs")
            for pairs in (few, many)
        }
        times = measure(forms, options.rounds)
        ours, theirs = (growth(times, which, few, many) for which in ("ours", "theirs"))
    title = f"{name}, mask {mask:.0%}: a pair, from tars to updated weights"
    yield against(title, "s", ours, "open_clip_train", theirs, per=many - few, at_least=AT_LEAST, note=note)


def growth(times: dict[str, Measured], which: str, few: int, many: int) -> list[float]:
    """Return the seconds of the batches that a long run has more than a short one, by round."""
    return [a - b for a, b in zip(*(times[f"{which} {pairs}"].seconds for pairs in (many, few)), strict=True)]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all mask ratios."""
    for mask in options.masks:
        title = f"{options.model}, mask {mask:.0%}: a pair, from tars to updated weights"
        yield from attempt(title, partial(compare, options, options.model, mask))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    parser = arguments("whole", __doc__ or "")
    parser.add_argument("--open-clip", default=os.environ.get("FLIP_OPEN_CLIP"), help="its environment's Python")
    parser.add_argument("--model", default="small", choices=list(steps.BATCHES), help="default: small")
    parser.add_argument("--masks", type=float, nargs="+", default=[0.5], help="default: 0.5")
    parser.add_argument("--batches", type=int, default=8, help="that are timed in a round (default: 8)")
    options = parser.parse_args(argv)
    if options.dry:
        options.model, options.rounds, options.batches = "dry", 1, 2
    how = {"rounds": options.rounds, "threads": 1, "precision": "float32", "batches of a round": options.batches}
    publish("whole", rows(options), options.results, how)


if __name__ == "__main__":
    main()
