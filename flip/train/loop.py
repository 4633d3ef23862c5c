"""Train one variant with one seed: from frozen parameters and shards to weights, resumed as often as need be."""

import csv
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from flip.config.schema import Params
from flip.data.feature_cache import FeatureCache
from flip.data.manifest import first_pairs
from flip.data.selection import Selection
from flip.device import FromDevice, device_name
from flip.files import write_atomic, write_json
from flip.model.lora import merged
from flip.model.two_towers import TwoTowers
from flip.model.weights import FACTS, load_weights, serialize
from flip.train.checkpoint import Checkpoints
from flip.train.guards import Interrupted, Stop, Watchdog, record_skipped, stoppable
from flip.train.loggers import board
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model, count_steps

LOG_ROWS = 200  # per run, however long it is


class Trainer:
    """Run what surrounds the steps of a run: log, progress bar, checkpoints, requests to stop, values that are not
    finite."""

    def __init__(
        self,
        run: TrainingRun,
        checkpoints: Checkpoints,
        notes: Path,
        stop: Stop,
        watchdog: Watchdog,
        draw: Callable[[], None],
    ):
        self.run, self.checkpoints, self.stop, self.watchdog = run, checkpoints, stop, watchdog
        train = run.params.train
        self.batch, self.every = train.global_batch, max(run.steps // LOG_ROWS, 1)
        self.notes, self.draw = notes, draw
        # Whether the last step was skipped, samples before it, its losses.
        self.last: tuple[FromDevice, int, dict[str, torch.Tensor]] | None = None
        self.before = run.seconds
        self.began = self.saved = self.logged = time.monotonic()

    def progress(self) -> tqdm:
        """Build the progress bar, in samples."""
        interval = 0.5 if sys.stderr.isatty() else 30
        options: dict[str, Any] = {
            "unit": "sample",
            "unit_scale": True,
            "mininterval": interval,
            "disable": not self.run.group.first,
        }
        return tqdm(total=self.run.steps * self.batch, initial=self.run.seen, **options)

    def is_due(self) -> bool:
        """Tell whether a checkpoint is due after the current step, by samples or by the first process's clock."""
        train, seen = self.run.params.train, self.run.seen
        if every := train.checkpoint_samples:
            return (seen + self.batch) // every > seen // every
        return time.monotonic() - self.saved > 60 * train.checkpoint_minutes

    def agree(self, *flags: bool) -> list[bool]:
        """Reduce flags over the processes: each is True where any process raises it."""
        return self.run.group.max(torch.tensor(flags, dtype=torch.uint8)).bool().tolist()

    def step(self, data: dict) -> tuple[bool, bool]:
        """Run one step; return whether a checkpoint is due, and whether to stop after it."""
        run = self.run
        losses = run.gradients(data)
        self.check_last_step()
        stop, due = self.agree(bool(self.stop), run.group.first and self.is_due())
        seen = run.seen
        self.last = FromDevice(run.update(losses)), seen, losses
        return due or stop, stop

    def check_last_step(self) -> None:
        """Record the last step if it was skipped.

        This is asked only when the next step has been queued, so that the device need not wait for this process between
        them.
        """
        if not self.last:
            return
        (spoilt, seen, losses), self.last = self.last, None
        if spoilt():
            run = self.run
            keys = run.loader.keys(seen + run.group.rank * run.local_pairs, run.local_pairs)
            named = {name: loss.item() for name, loss in losses.items()}
            path = self.notes / f"nonfinite-{seen}-{run.group.rank}.json"
            record_skipped(seen, named, keys, path, run.skipped, run.params.train.skip_nonfinite)
            run.skipped += 1

    def finish(self, bar: tqdm) -> None:
        """Update the progress bar and, where one is due, add a row to the log."""
        bar.update(self.batch)
        run, now = self.run, time.monotonic()
        run.seconds = self.before + now - self.began
        if run.done % self.every == 0 or run.done == run.steps:
            row = run.record(run.latest, self.every * self.batch / max(now - self.logged, 1e-9))
            self.draw()
            bar.set_postfix({name: row[name] for name in ("loss", "scale") if name in row}, refresh=False)
            self.logged = now

    def save(self) -> None:
        """Start to write a checkpoint."""
        self.check_last_step()
        self.watchdog.begin("writing a checkpoint")
        self.checkpoints.save(self.run.seen, self.run.state())
        self.saved = time.monotonic()


def resume(run: TrainingRun, checkpoints: Checkpoints) -> None:
    """Restore a run from its newest readable checkpoint, if there is one.

    Raises:
        ValueError: none of the checkpoints can be read, or processes do not read the same one.
    """
    state = checkpoints.newest()
    done = state["done"] if state else 0
    most, least = run.group.max(torch.tensor([done, -done])).tolist()
    if most != -least:
        raise ValueError(
            f"{checkpoints.folder}: some processes would go on from step {most}, others from step {-least}; it must "
            "lie on a disk that all of them share; delete it to train from the start"
        )
    if state:
        run.restore(state)


def train(run: TrainingRun, checkpoints: Checkpoints, notes: Path) -> None:
    """Train to the end, resuming from the newest checkpoint; `notes` is a folder for records of skipped steps.

    Raises:
        Interrupted: it was asked to stop; the next call resumes from there.
        ValueError: losses that are not finite, too often, or no room for a checkpoint.
    """
    resume(run, checkpoints)
    with board(run) as draw, stoppable() as stop, Watchdog(run.params.train.stall_minutes) as watchdog:
        trainer = Trainer(run, checkpoints, notes, stop, watchdog, draw)
        batches, bar = run.batches(), trainer.progress()
        while run.done < run.steps:
            watchdog.begin(f"loading the batch after {run.seen} samples")
            data = next(batches)
            watchdog.begin(f"the step after {run.seen} samples")
            due, stopped = trainer.step(data)
            trainer.finish(bar)
            if due:
                trainer.save()
            if stopped and run.done < run.steps:
                checkpoints.wait()
                run.group.barrier()  # who starts several processes ends all when the first one ends
                raise Interrupted(f"stopped after {run.seen} samples; start again to resume")
        trainer.check_last_step()
        batches.close()
        bar.close()
    checkpoints.wait()


def log_csv(rows: list[dict]) -> str:
    """Format the rows of a log as CSV."""
    text, names = io.StringIO(), dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True)
class Begin:
    """Describe what a run begins with besides its data.

    start: file of weights (unmasked tuning). tokenizer: file of the tokenizer that these were trained with, where it is
    not the data's. image_tower, text_tower: files of weights whose tower is taken. features: what a locked image tower
    gives for all images. selection: file that says which pairs are trained on.
    """

    start: Path | None = None
    tokenizer: Path | None = None
    image_tower: Path | None = None
    features: FeatureCache | None = None
    text_tower: Path | None = None
    selection: Path | None = None

    def load(self, model: TwoTowers) -> None:
        """Load the weights into a model.

        Raises:
            ValueError: they have another shape.
        """
        if self.start:
            load_weights(self.start, model, strict=False, optional=model.beside_towers, resample=True)
        if self.image_tower:
            projection = () if model.params.image_tower.has_lower_lr else ("image_projection",)
            load_weights(self.image_tower, model.image_tower, strict=False, optional=projection)
        if self.text_tower:
            load_weights(self.text_tower, model.text_tower, strict=False, optional=["text_projection"])


def _facts(run: TrainingRun, state: dict, parameters: int, manifest: dict, images: int, began: datetime) -> dict:
    """Say what a finished training was: where, with what and how long."""
    facts = {"samples": run.seen, "steps": run.done, "seconds": round(run.seconds, 1), "loss": run.log[-1]["loss"]}
    facts |= {
        "parameters": parameters,
        "broken_images": state["broken"],
        "skipped_steps": run.skipped,
        "seed": run.seed,
    }
    facts |= {"device": device_name(run.group.device), "processes": run.group.size, "threads": torch.get_num_threads()}
    facts |= {"manifest": manifest["id"], "pairs": manifest["pairs"], "images": images}
    facts |= {"start": began.isoformat(timespec="seconds"), "end": datetime.now(UTC).isoformat(timespec="seconds")}
    return facts


def pretrain(
    params: Params, data: Path, manifest: dict, seed: int, group: ProcessGroup, checkpoints: Path, out: Path,
    begin: Begin,
) -> None:  # fmt: skip
    """Train one variant with one seed; the first process writes log.csv, training.json and weights.safetensors (last)
    to `out`.

    Raises:
        Interrupted: it was asked to stop, and resumes when called again.
        ValueError: parameters that do not fit the data or the initial weights, or losses that are not finite.
    """
    began = datetime.now(UTC)
    chosen = first_pairs(manifest, params.train.pairs(manifest["samples"]))
    selection = Selection(begin.selection, chosen, params.train.global_batch) if begin.selection else None
    files = begin.tokenizer, begin.features
    loader = build_loader(params, data, chosen, seed, *files, group.device, selection=selection)
    assert loader.captions is not None
    tokens = loader.captions.tokens
    tokens.encode(group.rank, group.size, params.train.workers)
    steps = count_steps(params, manifest["samples"])
    model = build_model(params, tokens.tokenizer.vocabulary, seed, group.device)
    begin.load(model)
    parameters = sum(p.numel() for p in model.parameters())
    run = TrainingRun(params, loader, model, steps, seed, group, data)
    train(run, Checkpoints(checkpoints, params.train.keep_checkpoints, group.first), out)
    state = run.state()
    if not group.first:
        return
    write_atomic(out / "log.csv", log_csv(run.log))
    images = int(selection.counts.sum()) if selection else chosen["samples"]
    facts = _facts(run, state, parameters, manifest, images, began)
    facts |= {"curation": selection.facts["ledger"]} if selection else {}
    weights = serialize(merged(state["model"], params.train.lora))
    write_json(out / FACTS, facts | {"weights": sha256(weights).hexdigest()})
    write_atomic(out / "weights.safetensors", weights)
