"""Log the curves of a training to TensorBoard or Weights & Biases, where the environment names a folder for them.

    FLIP_TENSORBOARD=tensorboard snakemake ablations
    tensorboard --logdir tensorboard
    FLIP_WANDB=. snakemake ablations
    wandb sync wandb/offline-run-*

No result depends on it: so it is no parameter, stands in no receipt, and nothing of it is imported unless it is asked
for. Nothing is sent anywhere: W&B's runs are offline until they are synchronised, one run per training, which keeps its
id over restarts.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

TENSORBOARD, WANDB = "FLIP_TENSORBOARD", "FLIP_WANDB"
PACKAGES = {TENSORBOARD: "tensorboard", WANDB: "wandb"}


class LoggedRun(Protocol):
    """Describe what is read of a run (flip.train.step.TrainingRun)."""

    params: Any
    seed: int
    group: Any
    log: list[dict]
    latest: dict[str, Any]

    @property
    def seen(self) -> int: ...


def requested_folders() -> dict[str, Path]:
    """Map the variables that are set to the folders that they name."""
    return {name: Path(os.environ[name]) for name in PACKAGES if os.environ.get(name)}


def writable(folder: Path) -> bool:
    """Tell whether files can be written in a folder, or the folder can be made."""
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    return place.is_dir() and os.access(place, os.W_OK)


def find_problem() -> str | None:
    """Explain why curves cannot be logged, though they are asked for; None where they can."""
    for name, folder in requested_folders().items():
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            return f"{name} is set, and the package {package} is not installed: `pip install {package}`, or unset it"
        if not writable(folder):
            return f"{name}: {folder} cannot be written; name another folder, or unset it"
    return None


def scalars(row: dict, losses: Iterable[str]) -> dict[str, float]:
    """Map a row of the log to its tags and values; `losses` are the names of its loss terms."""
    tags = {"loss": "loss/sum"} | {name: f"loss/{name}" for name in losses}
    tags |= {name: name for name in ("lr", "bias", "samples_per_second")}
    found = {tag: row[name] for name, tag in tags.items() if name in row}
    return found | ({"temperature": 1 / row["scale"]} if "scale" in row else {})


@contextmanager
def tensorboard(root: Path, run: LoggedRun) -> Iterator[Callable[[dict], None]]:
    """Give a function that logs values; rows after the resumed checkpoint, which a killed process had written, are
    purged."""
    from torch.utils.tensorboard import SummaryWriter  # late: it takes a second

    params = run.params
    folder = root / params.scale / params.variant / f"seed-{run.seed}"
    with SummaryWriter(str(folder), purge_step=run.seen + 1) as writer:

        def write(values: dict) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, run.seen)
            writer.flush()  # what a checkpoint remembers must not be lost with the process

        yield write


@contextmanager
def wandb(root: Path, run: LoggedRun) -> Iterator[Callable[[dict], None]]:
    """Give a function that logs values to an offline run; W&B itself leaves out steps that it has already."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # its own faults, which it would report over the network
    import wandb as package

    params = run.params
    name = f"{params.scale}/{params.variant}/seed-{run.seed}"
    root.mkdir(parents=True, exist_ok=True)
    settings = package.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    one = package.init(
        project="flip", name=name, id=sha256(f"{root.resolve()}/{name}".encode()).hexdigest()[:16], mode="offline",
        dir=str(root), config=params.model_dump(mode="json"), settings=settings,
    )  # fmt: skip
    with one:
        yield lambda values: one.log(values, step=run.seen)


WRITERS = {TENSORBOARD: tensorboard, WANDB: wandb}


@contextmanager
def board(run: LoggedRun) -> Iterator[Callable[[], None]]:
    """Give a function that logs the newest row of a run's log, if that is asked for, against samples seen.

    Raises:
        ValueError: as `fault` says.
    """
    places = requested_folders() if run.group.first else {}
    if places and (problem := find_problem()):
        raise ValueError(problem)
    with ExitStack() as stack:
        writers = [stack.enter_context(WRITERS[name](folder, run)) for name, folder in places.items()]

        def write() -> None:
            if writers:
                values = scalars(run.log[-1], run.latest)
                for one in writers:
                    one(values)

        yield write
