"""Count what a training step does, by running it: the real model, losses and autograd, on tensors without values.

torch's FakeTensorMode gives each tensor its shape, type and device, and no memory, so that a step of L/16 takes about a
second on a laptop, at any batch. FLOPs are those that torch's FlopCounterMode counts, bytes those of all storages that
are alive at a time. Nothing here knows an architecture or a loss by its name.

A step is counted as flip.train.gradcache cuts it: the model on a part of the batch, forth and back, and the losses over
the whole batch, on features alone. Where the batch is one part, both together are the step.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from flip.config.schema import Params
from flip.config.tiles import SIDE
from flip.data.batch_types import IMAGES, PAIRS, TEXTS, Batch, batch_type
from flip.losses import Scope, Setting, build_towers, named_losses, objectives, readers, views_of, wanted
from flip.model.image_tokenizer import VQTokenizer
from flip.model.transformer import Transformer
from flip.model.two_towers import TwoTowers
from flip.plan.counts import Counted, Encoding, PartCost, Uncounted, Weights, way_of_training
from flip.train.gradcache import is_shared
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun
from flip.train.work import changed, vocabulary

FAKE = FakeTensorMode()
ATEN = torch.ops.aten
# The fused attention of CPUs, where these tensors say they are, is none that torch's counter knows. As
# flip.train.step_cost does, it is counted in its plain form: two products, and four on the way back.
PLAIN = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: attention_flops(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, q, k, v, *__, **___: (
        2 * attention_flops(q, k, v)
    ),
}


def attention_flops(query: Tensor, key: Tensor, value: Tensor) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


@dataclass(frozen=True)
class Alike(ProcessGroup):
    """Stand for a process whose peers are all like itself: what they send has the shape of its own."""

    def all_gather_async(self, rows: Tensor) -> Callable[[], Tensor]:
        return lambda: rows if self.size == 1 else rows.repeat(self.size, *[1] * (rows.ndim - 1))

    def shift(self, x: Tensor) -> Callable[[], Tensor]:
        return lambda: torch.empty_like(x)

    def _reduce(self, x: Tensor, operation: object) -> Tensor:
        return x


class Ledger(TorchDispatchMode):
    """Add up what is computed while it is on: `flops`, by the formulas of torch's FlopCounterMode, and the bytes of all
    storages that are made and alive, `now` and `peak`, but for those of `known` tensors."""

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.flops = self.now = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        found, packet = function(*arguments, **named), function.overloadpacket
        formula: Any = PLAIN.get(packet) or flop_registry.get(packet)
        if formula:
            self.flops += formula(*arguments, **named, out_val=found)
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self._hold(one.untyped_storage())
        return found

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.now -= size


@contextmanager
def values_unread() -> Iterator[None]:
    """Run on tensors without values.

    Raises:
        Uncounted: a value was asked for, or how many there are of a kind.
    """
    try:
        with FAKE:
            yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise Uncounted(f"its step reads values ({error}); flip.train.step_cost measures what it costs") from None


@contextmanager
def tiles_of(device: str) -> Iterator[None]:
    """Let losses cut their logits as on `device`, whatever the tensors say they are on."""
    own, SIDE["cpu"] = SIDE["cpu"], SIDE[device]
    try:
        yield
    finally:
        SIDE["cpu"] = own


def make_model(params: Params) -> TwoTowers:
    """Build the model of a variant, whose blocks see each part of a batch at once, as on a GPU."""
    model = build_towers(params, vocabulary(params))
    if params.image_tower.locked:
        model.image_tower.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Transformer):
            module.chunk_on_cpu = False
    return model


_runs: dict[str, TrainingRun] = {}


def make_run(params: Params) -> TrainingRun:
    """Build a variant in training, neither compiled nor cut; the last one is kept, as parts of several sizes ask."""
    if (key := way_of_training(params)) not in _runs:
        plain = {"batch": 1, "batch_scale": 1, "micro_batch": None, "compile": False, "shard_weights": False}
        params = changed(params, "train", **plain, precision=params.train.autocast)
        no_loader: Any = SimpleNamespace()  # nothing is asked of it
        _runs.clear()
        _runs[key] = TrainingRun(params, no_loader, make_model(params), 10**9, 0, ProcessGroup())
    return _runs[key]


def make_images(side: int, *count: int) -> Tensor:
    return torch.empty(*count, side, side, 3, dtype=torch.uint8)


def make_ids(params: Params, pairs: int) -> Tensor:
    return torch.empty(pairs, params.model.tokens, dtype=torch.long)


def make_batch(params: Params, pairs: int) -> Batch:
    """Return a batch as the loader gives it, of the one type that `params` has a share of (flava.mix)."""
    (kind,), batch = params.mix.shares if params.mix else [PAIRS], {"positions": torch.arange(pairs)}
    if kind != TEXTS and params.image_tower.locked:
        batch["features"] = torch.empty(pairs, params.embedding)
    elif kind != TEXTS:
        batch["images"] = make_images(params.model.image, pairs)
    if kind != TEXTS and params.masking.views == 2:
        batch["second"] = make_images(params.model.image, pairs)
    if kind != IMAGES:
        batch["ids"] = make_ids(params, pairs)
    if kind != IMAGES and params.masking.reads_words:
        batch["token_scores"] = torch.empty(pairs, params.model.tokens, dtype=torch.float64)
    if views := views_of(params):
        batch["views"] = make_images(views.side, pairs, views.number)
    for one in wanted(params).values():
        batch = one.example(params, batch)
    return batch


def count_weights(params: Params) -> Weights:
    """Count the numbers of a variant's model."""
    with FAKE:
        weights = [*make_model(params).parameters()]
    return Weights(sum(one.numel() for one in weights), sum(one.numel() for one in weights if one.requires_grad))


def count_encoding(params: Params) -> Encoding:
    """Count the encoding of one image and of one caption, nothing of them masked, by the encoders that there are."""
    with FAKE, torch.no_grad():
        model, image, text = make_model(params).eval(), Ledger(), Ledger()
        if model.vision is not None:
            with image:
                model.encode_image(make_images(params.model.image, 1))
        if model.text is not None and params.aligned:
            with text:
                model.encode_text(make_ids(params, 1))
    return Encoding(image.flops, text.flops)


def count_codebook(params: Params) -> PartCost:
    """Count training the scale's image tokenizer on one image."""
    with FAKE, Ledger() as ledger:
        model = VQTokenizer(params)
        pixels = model.targets(make_images(params.model.image, 1))
        encoded = model.encode(pixels)
        model.nearest(encoded.detach())
        model.decode(encoded).sum().backward()
    return PartCost(ledger.flops, ledger.peak)


def count_again(params: Params, pairs: int) -> PartCost:
    """Count the forward pass of `pairs` pairs without a graph, which losses over the whole batch need where a step is
    cut into parts.

    Raises:
        Uncounted: it reads values.
    """
    with values_unread():
        run, batch = make_run(params), make_batch(params, pairs)
        if not any(one.scope is Scope.GLOBAL_BATCH for one in run.readers(batch)):
            return PartCost(0, 0)
        with torch.no_grad(), Ledger() as ledger:
            run.outputs(batch, features_only=True)
    return PartCost(ledger.flops, ledger.peak)


def count_step(params: Params, part: int, pairs: int, processes: int, device: str, whole: bool) -> Counted:
    """Count one process's step over `pairs` pairs, `part` of them at a time. Gradients are there from the beginning
    where processes exchange them (in DDP's buckets), or where parts of the batch add to them.

    Raises:
        Uncounted: it reads values.
    """
    with values_unread(), tiles_of(device):
        run, batch, every = make_run(params), make_batch(params, part), make_batch(params, pairs)
        for parameter in run.parameters:
            parameter.grad = None if whole and processes == 1 else torch.empty_like(parameter)
        ledger = Ledger(held(run, batch))
        with ledger:
            batch = run.on_device(batch)
            outputs = run.outputs(batch)
            losses = named_losses([one for one in run.readers(batch) if one.scope is Scope.SAMPLE], batch, outputs)
        leaves = make_leaves(outputs, pairs, whole)
        loss, read = count_loss(run, every, leaves, processes)
        with ledger:
            total = sum(losses.values()) + sum(outputs[name].sum() for name in read if outputs[name].requires_grad)
            del outputs, losses
            kept = ledger.now
            total.backward()
        return Counted(
            part_flops=ledger.flops,
            loss_flops=loss.flops,
            batch=size(every),
            features=size({name: leaves[name] for name in read}),
            kept=kept,
            part=ledger.peak,
            loss=loss.bytes,
        )


def held(run: TrainingRun, batch: Batch) -> Iterator[Tensor]:
    """Give what is there before a step begins."""
    yield from (one for one in batch.values() if isinstance(one, Tensor))
    yield from run.model.buffers()
    yield from run.model.parameters()
    yield from (one.grad for one in run.parameters if one.grad is not None)


def size(tensors: Batch) -> int:
    """Return the bytes of tensors."""
    return sum(tensor.nbytes for tensor in tensors.values() if isinstance(tensor, Tensor))


def make_leaves(outputs: Batch, pairs: int, whole: bool) -> Batch:
    """Return what losses over the whole batch may read: a part's outputs, for so many pairs. They ask for the gradients
    that the model needs; in parts, for all (flip.train.gradcache)."""
    leaves = {}
    for name, x in outputs.items():
        if isinstance(x, Tensor) and x.is_floating_point():
            leaf = torch.empty_like(x) if is_shared(name, x) else x.new_empty(pairs, *x.shape[1:])
            leaves[name] = leaf.requires_grad_(x.requires_grad or not whole)
    return leaves


def count_loss(run: TrainingRun, batch: Batch, leaves: Batch, processes: int) -> tuple[PartCost, list[str]]:
    """Count the losses over the whole batch of so many processes, forth and back; and name the leaves that they
    read."""
    every = readers(objectives(Setting(run.params, group=Alike(size=processes))), run.params, batch_type(batch))
    if not (over_batch := [one for one in every if one.scope is Scope.GLOBAL_BATCH]):
        return PartCost(0, 0), []
    leaves = {name: leaf.detach().requires_grad_(leaf.requires_grad) for name, leaf in leaves.items()}
    with Ledger([*leaves.values(), *batch.values()]) as ledger:
        sum(named_losses(over_batch, batch, leaves).values()).backward()
    return PartCost(ledger.flops, ledger.peak), [name for name, leaf in leaves.items() if leaf.grad is not None]
