"""Advance a model in training on a process's share of the data.

Everything random is a function of the seed and the position in the training order, so a run that was killed and resumed
ends with the weights of one that was not, on any number of processes.
"""

import math
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path

import torch

from flip.config.schema import Params
from flip.data.batch_types import Batch, batch_type
from flip.data.corruption import Corruption
from flip.data.feature_cache import FeatureCache, FeatureReader
from flip.data.gpu_decode import GpuImageReader, gpu_decoder
from flip.data.loader import CaptionReader, ImageReader, Loader, ShardReader
from flip.data.pair_embeddings import PairEmbeddings, embeddings_path, open_embeddings
from flip.data.sampler import AnyOrder, build_order
from flip.data.selection import Selection
from flip.data.tar_cache import TarCache
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.data.translations import Translations, translations_path
from flip.data.word_scores import WordScores
from flip.data.word_table import words_path
from flip.device import ToDevice
from flip.losses import Objective, Setting, build_towers, named_losses, objectives, readers, views_of, wanted
from flip.model.lora import adapt
from flip.model.two_towers import TwoTowers, draw_captions
from flip.train import ema
from flip.train.compile import prepare
from flip.train.gradcache import backward_in_parts
from flip.train.guards import not_finite
from flip.train.optimizer import build_optimizer, learning_rate
from flip.train.parallel import DDPModel, FSDPModel, get_state, set_state
from flip.train.process_group import ProcessGroup


def build_loader(
    params: Params, data: Path, manifest: dict, seed: int, tokenizer: Path | None = None,
    features: FeatureCache | None = None, device: str = "cpu", embeddings: PairEmbeddings | None = None,
    selection: Selection | None = None,
) -> Loader:  # fmt: skip
    """Build the loader of the training pairs of `data` in their order.

    Captions are read with its tokenizer unless another file is named, and the images' `features` in place of pixels
    where those are given. `device` may decode images (`train.decoder`). A teacher's `embeddings` are those of `data`
    unless others are given. A `selection` says which pairs take part.
    """
    window, batch = params.train.shuffle_shards, params.train.global_batch
    order = build_order(manifest, params.mix, batch, seed, window, params.train.source_weights, selection)
    shards = ShardReader(manifest, data / "shards", order.breadth, TarCache(params.source.cache))
    tokens = build_tokens(params, data, manifest, tokenizer)
    transforms: list[Callable[[dict], dict]] = []
    sources = None
    if params.noise.any:
        transforms = [corruption := Corruption(params.noise, seed, batch, tokens.tokenizer)]
        sources = corruption.sources
    captions = CaptionReader(tokens, order, shards.most, sources, seed, params.captions.synthetic_share)
    for one in wanted(params).values():
        transforms += one.transforms(params, seed, captions)
    if params.masking.reads_words:
        transforms.append(WordScores(params.masking, tokens.tokenizer, words_path(data), seed))
    if embeddings is None and (folder := embeddings_path(params, data, seed)):
        embeddings = open_embeddings(folder, manifest)
    return Loader(order, build_images(params, shards, order, seed, features, device), captions, transforms, embeddings)


def build_tokens(params: Params, data: Path, manifest: dict, tokenizer: Path | None) -> Tokens:
    """Build the reader of captions as token ids."""
    captions = params.captions
    found = CaptionTokenizer(tokenizer or tokenizer_path(data, captions), params.model.tokens, captions)
    translations = translations_path(data, captions)
    return Tokens(found, data, manifest, Translations(translations.parent, manifest) if translations else None)


def build_images(
    params: Params, shards: ShardReader, order: AnyOrder, seed: int, features: FeatureCache | None, device: str
) -> ImageReader:  # fmt: skip
    """Build the reader of images, or of their features."""
    views, pinned, second = views_of(params), torch.device(device).type == "cuda", params.masking.views == 2
    images = shards, order, params.model.image, params.augmentation, seed, views, pinned, second
    if features:
        return FeatureReader(features, *images)
    decode = gpu_decoder(params, device, views is not None or second) if params.train.decoder == "gpu" else None
    return GpuImageReader(decode, device, *images) if decode else ImageReader(*images)


def build_model(params: Params, vocabulary: int, seed: int, device: str | torch.device) -> TwoTowers:
    """Build a freshly initialised model; the same weights for the same seed. A locked image tower needs no
    gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_towers(params, vocabulary).to(device)
    if params.image_tower.locked:
        model.image_tower.requires_grad_(False)
    return model


def steps_differ(params: Params) -> bool:
    """Tell whether steps differ in which parameters they use: by the type of their batch, or as losses begin later."""
    return params.mix is not None or any(one.begins for one in params.objectives.values())


def count_steps(params: Params, samples: int) -> int:
    """Return the number of steps of the run on data of `samples` pairs.

    Raises:
        ValueError: a batch larger than the data, or a warm-up that never ends.
    """
    train = params.train
    pairs = train.pairs(samples)
    if train.global_batch > pairs:
        raise ValueError(
            f"train.batch x train.batch_scale = {train.global_batch} is larger than the data ({pairs} pairs); "
            f"allowed: 1 to {pairs}; lower train.batch, raise train.data_share or download more"
        )
    steps = train.steps(samples)
    if train.warmup >= steps * train.global_batch:
        raise ValueError(
            f"train.warmup_samples x train.warmup_scale = {train.warmup} is not less than the run's "
            f"{steps * train.global_batch} samples; lower it or raise train.epochs"
        )
    return steps


class TrainingRun:
    """Hold a model in training: `step` advances it, `state` and `restore` carry it over a restart.

    Of each global batch it reads the pairs of its process in `group`. `data` is the folder where objectives find what
    they read besides the shards.
    """

    def __init__(
        self, params: Params, loader: Loader, model: TwoTowers, steps: int, seed: int, group: ProcessGroup,
        data: Path | None = None,
    ):  # fmt: skip
        self.params, self.loader, self.steps, self.seed, self.group = params, loader, steps, seed, group
        self.local_pairs = group.share(params.train.global_batch)
        self.to_device = ToDevice(group.device)
        if params.train.lora:
            adapt(model, params.train.lora, seed)
        ema.begin(model)
        prepare(model, params.train, group.device)
        split = params.train.shard_weights and group.size > 1
        self.parallel = FSDPModel(model, group) if split else DDPModel(model, group, steps_differ(params))
        self.model = model
        tower = params.image_tower
        trained = model.image_tower if tower.has_lower_lr else None
        self.optimizer = build_optimizer(model, params.train, trained, tower.lr_scale)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.objectives = {one.name(): one for one in objectives(Setting(params, seed, group, data))}
        self.begins = {name: math.ceil(params.objectives[name].begins * steps) for name in self.objectives}
        self.followers: list[Objective] = []  # that read the batch of the current step
        self.done = self.skipped = 0
        self.latest: dict[str, torch.Tensor] = {}
        self.log: list[dict] = []
        self.seconds = 0.0

    @property
    def seen(self) -> int:
        """Return the samples seen, over all processes."""
        return self.done * self.params.train.global_batch

    def batches(self) -> Generator[dict, None, None]:
        """Return an iterator over this process's batches from the current position on."""
        train = self.params.train
        seeing = [step for name, step in self.begins.items() if wanted(self.params)[name].views(self.params)]
        self.loader.images.views_from = min(seeing, default=0) * train.global_batch
        first = self.seen + self.group.rank * self.local_pairs
        return self.loader.batches(first, self.local_pairs, train.workers, train.global_batch)

    def outputs(self, batch: dict, features_only: bool = False, start_gather: Callable | None = None) -> dict:
        """Compute what the objectives, or only those over the global batch, need of a batch on the device;
        `start_gather` as in flip.model.two_towers.TwoTowers.forward."""
        mixed = self.params.train.autocast == "bfloat16"
        with torch.autocast(torch.device(self.group.device).type, torch.bfloat16) if mixed else nullcontext():
            waiting = self.objectives.keys() - self.begun.keys()
            return self.parallel.forward(batch, self.seed, features_only, start_gather, waiting)

    @property
    def begun(self) -> dict[str, Objective]:
        """Return the objectives that have a loss in the current step."""
        return {name: one for name, one in self.objectives.items() if self.done >= self.begins[name]}

    def readers(self, batch: dict) -> list:
        """Pick the objectives that read a batch of its type."""
        return readers([*self.begun.values()], self.params, batch_type(batch))

    def losses(self, batch: dict) -> dict[str, torch.Tensor]:
        """Compute the weighted losses of a batch on the device by name: this process's part of the sum over all."""
        chosen = self.readers(batch)
        start_gather = self.group.all_gather_async if any(one.gathers_images for one in chosen) else None
        return named_losses(chosen, batch, self.outputs(batch, start_gather=start_gather), 1 / self.group.size)

    def backward(self, batch: dict) -> dict[str, torch.Tensor]:
        """Add a batch's gradients to those of the parameters; return the detached losses."""
        if size := self.params.train.micro_batch:
            losses = backward_in_parts(self, batch, size)
        else:
            losses = self.losses(batch)
            sum(losses.values()).backward()  # type: ignore[union-attr]
        self.parallel.finish()
        losses = {name: loss.detach() for name, loss in losses.items()}
        self.latest |= losses
        return losses

    def on_device(self, batch: Batch) -> Batch:
        """Put the loader's batch on the device, with the targets of the losses.

        What decides how large tensors will be is drawn before, in main memory: from here on a step waits for nothing
        that the device computes.
        """
        batch, reading = draw_captions(self.params, batch, self.seed), self.readers(batch)
        for one in reading:
            batch = one.prepare(batch)
        batch = self.to_device(batch)
        for one in reading:
            batch = one.encode(batch)
        return batch

    def gradients(self, batch: dict) -> dict[str, torch.Tensor]:
        """Run the first half of a step: compute this process's losses, detached, and the gradients of the global
        batch."""
        self.optimizer.zero_grad(set_to_none=True)
        for name, one in self.objectives.items():
            if self.done == self.begins[name]:
                one.begin(self.model)
        self.followers = self.readers(batch)
        return self.backward(self.on_device(batch))

    def update(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the second half of a step: update the weights, unless a loss or a gradient is not finite on any process.

        Returns 1 where they were not updated, else 0: float32 [] on the device, without synchronizing.
        """
        train = self.params.train
        rate = learning_rate(train, self.seen + train.global_batch, self.steps * train.global_batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        spoilt = self.group.max(not_finite(losses, self.parameters))
        self.optimizer.found_inf = spoilt  # type: ignore[attr-defined]  # what torch's fused optimizers look at, as it is what GradScaler gives them
        self.optimizer.step()
        self.model.clamp_scale()
        ema.follow(self.model, ema.momentum(self.params.masking.momentum, self.done / self.steps), spoilt)
        for one in self.followers:
            one.follow(self.model, spoilt)
        self.done += 1
        return spoilt

    def step(self, batch: dict) -> dict[str, torch.Tensor]:
        """Run one whole optimizer step; return the detached losses."""
        losses = self.gradients(batch)
        self.update(losses)
        return losses

    def record(self, losses: dict[str, torch.Tensor], rate: float) -> dict:
        """Add a row to the log, of losses by name (`latest`: each as of the last step that had it); all processes take
        part."""
        parts = self.group.sum(torch.stack(list(losses.values()))).tolist()
        row = {"samples": self.seen, "loss": round(sum(parts), 5)}
        row |= {name: round(loss, 5) for name, loss in zip(losses, parts, strict=True)}
        row |= {"lr": self.optimizer.param_groups[0]["lr"]}
        if self.params.aligned:
            row["scale"] = round(self.model.scale.item(), 3)
        if self.model.logit_bias is not None:
            row["bias"] = round(self.model.logit_bias.item(), 3)
        self.log.append(row | {"samples_per_second": round(rate, 1)})
        return row

    def state(self) -> dict:
        """Collect everything that the rest of the run depends on; random numbers follow from the position. All
        processes take part."""
        broken = int(self.group.sum(torch.tensor(self.loader.images.broken)))
        latest = {name: self.group.sum(loss).item() for name, loss in self.latest.items()}
        names = ("done", "skipped", "log", "seconds")
        found = get_state(self.model, self.optimizer) | {name: getattr(self, name) for name in names}
        return found | {"broken": broken, "latest": latest}

    def restore(self, state: dict) -> None:
        """Restore a state, of this or another number of processes."""
        set_state(self.model, self.optimizer, state)
        for name in ("done", "skipped", "log", "seconds"):
            setattr(self, name, state[name])
        first = self.group.first
        self.loader.images.broken = state["broken"] if first else 0
        self.latest = {
            name: torch.tensor(loss if first else 0.0, device=self.group.device)
            for name, loss in state["latest"].items()
        }
