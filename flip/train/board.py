"""Curves of a training for TensorBoard, where the environment names a folder for them:

    FLIP_TENSORBOARD=tensorboard snakemake ablations
    tensorboard --logdir tensorboard

It is a wish of whoever looks on, and nothing that a result is made from: so it is no parameter, stands in no receipt,
and nothing of it is imported unless it is asked for.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "FLIP_TENSORBOARD"


def fault() -> str | None:
    """Why there can be no curves, though they are asked for."""
    if os.environ.get(FOLDER) and importlib.util.find_spec("tensorboard") is None:
        return f"{FOLDER} is set, and the package tensorboard is not installed: `pip install tensorboard`, or unset it"
    return None


def scalars(row: dict, losses) -> dict[str, float]:
    """A row of the log by TensorBoard's tags; `losses` are the names of its loss terms."""
    tags = {"loss": "loss/sum"} | {name: f"loss/{name}" for name in losses}
    tags |= {name: name for name in ("lr", "bias", "samples_per_second")}
    found = {tag: row[name] for name, tag in tags.items() if name in row}
    return found | ({"temperature": 1 / row["scale"]} if "scale" in row else {})


@contextmanager
def board(run) -> Iterator[Callable[[], None]]:
    """A function that writes the newest row of a run's log, if that is asked for, against samples seen.

    The run may go on from a checkpoint: what a process that was killed had written after it no longer counts.

    Raises:
        ValueError: the package is not installed.
    """
    root = os.environ.get(FOLDER)
    if not (root and run.world.first):
        yield lambda: None
        return
    if problem := fault():
        raise ValueError(problem)
    from torch.utils.tensorboard import SummaryWriter  # late: it takes a second

    params = run.params
    folder = Path(root) / params.scale / params.variant / f"seed-{run.seed}"
    with SummaryWriter(str(folder), purge_step=run.seen + 1) as writer:

        def write() -> None:
            for tag, value in scalars(run.log[-1], run.latest).items():
                writer.add_scalar(tag, value, run.seen)
            writer.flush()  # what a checkpoint remembers must not be lost with the process

        yield write
