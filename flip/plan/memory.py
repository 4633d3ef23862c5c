"""Memory of one process's training step, from the parameters alone.

Counted is what autograd keeps for the way back (measured tensor by tensor in tests/test_plan.py), what the step holds
beside it, and the moment when all of this is largest. In bfloat16 and float8, matrix products keep their inputs in two
bytes; the residual stream, weights, gradients and AdamW's moments stay in four.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flip.config.schema import Params, Tower
from flip.config.tiles import SIDE, TILES_FROM
from flip.plan.flops import decoder_run, masked_runs, pixels, projected, runs, vision_run
from flip.plan.work import Work, views, vocabulary

FULL = 4  # bytes of a float32
ADAM = 2  # moments per weight


def narrow(params: Params) -> int:
    """Bytes of a number that goes into a matrix product."""
    return 2 if params.train.autocast == "bfloat16" else FULL


def block_weights(tower: Tower) -> int:
    """Of all blocks and the final LayerNorm: 12 width^2 in matrices, 13 width beside them."""
    return tower.layers * (12 * tower.width**2 + 13 * tower.width) + 2 * tower.width


def vision_weights(params: Params) -> int:
    """With what its form adds: biases, positions, class token, LayerNorm, attention pooling."""
    model, form, width = params.model, params.form.vision, params.model.vision.width
    rows = pixels(model) + form.patch_bias + (form.pooling == "class") + 2 * form.pre_norm
    rows += model.patches if form.positions == "learned" else 0
    pooling = 12 * width**2 + 12 * width if form.pooling == "map" else 0
    return rows * width + block_weights(model.vision) + pooling


def text_weights(params: Params) -> int:
    model, width = params.model, params.model.text.width
    narrow = params.form.text.entry(width)
    entries = vocabulary(params) * (narrow or width) + (narrow or 0) * width
    rows = model.tokens + 2 * params.form.text.embedding_norm
    return entries + rows * width + block_weights(model.text)


def decoder_weights(params: Params) -> int:
    model, head = params.model, params.reconstruction
    if not head.weight:
        return 0
    tower = Tower(layers=head.layers, width=head.width, heads=head.heads)
    ends = (model.vision.width + 2) * head.width + (head.width + 1) * pixels(model)
    return ends + block_weights(tower)


def head_weights(params: Params) -> int:
    """SimCLR's projection head: two hidden layers with BatchNorm and no biases, and a last one."""
    simclr = params.simclr
    if not simclr.weight:
        return 0
    return simclr.hidden * (params.model.vision.width + simclr.hidden + 4 + simclr.width) + simclr.width


def masked_weights(params: Params) -> int:
    """Of what the masked pass over both modalities adds to the towers."""
    model, head = params.model, params.generative
    if not head.wanted:
        return 0
    outward = pixels(model) * bool(head.pixels) + vocabulary(params) * bool(head.words)
    found = block_weights(head) + (head.width + 1) * outward + 4 * head.width
    if head.encoder == "shared":
        return found + (vocabulary(params) + 1) * model.vision.width + (model.vision.width + 1) * head.width
    return found + (model.vision.width + model.text.width + 2) * head.width


def flava_weights(params: Params) -> int:
    """Of what stands for hidden patches and words, of the multimodal encoder, and of heads; 0 without their losses."""
    model, flava = params.model, params.flava
    image, words, both = model.vision.width, model.text.width, flava.multimodal.width
    heads = {"mim": (image, params.codebook.codes), "mlm": (words, vocabulary(params))}
    heads |= {"mmm_image": (both, params.codebook.codes), "mmm_text": (both, vocabulary(params))}
    found = image * flava.hides_patches + words * flava.hides_words
    found += sum(w * w + 3 * w + (w + 1) * answers for name, (w, answers) in heads.items() if getattr(flava, name))
    found += both * both + both + 2 * (both + 1) if flava.itm else 0
    multimodal = (image + words + 2 + 1) * both + block_weights(flava.multimodal)
    return found + (multimodal if flava.is_multimodal else 0)


def weights(params: Params) -> int:
    """Numbers that are trained."""
    alone = decoder_weights(params) + head_weights(params) + masked_weights(params) + flava_weights(params)
    alone += vision_weights(params) if params.has_image_tower else 0
    alone += text_weights(params) if params.has_text_tower else 0
    if not params.aligned:
        return alone
    form, scalars = params.form, 1 + (params.sigmoid.initial_bias(params.train.global_batch) is not None)
    biases = (form.vision.projection == "affine") + (form.text.projection == "affine")
    return alone + params.embedding * (projected(params) + biases) + scalars


@dataclass(frozen=True)
class Stage:
    """A transformer and what surrounds it. Bytes.

    kept: held from the forward pass to the backward pass; moving: what its backward pass needs on top at its start;
    gradient: of its weights, there once it is done.
    """

    kept: float
    moving: float
    gradient: float


def block_kept(tower: Tower, rows: float, sequences: float, slots: float, packed: bool, size: int) -> float:
    """What autograd keeps of one block.

    Per token and unit of width: the inputs of both LayerNorms; in `size` bytes their results, 4 + 4 around the GELU
    and, where captions are packed, attention's result once more. Per slot of attention (more than tokens where captions
    are packed): queries, keys, values and the result. And two statistics per LayerNorm, one per head.
    """
    cells = sequences * slots
    tokens = rows * tower.width * (2 * FULL + 10 * size) + (rows * tower.width * size if packed else 0)
    seen = cells * (tower.width * 4 * size + tower.heads * FULL + (FULL if packed else 0))
    return tokens + seen + rows * 4 * FULL


def last_kept(tower: Tower, rows: float, sequences: float, slots: float, packed: bool, size: int) -> float:
    """What autograd keeps of a last block of which one token per sequence is read: of all tokens what goes into the
    first LayerNorm and comes out, keys and values; of that one all."""
    tokens = rows * (tower.width * (FULL + size) + 2 * FULL)
    seen = sequences * slots * (tower.width * 2 * size + (FULL if packed else 0))
    return tokens + seen + block_kept(tower, sequences, sequences, 1, False, size)


def stage(work: Work, run: tuple, packed: bool, around: float, count: int, one: bool = False) -> Stage:
    """A transformer of `count` weights with `around` bytes beside its blocks; with `one`, one token of each is read.

    Its backward pass begins with a block whose GELU has its results' gradient and its inputs' at once, beside that of
    the residual stream; where it has one token of each, the block before it is the largest.
    """
    (tower, rows, sequences, _), size = run, narrow(work.params)
    block = last = block_kept(*run, packed, size)
    moving, norm = rows * tower.width * (FULL + 4 * size), rows * tower.width * FULL + rows * 2 * FULL
    if one:
        last, norm = last_kept(*run, packed, size), norm * sequences / rows
    if work.params.train.checkpoint_activations:
        kept, moving = tower.layers * rows * tower.width * FULL, moving + block - rows * tower.width * FULL
    else:
        kept, moving = (tower.layers - 1) * block + last, moving - (last if one else 0)
    return Stage(kept + norm + around, max(moving, 0.0), FULL * count)


def vision(work: Work, decodes: bool = False) -> Stage:
    """With the pixels that the embedding multiplies."""
    params, run = work.params, vision_run(work)
    around, one = run[1] * pixels(params.model) * narrow(params), params.form.vision.pooling == "class" and not decodes
    return stage(work, run, False, around, vision_weights(params), one)


def text(work: Work) -> Stage:
    """With ids and slots of words (int64), which their embeddings keep, and the encoded words with each one's row."""
    run, one = runs(work)[1], work.params.form.text.pooling != "mean"
    return stage(work, run, True, run[1] * (3 * 8 + run[0].width * FULL), text_weights(work.params), one)


def decoder(work: Work) -> Stage:
    """With what goes in, what is put in order by an index (int64) as large as it, and what goes out: the error of each
    pixel. The loss has pixels, their predictions and their differences at once; blocks begin when they are gone."""
    params, run = work.params, decoder_run(work)
    size, tower, rows = narrow(params), run[0], run[1]
    inward = vision_run(work)[1] * params.model.vision.width * size + rows * tower.width * (size + 8)
    numbers = work.pairs * params.model.patches * pixels(params.model) * FULL
    outward = rows * tower.width * size + numbers
    found = stage(work, run, False, inward + outward, decoder_weights(params))
    return replace(found, moving=max(found.moving - outward, 3 * numbers))


def masked_encoders(work: Work) -> list[Stage]:
    """With pixels, or ids and slots (int64), and what goes into the decoder. Sequences of a shared
    encoder are packed, as captions are."""
    params, size = work.params, narrow(work.params)
    shown = work.pairs * params.generative.kept(params.model)[0] * pixels(params.model) * size
    sides = [
        (params.generative.encoder == "shared", shown, vision_weights(params)),
        (True, work.pairs * work.shown * 3 * 8, text_weights(params)),
    ]
    return [
        stage(work, run, packed, around + run[1] * run[0].width * size, count)
        for run, (packed, around, count) in zip(masked_runs(work)[:-1], sides, strict=False)
    ]


def masked_decoder(work: Work) -> Stage:
    """With patches and their order (an index, int64, as large as they), what goes into the heads, pixels' errors and
    removed words' distributions. The losses have pixels, predictions and differences at once, or logits' gradients
    beside the distributions; blocks begin when they are gone."""
    params, head, run = work.params, work.params.generative, masked_runs(work)[-1]
    size, patches, removed = narrow(params), work.pairs * params.model.patches, work.pairs * (work.caption - work.shown)
    numbers = patches * pixels(params.model) * FULL * bool(head.pixels)
    logits = removed * vocabulary(params) * FULL * bool(head.words)
    outward = numbers + logits + head.width * size * (patches * bool(head.pixels) + removed * bool(head.words))
    found = stage(work, run, True, patches * head.width * (size + 8) + outward, masked_weights(params))
    return replace(found, moving=max(found.moving - outward, 3 * numbers, logits))


def stages(work: Work) -> list[Stage]:
    """In the order of the forward pass. Where towers run again, their gradients come with the last of their runs: a
    masked pass, or views, which come last and so are the first to leave gradients."""
    params, masked = work.params, work.params.generative.wanted
    found, seen = [], [vision(one) for one in views(work)]
    if runs(work):
        found.append(vision(work, bool(params.reconstruction.weight)))
    found += [one(work) for one, needed in ((text, params.aligned), (decoder, params.reconstruction.weight)) if needed]
    if masked and params.aligned:
        found[:2] = [replace(one, gradient=0.0) for one in found[:2]]
    elif seen and found:
        found[0] = replace(found[0], gradient=0.0)
    if masked:
        found += [*masked_encoders(work), masked_decoder(work)]
    return found + [replace(one, gradient=one.gradient + FULL * head_weights(params)) for one in seen]


def head_kept(work: Work) -> float:
    """What SimCLR's head and loss keep of all views, in float32: copies of the head's weights; the features; per hidden
    layer what goes into BatchNorm, its distance from the mean, that by the deviation, and what comes out of ReLU; twice
    what is compared; and logits that go by no strips, with the partition of each."""
    simclr, rows = work.params.simclr, 2 * work.pairs
    if not simclr.weight:
        return 0.0
    logits = 2 * work.everyone if work.pairs < TILES_FROM else 0
    row = work.params.model.vision.width + 2 * 4 * simclr.hidden + 2 * simclr.width + logits
    return FULL * (rows * row + head_weights(work.params))


def ends(work: Work) -> float:
    """What the projections and the loss keep of features: two of each side, in float32 and before it; a loss that goes
    by no tiles keeps scaled pictures' features and its two softmaxes as well. Without a text tower there is neither."""
    if not work.params.aligned:
        return head_kept(work)
    model, size = work.params.model, narrow(work.params)
    pooled = work.pairs * size * (model.vision.width + model.text.width)
    features = 2 * work.pairs * work.params.embedding * 2 * FULL
    softmaxes = work.pairs * (work.params.embedding + 2 * work.everyone) * FULL if work.everyone < TILES_FROM else 0
    return pooled + features + softmaxes + head_kept(work)


def loss_moving(work: Work, device: str) -> float:
    """The contrastive loss by itself, if there is one: everyone's features and their gradients, and logits: two whole
    matrices, or three tiles."""
    if not work.params.aligned:
        return 0.0
    everyone, width = work.everyone, work.params.embedding
    gathered = 2 * everyone * width * FULL * (2 if work.processes > 1 else 1)
    if everyone < TILES_FROM:
        return gathered + 2 * work.pairs * everyone * FULL
    return gathered + 3 * min(everyone, SIDE[device]) ** 2 * FULL


def backward_peaks(work: Work, device: str, ready: bool) -> Iterator[float]:
    """Bytes over the weights' and moments' at the loss and at each stage's turn; `ready`: gradients are there from the
    beginning."""
    every = stages(work)
    total = sum(one.gradient for one in every)
    held, gradients = sum(one.kept for one in every) + ends(work), total if ready else 0.0
    yield held + gradients + (0 if work.params.train.micro_batch else loss_moving(work, device))
    for one in reversed(every):
        yield held + gradients + one.moving
        held, gradients = held - one.kept, gradients + (0.0 if ready else one.gradient)
    yield gradients


@dataclass(frozen=True)
class Memory:
    """Bytes of a process. `state`: weights and moments; `batch`: pictures and features that the whole step holds;
    `step`: activations, gradients and the loss where they are largest together."""

    state: float
    batch: float
    step: float

    @property
    def peak(self) -> float:
        return self.state + self.batch + self.step


def memory(work: Work, device: str = "cuda") -> Memory:
    """The largest moment of a step, from the second one on; on a CPU, whose blocks see parts of the batch, no less."""
    params, count = work.params, weights(work.params)
    state = FULL * count * (1 + ADAM)
    if params.train.autocast == "bfloat16":
        state += 2 * count  # the copies that products are computed with
    seen = work.pairs + sum(one.pairs for one in views(work))
    pictures = seen * 3 * params.model.image**2 + work.pairs * 8 * (params.model.tokens + 1)
    ready = work.processes > 1 or not work.whole
    held = replace(work, pairs=work.part, everyone=work.part * work.processes)
    features = 0 if work.whole or not params.aligned else 4 * work.pairs * params.embedding * FULL
    peaks = [*backward_peaks(held, device, ready)]
    if not work.whole:
        peaks.append(loss_moving(work, device) + head_kept(work))
    return Memory(state, pictures + features, max(peaks))
