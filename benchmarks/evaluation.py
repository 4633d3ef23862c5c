"""Measure time and memory of retrieval, zero-shot heads and linear probes, against clip-benchmark and scikit-learn.

    python -m benchmarks.evaluation                        # heads of ImageNet's first 100 classes: 20 minutes
    python -m benchmarks.evaluation --classes 1000         # of all 1,000: ten times as long

Retrieval: features are given, so that only scoring is measured. Head: ImageNet's classes and 80 templates, from text to
unit vectors, on one model in flip and the same weights in open_clip. Probe: the same sweep on a held-out split, with
each fit of scikit-learn from zero. Ours keep freed memory, as flip.evaluate does. The floor (matmul-only bound) is the
time of our matrix products.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks import products
from benchmarks.harness import Form, called, measure, peer, same
from benchmarks.steps import BATCHES, parameters
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.config.faults import check
from flip.config.frozen import merge
from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.evaluate import probe, retrieval, zeroshot
from flip.evaluate.features import Features
from flip.export.open_clip_models import OpenClip
from flip.export.target import their_weights
from flip.files import read_json
from flip.losses import build_towers
from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import number

CAPTIONS, WIDTH, BATCH = 5, 512, 64  # of an image; of features; clip-benchmark's default
SLOTS, TEMPLATES = 77, 80  # CLIP's text tower; ImageNet's prompts
PROBED = {"classes": 20, "width": 192}


class Given:
    """Return features as they are, in place of a model."""

    encode_image = encode_text = staticmethod(lambda features: features)


def build_retrieval(which: str, count: int) -> Callable[[], list[float]]:
    """Return a function that computes recalls."""
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(count, WIDTH, generator=generator), dim=1)
    noise = torch.randn(count * CAPTIONS, WIDTH, generator=generator)
    texts = F.normalize(0.3 * images.repeat_interleave(CAPTIONS, 0) + 0.1 * noise, dim=1)
    numbers = np.arange(len(texts)).reshape(count, CAPTIONS).tolist()
    loader = [(images[s : s + BATCH], numbers[s : s + BATCH]) for s in range(0, count, BATCH)]
    some = [k for k in retrieval.RECALLS if k <= count]
    theirs = peer("clip_benchmark.metrics.zeroshot_retrieval").evaluate

    def ours() -> list[float]:
        found = retrieval.outcomes(Given, texts.__getitem__, loader, "cpu")
        return [number(ACCURACY, found[f"{side}-r{k}"]) / 100 for k in some for side in ("image", "text")]

    def benchmarks() -> list[float]:
        return list(theirs(Given, loader, texts.__getitem__, "cpu", amp=False, recall_k_list=some).values())

    return ours if which == "flip" else benchmarks


def prompts(classes: int) -> tuple[list[str], list[str]]:
    """Return ImageNet's class names and templates, as clip-benchmark has them."""
    folder = Path(peer("clip_benchmark.datasets.builder").__file__ or "").parent
    files = ("classnames", "zeroshot_classification_templates")
    names, templates = (read_json(folder / f"en_{name}.json")["imagenet1k"] for name in files)
    return names[:classes], templates[:TEMPLATES]


def build_head(which: str, name: str, classes: int) -> Callable[[], object]:
    """Return a function that computes the unit vectors of classes [embedding, classes]."""
    open_clip, theirs = peer("open_clip"), peer("clip_benchmark.metrics.zeroshot_classification")
    tree = parameters(name, 0.0, BATCHES[name]).model_dump(mode="json")
    params = check(Params, merge(tree, {"model": {"tokens": SLOTS}}), name)
    tokenizer = CaptionTokenizer("", SLOTS, params.captions)
    torch.manual_seed(0)
    model = build_towers(params, tokenizer.vocabulary).eval()
    words = prompts(classes)
    if which == "flip":
        return lambda: zeroshot.head(model, lambda texts: torch.from_numpy(tokenizer(texts)), *words, "cpu")
    one = OpenClip()
    other = open_clip.CLIP(**one.configuration(model, tokenizer, Path())).eval()
    other.load_state_dict(their_weights(one, model, other.state_dict()))
    theirs_tokenizer = open_clip.SimpleTokenizer(context_length=SLOTS)
    return lambda: theirs.zero_shot_classifier(other, theirs_tokenizer, *words, "cpu", amp=False)


def build_probe(which: str, count: int) -> Callable[[], float]:
    """Return a function that computes the accuracy of a probe on other images."""
    rng = np.random.default_rng(0)
    labels = np.arange(2 * count) % PROBED["classes"]
    centres = rng.normal(size=(PROBED["classes"], PROBED["width"]))
    drawn = (0.3 * centres[labels] + rng.normal(size=(2 * count, PROBED["width"]))).astype(np.float32)
    drawn = drawn @ rng.normal(size=(PROBED["width"], PROBED["width"])).astype(np.float32)  # features correlate
    halves = zip(np.split(drawn, 2), np.split(labels, 2), strict=True)
    training, test = (Features(torch.from_numpy(x), [torch.from_numpy(y)]) for x, y in halves)

    def theirs() -> float:
        scaler = StandardScaler().fit(training.pooled.numpy())
        x, seen = (scaler.transform(one.pooled.numpy()) for one in (training, test))
        order = np.random.default_rng(0).permutation(count)
        held, kept = np.split(order, [int(probe.HELD_OUT * count)])

        def fitted(strength: float, rows: np.ndarray) -> LogisticRegression:
            one = LogisticRegression(C=1 / (strength * len(rows)), max_iter=probe.STEPS)
            return one.fit(x[rows], training.labels[rows])

        right = [fitted(one, kept).score(x[held], training.labels[held]) for one in probe.STRENGTHS]
        return fitted(probe.STRENGTHS[np.argmax(right)], order).score(seen, test.labels)

    return theirs if which != "flip" else lambda: float(probe.outcomes(training, test).mean())


# Numbers of images and of classes from which targets apply.
LARGE = {"retrieval": 5000, "classes": 100}
OF_BOUND = {build_retrieval: 0.93}  # share of the products' time


def floor(build: Callable[..., Callable[[], object]], *size: object) -> Callable[[], None]:
    """Return a function that computes the products of ours alone."""
    return products.alone(build("flip", *size))


def compare(
    title: str,
    build: Callable[..., Callable[[], object]],
    size: tuple[object, ...],
    small: tuple[object, ...],
    who: str,
    rounds: int,
    tolerance: float,
    **target: Any,
) -> Iterator[Row]:
    """Yield rows of time and memory; both sides must give the same results at a small size."""
    ours, theirs = (build(side, *small)() for side in ("flip", "theirs"))
    note = f"results equal to {same(title, ours, theirs, tolerance):.0e}"
    forms = {side: Form(build, (side, *size), keep=side == "flip") for side in ("flip", "theirs")}
    if build is not build_probe:  # whose solver's products are not torch's
        forms["floor"] = Form(floor, (build, *size), keep=True)
    found = measure(forms, rounds)
    one, other, least = found["flip"], found["theirs"], found.get("floor")
    yield against(f"{title}: time", "s", one.seconds, who, other.seconds, note=note, **target)
    if least:
        share, goal = f"{title}: share of the matmul-only bound", OF_BOUND.get(build)
        yield against(share, "s", one.seconds, "products", least.seconds, at_least=goal)
        yield against(f"{title}: the matmul-only bound", "s", least.seconds, who, other.seconds)
    yield against(f"{title}: memory", "B", [one.rise], who, [max(other.rise, 1)])


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all comparisons."""
    rounds, benchmark = options.rounds, called("clip-benchmark")
    size: tuple[object, ...]
    small: tuple[object, ...]
    title, size = f"retrieval, {options.images:,} x {CAPTIONS * options.images:,}", (options.images,)
    goal = {"at_least": 25} if options.images >= LARGE["retrieval"] else {}
    small = (min(options.images, 300),)
    yield from attempt(title, lambda: compare(title, build_retrieval, size, small, benchmark, rounds, 1e-6, **goal))
    for name in options.model:
        title = f"zero-shot head, {name}, {options.classes:,} classes x {TEMPLATES} prompts"
        goal = {"at_least": 7} if options.classes >= LARGE["classes"] else {}
        size, small, who = (name, options.classes), (name, 2), f"{benchmark}, {called('open_clip_torch')}"
        made = lambda: compare(title, build_head, size, small, who, rounds, 1e-5, **goal)  # noqa: B023, E731
        yield from attempt(title, made)
    title, size = f"linear probe, {options.probed:,} images of width {PROBED['width']}", (options.probed,)
    who = called("scikit-learn")
    yield from attempt(title, lambda: compare(title, build_probe, size, size, who, rounds, 0.02, at_most=1.5))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparisons by the options of the command line."""
    parser = arguments("evaluation", __doc__ or "")
    parser.add_argument("--images", type=int, default=LARGE["retrieval"], help="of retrieval (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=LARGE["classes"], help="of heads (default: %(default)s)")
    parser.add_argument(
        "--model", nargs="+", default=["small"], choices=list(BATCHES), help="of heads (default: small)"
    )
    parser.add_argument("--probed", type=int, default=4000, help="images of probes (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.dry:
        options.images, options.classes, options.probed, options.rounds = 20, 2, 400, 1
        options.model = ["dry"]
    publish(
        "evaluation", rows(options), options.results, {"rounds": options.rounds, "threads": 1, "precision": "float32"}
    )


if __name__ == "__main__":
    main()
