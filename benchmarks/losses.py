"""Time and memory of the contrastive losses, forward and backward, against open_clip's.

    python -m benchmarks.losses                          # 256 to 4,096 pairs: a minute or two on one core
    python -m benchmarks.losses --pairs 16384 --rounds 3 --forms open_clip tiles floor --out losses.json
    python -m benchmarks.losses --pairs 8192 16384 32768 --losses sigmoid --forms tiles --rounds 1

The forms take turns, round by round, so that a noisy machine slows them all. Seconds are CPU seconds: the median over
rounds, with smallest and largest. Memory is the rise of the peak in a process of its own per form. Both are also given
against the first form, times as the median of the rounds' ratios. The floor is what the tiled form's matrix products
alone take (four for InfoNCE, three for the sigmoid), measured as one more form in the same rounds. The timed process
keeps freed memory, as training does; with --trim each large tensor costs its page faults, as it does in programs that
leave the allocator alone.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import flip.torchvision_operators  # noqa: F401  (before open_clip, which imports torchvision)
from flip.device import keep_memory
from flip.files import write_json
from flip.objectives import contrastive, sigmoid
from flip.objectives.blocks import SIDE, strips
from flip.provenance import processor

LOSSES = ["InfoNCE", "sigmoid"]
FORMS = ["open_clip", "whole", "tiles", "floor"]


@torch.no_grad()
def products(image, text, count: int) -> None:
    """Nothing but `count` products of the batch's size, tile by tile."""
    for rows in strips(len(image), SIDE["cpu"]):
        for columns in strips(len(text), SIDE["cpu"]):
            for _ in range(count):
                image[rows] @ text[columns].T


def forms() -> dict[str, dict]:
    """Loss -> form -> function of image, text, scale and bias."""
    from open_clip.loss import ClipLoss, SigLipLoss

    return {
        "InfoNCE": {
            "open_clip": lambda image, text, scale, bias: ClipLoss()(image, text, scale),
            "whole": lambda image, text, scale, bias: contrastive.whole(image, text, scale),
            "tiles": lambda image, text, scale, bias: contrastive.info_nce(image, text, scale, SIDE["cpu"]),
            "floor": lambda image, text, scale, bias: products(image, text, 4),
        },
        "sigmoid": {
            "open_clip": SigLipLoss(),
            "whole": sigmoid.whole,
            "tiles": lambda *inputs: sigmoid.pairwise_sigmoid(*inputs, SIDE["cpu"]),
            "floor": lambda image, text, scale, bias: products(image, text, 3),
        },
    }


def features(pairs: int, width: int) -> list[torch.Tensor]:
    """Image and text features of unit length, scale and bias."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(pairs, width, generator=generator), dim=1) for _ in range(2))
    return [x.requires_grad_() for x in (image, text, torch.tensor(1 / 0.07), torch.tensor(-10.0))]


def run(form, inputs) -> None:
    for x in inputs:
        x.grad = None
    loss = form(*inputs)
    if loss is not None:
        loss.backward()


def seconds(form, inputs) -> float:
    begin = time.process_time()
    run(form, inputs)
    return time.process_time() - begin


def rounds_of(named: dict, inputs, rounds: int) -> dict[str, list[float]]:
    """CPU seconds per form and round, the forms in turn, after one round that warms up."""
    spent = {name: [] for name in named}
    for number in range(rounds + 1):
        for name, form in named.items():
            taken = seconds(form, inputs)
            if number:
                spent[name].append(taken)
    return spent


def peak() -> int:
    """Most bytes of memory that this process held since it began; getrusage would count its parent's."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def peak_rise(function) -> int:
    """Bytes by which a call raises the peak of this process."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = peak()
    function()
    return peak() - before


def _send(sender, function, arguments) -> None:
    torch.set_num_threads(1)
    sender.send(function(*arguments))


def memory_of(function, *arguments) -> int:
    """What a function of some module says of its memory, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__}{arguments} did not end (out of memory?)") from None
    finally:
        child.join()


def _rise(loss: str, name: str, pairs: int, width: int) -> int:
    """Bytes by which one forward and backward raises the peak."""
    form = forms()[loss][name]
    run(form, features(8, width))  # what a first call loads is not the batch's
    inputs = features(pairs, width)
    return peak_rise(lambda: run(form, inputs))


def measure(pairs: int, width: int, rounds: int, losses: list[str], chosen: list[str]) -> list[dict]:
    """One row per loss and chosen form."""
    rows = []
    for loss in losses:
        named = {name: forms()[loss][name] for name in chosen}
        rise = {name: memory_of(_rise, loss, name, pairs, width) for name in named if name != "floor"}
        spent = rounds_of(named, features(pairs, width), rounds)
        for name, times in spent.items():
            ratios = [a / b for a, b in zip(times, spent[chosen[0]], strict=True)]
            row = {"pairs": pairs, "loss": loss, "form": name, "seconds": times, "ratio": statistics.median(ratios)}
            memory_ratio = rise[name] / rise[chosen[0]] if {name, chosen[0]} <= rise.keys() else None
            rows.append(row | {"memory_rise_bytes": rise.get(name), "memory_ratio": memory_ratio})
    return rows


def markdown(rows: list[dict]) -> str:
    against = f"against {rows[0]['form']}"
    lines = [f"| pairs | loss | form | CPU seconds (smallest-largest) | {against} | memory rise | {against} |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        times, rise = row["seconds"], row["memory_rise_bytes"]
        spread = f"{statistics.median(times):.4g} ({min(times):.4g}-{max(times):.4g})"
        size = "" if rise is None else f"{rise / 2**20:.0f} MB"
        share = "" if row["memory_ratio"] is None else f"{row['memory_ratio']:.3f}"
        cells = [f"{row['pairs']:,}", row["loss"], row["form"], spread, f"{row['ratio']:.2f}", size, share]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096], help="batch sizes")
    parser.add_argument("--width", type=int, default=512, help="width of the features (default: 512)")
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES, help="which of them (default: both)")
    parser.add_argument(
        "--forms", nargs="+", default=FORMS, choices=FORMS, help="the others are compared with the first (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median counts (default: 5)")
    parser.add_argument("--trim", action="store_true", help="leave freed memory to the allocator, unlike flip.pretrain")
    parser.add_argument("--out", help="JSON file for every round's figures")
    options = parser.parse_args(argv)
    if not options.trim:
        keep_memory()
    torch.set_num_threads(1)
    how = (options.width, options.rounds, options.losses, options.forms)
    rows = [row for pairs in options.pairs for row in measure(pairs, *how)]
    print(markdown(rows))
    if options.out:
        facts = {
            "processor": processor(),
            "torch": torch.__version__,
            "threads": 1,
            "width": options.width,
            "trim": options.trim,
        }
        write_json(options.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
