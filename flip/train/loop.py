"""One training run: from frozen parameters and shards to weights, restarted as often as need be.

Everything random is a function of the seed and the position in the training order, so a run that was killed and
continued ends with the weights of one that was not.
"""

import csv
import io
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from tqdm import tqdm

from flip.data.loader import Loader
from flip.data.tokenizer import Tokenizer
from flip.files import write_atomic, write_json
from flip.model.two_towers import TwoTowers
from flip.objectives import named_losses, objectives
from flip.provenance import processor
from flip.schema import Params
from flip.train.accumulate import backward_in_parts
from flip.train.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from flip.train.optimizer import build_optimizer, learning_rate

LOG_ROWS = 200  # per run, however long it is


class Interrupted(Exception):
    """SIGTERM arrived; a checkpoint is written."""


def build_loader(params: Params, data: Path, manifest: dict, seed: int) -> Loader:
    """The training pairs of `data` in their order."""
    tokenizer = Tokenizer(data / "tokenizer.json", params.model.tokens, params.captions)
    window = params.train.shuffle_shards
    return Loader(manifest, data / "shards", tokenizer, params.model.image, params.augmentation, seed, window)


def build_model(params: Params, vocabulary: int, seed: int, device) -> TwoTowers:
    """Freshly initialised; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TwoTowers(params, vocabulary).to(device)


def count_steps(params: Params, samples: int) -> int:
    """Steps of the whole run over `samples` pairs.

    Raises:
        ValueError: a batch larger than the data, or a warm-up that never ends.
    """
    train = params.train
    if train.global_batch > samples:
        raise ValueError(
            f"train.batch x train.batch_scale = {train.global_batch} is larger than the data ({samples} pairs); "
            f"allowed: 1 to {samples}; lower train.batch or download more"
        )
    steps = max(int(train.total_epochs * samples) // train.global_batch, 1)
    if train.warmup_samples >= steps * train.global_batch:
        raise ValueError(
            f"train.warmup_samples = {train.warmup_samples} is not less than the run's {steps * train.global_batch} "
            "samples; lower it or raise train.epochs"
        )
    return steps


class Run:
    """A model in training: `step` advances it, `state` and `restore` carry it over a restart."""

    def __init__(self, params: Params, loader: Loader, model: TwoTowers, steps: int, seed: int):
        self.params, self.loader, self.model, self.steps, self.seed = params, loader, model, steps, seed
        self.device = model.log_scale.device
        self.optimizer = build_optimizer(model, params.train)
        self.objectives = objectives(params)
        self.done = 0
        self.log: list[dict] = []
        self.seconds = 0.0

    @property
    def seen(self) -> int:
        return self.done * self.params.train.global_batch

    def batches(self):
        train = self.params.train
        return self.loader.batches(self.seen, train.global_batch, train.workers)

    def outputs(self, batch: dict, decode: bool = True) -> dict[str, torch.Tensor]:
        """What the objectives need of a batch on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.params.train.precision == "bfloat16"):
            return self.model(batch, self.seed, decode)

    def losses(self, batch: dict) -> dict[str, torch.Tensor]:
        """Named, weighted losses of a batch on the device."""
        return named_losses(self.objectives, batch, self.outputs(batch))

    def backward(self, batch: dict) -> dict[str, torch.Tensor]:
        """Adds a batch's gradients to those of the parameters; returns the detached losses."""
        if self.params.train.micro_batch:
            return backward_in_parts(self.outputs, self.objectives, batch, self.params.train.micro_batch)
        losses = self.losses(batch)
        sum(losses.values()).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def step(self, batch: dict) -> dict[str, torch.Tensor]:
        """One optimizer step; returns the detached losses."""
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        train = self.params.train
        total = self.steps * train.global_batch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, self.seen + train.global_batch, total)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.backward(batch)
        self.optimizer.step()
        self.done += 1
        return losses

    def record(self, losses: dict[str, torch.Tensor], rate: float) -> dict:
        """One row of the log.

        Raises:
            ValueError: a loss that is not finite.
        """
        named = {name: round(loss.item(), 5) for name, loss in losses.items()}
        loss = sum(losses.values()).item()
        if not loss < float("inf"):
            raise ValueError(
                f"the loss is {loss} after {self.seen} samples; lower train.base_lr, or look at the pictures around "
                "there, then start again: training goes on from the last checkpoint"
            )
        row = {"samples": self.seen, "loss": round(loss, 5), **named}
        row |= {"lr": self.optimizer.param_groups[0]["lr"], "scale": round(self.model.scale.item(), 3)}
        self.log.append(row | {"samples_per_second": round(rate, 1)})
        return row

    def state(self) -> dict:
        names = ("done", "log", "seconds")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state | {name: getattr(self, name) for name in names} | {"broken": self.loader.broken}

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.log, self.seconds = state["done"], state["log"], state["seconds"]
        self.loader.broken = state["broken"]


def train(run: Run, checkpoints: Path) -> None:
    """Runs to the end from wherever the newest checkpoint stands.

    Raises:
        Interrupted: SIGTERM arrived; the next call goes on from there.
    """
    if state := load_checkpoint(checkpoints, run.device):
        run.restore(state)
    stop = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    batch, every = run.params.train.global_batch, max(run.steps // LOG_ROWS, 1)
    interval = 0.5 if sys.stderr.isatty() else 30
    bar = tqdm(total=run.steps * batch, initial=run.seen, unit="sample", unit_scale=True, mininterval=interval)
    before = run.seconds
    began = saved = logged = time.monotonic()
    for data in run.batches():
        if run.done == run.steps:
            break
        losses = run.step(data)
        bar.update(batch)
        now = time.monotonic()
        run.seconds = before + now - began
        if run.done % every == 0 or run.done == run.steps:
            row = run.record(losses, every * batch / max(now - logged, 1e-9))
            bar.set_postfix(loss=row["loss"], scale=row["scale"], refresh=False)
            logged = now
        if stop or now - saved > 60 * run.params.train.checkpoint_minutes:
            save_checkpoint(checkpoints, run.state())
            saved = now
        if stop:
            raise Interrupted(f"stopped by SIGTERM after {run.seen} samples; start again to go on from there")
    bar.close()
    signal.signal(signal.SIGTERM, previous)


def log_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def pretrain(params: Params, data: Path, manifest: dict, seed: int, device, checkpoints: Path, out: Path, start=None):
    """Trains one variant with one seed and writes log.csv, training.json and weights.safetensors (last) to `out`.

    `start` names weights to begin with (unmasked tuning).

    Raises:
        ValueError: parameters that do not fit the data or the start weights, or a loss that is not finite.
    """
    began = datetime.now(UTC)
    loader = build_loader(params, data, manifest, seed)
    steps = count_steps(params, manifest["samples"])
    model = build_model(params, loader.tokenizer.vocabulary, seed, device)
    if start:
        load_weights(start, model, strict=False)
    run = Run(params, loader, model, steps, seed)
    train(run, checkpoints)
    write_atomic(out / "log.csv", log_csv(run.log))
    facts = {"samples": run.seen, "steps": run.done, "seconds": round(run.seconds, 1), "loss": run.log[-1]["loss"]}
    facts |= {"parameters": sum(p.numel() for p in model.parameters()), "broken_pictures": loader.broken, "seed": seed}
    facts |= {"device": device_name(device), "threads": torch.get_num_threads()}
    facts |= {"manifest": manifest["id"], "pairs": manifest["pairs"], "pictures": manifest["samples"]}
    facts |= {"start": began.isoformat(timespec="seconds"), "end": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(out / "training.json", facts)
    save_weights(out / "weights.safetensors", model)


def device_name(device) -> str:
    """The GPU's name, or the processor's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
