"""Measure training steps in bfloat16 on a GPU against open_clip's with `patch_dropout`, compiled, on the same GPU.

    python -m benchmarks.gpu                             # within eight minutes, what matters most first
    python -m benchmarks.gpu --models l16 --masks 0.5

Architecture, weights and loss are equal, as in benchmarks.steps, and so are the batches, in pinned memory. Ours runs as
in flip.train.__main__ with `train.compile`; large models also with `train.precision: float8`. A GPU cannot hold two
large models with their activations, so the forms run one after the other. Model-FLOP use: FLOPs of the products that
a step needs (flip.plan.step), without recomputation, for captions of that mean length, over the rate at which this GPU
multiplies large matrices in bfloat16.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch._dynamo

from benchmarks import steps
from benchmarks.harness import Form, Measured, Missing, called, measure, peer
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from flip.device import pick_device
from flip.plan.step import model_flops
from flip.train.compile import compile_blocks
from flip.train.work import work

# Pairs per step, most important model first: what open_clip's unmasked step can hold in 80 GB.
BATCHES = {"l16": 256, "b16": 512, "h14": 128, "s16": 1024, "dry": 4}
MASKS = [0.5, 0.75, 0.0]
WIDE = {"l16", "h14", "dry"}  # models whose products are large enough to gain from float8
CHECKED = 8  # pairs, for the check in float32
STEPS = 5  # of a round
SIDE = {"cuda": 8192, "cpu": 64}  # of the matrices that are multiplied
BACKEND = {"cuda": "inductor", "cpu": "eager"}


def finish() -> None:
    """Wait for the GPU, if one is used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def repeated(once: Callable[[], object]) -> Callable[[], object]:
    """Return a function that calls another one STEPS times, and waits for the GPU."""
    return lambda: ([once() for _ in range(STEPS)], finish())


def build(name: str, mask: float, who: str, device: str, precision: str = "bfloat16") -> Callable[[], object]:
    """Return a function that makes STEPS steps of flip or open_clip, compiled, after a first one.

    Raises:
        Missing: torch.compile does not work on this machine.
    """
    params = steps.parameters(name, mask, BATCHES[name], precision)
    pinned = torch.Tensor.pin_memory if device == "cuda" else torch.Tensor.contiguous
    batch = {key: pinned(tensor) for key, tensor in steps.make_batch(params).items()}
    side: steps.Ours | steps.Theirs
    if who == "flip":
        side = ours = steps.Ours(params, batch, device)
        compile_blocks(ours.run.model, device, BACKEND[device])
    else:
        side = theirs = steps.Theirs(params, batch, device, BACKEND[device])
        theirs.images, theirs.ids = pinned(theirs.images), pinned(theirs.ids)
    try:
        side.step()
    except torch._dynamo.exc.TorchDynamoException as error:
        raise Missing(f"{who} does not compile here: {str(error).splitlines()[0]}") from None
    return repeated(side.step)


def build_products(device: str) -> Callable[[], object]:
    """Return a function that multiplies two large square matrices STEPS times."""
    one, two = (torch.randn(SIDE[device], SIDE[device], dtype=torch.bfloat16, device=device) for _ in range(2))
    return repeated(lambda: one @ two)


def by_itself(build: Callable[..., Callable[[], object]], *arguments: object, rounds: int) -> Measured:
    """Measure a form that has the GPU to itself."""
    return measure({"it": Form(build, arguments, clock="wall")}, rounds)["it"]


def measured_rate(device: str, rounds: int) -> Row:
    """Return the row of FLOP/s of large products in bfloat16."""
    seconds = by_itself(build_products, device, rounds=rounds).seconds
    flops = STEPS * 2 * SIDE[device] ** 3
    return alone(f"bfloat16 products of side {SIDE[device]:,}", "FLOP/s", [flops / one for one in seconds])


def use(name: str, mask: float, seconds: list[float], rate: float) -> Row:
    """Return the row of the model-FLOP use; `rate` is the GPU's FLOP/s."""
    caption = (steps.WORDS[0] + steps.WORDS[1]) / 2
    flops = STEPS * model_flops(work(steps.parameters(name, mask, BATCHES[name], "bfloat16"), caption=caption))
    return alone(f"{title(name, mask)}: model-FLOP use", "", [flops / one / rate for one in seconds])


def title(name: str, mask: float) -> str:
    """Return the name of a comparison."""
    return f"{name}, mask {mask:.0%}, {BATCHES[name]:,} pairs"


def compare(name: str, mask: float, device: str, rate: float, rounds: int) -> Iterator[Row]:
    """Yield rows of one model at one mask ratio: model-FLOP use, time per pair and memory against open_clip's."""
    ours = by_itself(build, name, mask, "flip", device, rounds=rounds)
    yield use(name, mask, ours.seconds, rate)
    peer("open_clip")
    note, who = steps.check(name, mask, CHECKED, device), f"{called('open_clip_torch')}, compiled"
    gc.collect()  # memory of the check on the GPU
    torch.cuda.empty_cache()
    theirs, pairs = by_itself(build, name, mask, "open_clip", device, rounds=rounds), STEPS * BATCHES[name]
    yield against(f"{title(name, mask)}: a pair", "s", ours.seconds, who, theirs.seconds, per=pairs, note=note)
    if device == "cuda":
        yield against(f"{title(name, mask)}: memory", "B", [ours.rise], who, [theirs.rise])


def compare_float8(name: str, mask: float, device: str, rounds: int) -> Iterator[Row]:
    """Yield the row of our time per pair in float8 against ours in bfloat16."""
    peer("torchao.float8")
    eight, sixteen = (
        by_itself(build, name, mask, "flip", device, precision, rounds=rounds) for precision in ("float8", "bfloat16")
    )
    pairs = STEPS * BATCHES[name]
    yield against(f"{title(name, mask)}: a pair in float8", "s", eight.seconds, "bfloat16", sixteen.seconds, per=pairs)


def comparisons(
    options: argparse.Namespace, device: str, rate: float
) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Yield name and rows of each comparison, most important first."""
    for name in options.models:
        for mask in options.masks:
            yield title(name, mask), partial(compare, name, mask, device, rate, options.rounds)
        if name in WIDE:
            for mask in options.masks:
                what = partial(compare_float8, name, mask, device, options.rounds)
                yield f"{title(name, mask)}: a pair in float8", what


def rows(options: argparse.Namespace, device: str) -> Iterator[Row]:
    """Yield the rows of all comparisons that start within the budget."""
    begin, rate = time.monotonic(), measured_rate(device, options.rounds)
    yield rate
    assert rate.ours is not None
    for name, what in comparisons(options, device, rate.ours):
        if time.monotonic() - begin < options.budget:
            yield from attempt(name, what)
        else:
            yield Row(name, missing=f"{options.budget} seconds were over; --budget gives more")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparisons by the options of the command line."""
    parser = arguments("gpu", __doc__ or "")
    models = [name for name in BATCHES if name != "dry"]
    parser.add_argument("--models", nargs="+", default=models, choices=models, help="in this order (default: all)")
    parser.add_argument("--masks", type=float, nargs="+", default=MASKS, help="in this order (default: 0.5 0.75 0)")
    parser.add_argument("--budget", type=int, default=480, help="seconds after which no other begins (default: 480)")
    options, device = parser.parse_args(argv), pick_device()
    if options.dry:
        options.models, options.masks, options.rounds = ["dry"], [0.5], 1
    elif device == "cpu":
        parser.exit(1, "no GPU here; allowed: a machine with one, or --dry, which shows that it runs\n")
    how = {"rounds": options.rounds, "precision": "bfloat16", "steps of a round": STEPS}
    publish("gpu", rows(options, device), options.results, how)


if __name__ == "__main__":
    main()
