"""Training steps in bfloat16 on a GPU against open_clip's with `patch_dropout`, compiled, on the same one.

    python -m benchmarks.gpu                             # within eight minutes, what matters most first
    python -m benchmarks.gpu --models l16 --masks 0.5

Form, weights and loss are equal, as in benchmarks.steps, and so are the batches, which lie in pinned memory. Ours is
as flip.train.__main__ runs it with `train.compile`; large models also with `train.precision: float8`. A GPU does not
hold two
large models with their activations, so each form has it to itself, one after the other. Model-FLOP use: products that
the step needs (flip.plan.step), none of them counted twice, for captions of that mean length, over the rate at which
this GPU multiplies large matrices in bfloat16.
"""

import gc
import time
from functools import partial

import torch
import torch._dynamo

from benchmarks import steps
from benchmarks.harness import Form, Measured, Missing, called, measure, peer
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from flip.device import pick_device
from flip.plan.step import model_flops
from flip.plan.work import work
from flip.train.compile import compile_blocks

# Pairs per step, most important first: what open_clip's unmasked step holds in 80 GB.
BATCHES = {"l16": 256, "b16": 512, "h14": 128, "s16": 1024, "dry": 4}
MASKS = [0.5, 0.75, 0.0]
WIDE = {"l16", "h14", "dry"}  # models whose products are large enough for float8 to gain anything
CHECKED = 8  # pairs, for the check in float32
STEPS = 5  # of a round
SIDE = {"cuda": 8192, "cpu": 64}  # of the matrices that are multiplied
BACKEND = {"cuda": "inductor", "cpu": "eager"}


def finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def repeated(once):
    """A function that does something STEPS times, and waits for it."""
    return lambda: ([once() for _ in range(STEPS)], finish())


def build(name: str, mask: float, who: str, device: str, precision: str = "bfloat16"):
    """STEPS steps of flip or open_clip, compiled; one has been made, so that the optimizer has its state, too.

    Raises:
        Missing: torch.compile does not work here.
    """
    params = steps.parameters(name, mask, BATCHES[name], precision)
    pinned = torch.Tensor.pin_memory if device == "cuda" else torch.Tensor.contiguous
    batch = {key: pinned(tensor) for key, tensor in steps.make_batch(params).items()}
    if who == "flip":
        side = steps.Ours(params, batch, device)
        compile_blocks(side.run.model, device, BACKEND[device])
    else:
        side = steps.Theirs(params, batch, device, BACKEND[device])
        side.images, side.ids = pinned(side.images), pinned(side.ids)
    try:
        side.step()
    except torch._dynamo.exc.TorchDynamoException as error:
        raise Missing(f"{who} does not compile here: {str(error).splitlines()[0]}") from None
    return repeated(side.step)


def build_products(device: str):
    """Of two large square matrices."""
    one, two = (torch.randn(SIDE[device], SIDE[device], dtype=torch.bfloat16, device=device) for _ in range(2))
    return repeated(lambda: one @ two)


def by_itself(function, *arguments, rounds: int) -> Measured:
    """A form that has the GPU to itself."""
    return measure({"it": Form(function, arguments, clock="wall")}, rounds)["it"]


def measured_rate(device: str, rounds: int) -> Row:
    """FLOP/s of large products in bfloat16."""
    seconds = by_itself(build_products, device, rounds=rounds).seconds
    flops = STEPS * 2 * SIDE[device] ** 3
    return alone(f"bfloat16 products of side {SIDE[device]:,}", "FLOP/s", [flops / one for one in seconds])


def use(name: str, mask: float, seconds: list[float], rate: float) -> Row:
    """Share of the GPU's rate that the products of the model take."""
    caption = (steps.WORDS[0] + steps.WORDS[1]) / 2
    flops = STEPS * model_flops(work(steps.parameters(name, mask, BATCHES[name], "bfloat16"), caption=caption))
    return alone(f"{title(name, mask)}: model-FLOP use", "", [flops / one / rate for one in seconds])


def title(name: str, mask: float) -> str:
    return f"{name}, mask {mask:.0%}, {BATCHES[name]:,} pairs"


def compare(name: str, mask: float, device: str, rate: float, rounds: int):
    """Rows of one model at one mask: what ours makes of the GPU, then time per pair and memory against open_clip's."""
    ours = by_itself(build, name, mask, "flip", device, rounds=rounds)
    yield use(name, mask, ours.seconds, rate)
    peer("open_clip")
    note, who = steps.check(name, mask, CHECKED, device), f"{called('open_clip_torch')}, compiled"
    gc.collect()  # what the check has held on the GPU
    torch.cuda.empty_cache()
    theirs, pairs = by_itself(build, name, mask, "open_clip", device, rounds=rounds), STEPS * BATCHES[name]
    yield against(f"{title(name, mask)}: a pair", "s", ours.seconds, who, theirs.seconds, per=pairs, note=note)
    if device == "cuda":
        yield against(f"{title(name, mask)}: memory", "B", [ours.rise], who, [theirs.rise])


def compare_float8(name: str, mask: float, device: str, rounds: int):
    """The row of our own time per pair in float8 against ours in bfloat16."""
    peer("torchao.float8")
    eight, sixteen = (
        by_itself(build, name, mask, "flip", device, precision, rounds=rounds) for precision in ("float8", "bfloat16")
    )
    pairs = STEPS * BATCHES[name]
    yield against(f"{title(name, mask)}: a pair in float8", "s", eight.seconds, "bfloat16", sixteen.seconds, per=pairs)


def comparisons(options, device: str, rate: float):
    """Name and rows of each, most important first."""
    for name in options.models:
        for mask in options.masks:
            yield title(name, mask), partial(compare, name, mask, device, rate, options.rounds)
        if name in WIDE:
            for mask in options.masks:
                what = partial(compare_float8, name, mask, device, options.rounds)
                yield f"{title(name, mask)}: a pair in float8", what


def rows(options, device: str):
    begin, rate = time.monotonic(), measured_rate(device, options.rounds)
    yield rate
    for name, what in comparisons(options, device, rate.ours):
        if time.monotonic() - begin < options.budget:
            yield from attempt(name, what)
        else:
            yield Row(name, missing=f"{options.budget} seconds were over; --budget gives more")


def main(argv=None):
    parser = arguments("gpu", __doc__)
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
