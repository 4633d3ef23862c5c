"""FLOPs of a training step, from the parameters alone: products of matrices, where an addition and a multiplication
count as two, as torch's FlopCounterMode counts them (attention by its plain form: what fused kernels compute twice is
theirs). The backward pass of a product is two of its size, one where its input needs no gradient.

The paper's 1.00 / 0.52 / 0.28 (Table 1a) are those of both towers with all text slots (its text tower is "4.4 %" of
the image tower) and of a class token beside the patches, as its released code has; without one they are 1.00 / 0.51 /
0.28.
"""

from flip.config.schema import Model, Params, Tower
from flip.config.tiles import TILES_FROM
from flip.plan.work import Work, views, vocabulary


def attention(tower: Tower, sequences: float, slots: float) -> float:
    """Forward: scores, and sums weighted by them."""
    return tower.layers * sequences * 4 * slots**2 * tower.width


def blocks(tower: Tower, rows: float, sequences: float, slots: float) -> float:
    """Forward through all blocks for `rows` tokens: 12 width^2 weights each, and attention within each sequence."""
    return tower.layers * rows * 2 * 12 * tower.width**2 + attention(tower, sequences, slots)


def to_one(tower: Tower, rows: float, sequences: float, slots: float) -> float:
    """Forward where one token of each sequence is read: the last block has keys and values of all tokens, no more."""
    before = blocks(tower, rows, sequences, slots) * (tower.layers - 1) / tower.layers
    return before + rows * 2 * 2 * tower.width**2 + sequences * (2 * 10 * tower.width**2 + 4 * slots * tower.width)


def again(run: tuple, one: bool) -> float:
    """What checkpoint_activations computes a second time: blocks without their last product, whose result is not
    needed on the way back."""
    tower, rows, sequences, _ = run
    ends = tower.layers * rows if not one else (tower.layers - 1) * rows + sequences
    return forward(run, one) - ends * 2 * 4 * tower.width**2


def forward(run: tuple, one: bool) -> float:
    return to_one(*run) if one else blocks(*run)


def pixels(model: Model) -> int:
    """Numbers of a patch."""
    return 3 * model.patch**2


def embed(work: Work, kept: int) -> float:
    """Forward through the embedding of so many patches per picture, whose input needs no gradient."""
    params = work.params
    return work.pairs * kept * 2 * pixels(params.model) * params.model.vision.width


def vision_run(work: Work) -> tuple[Tower, float, float, float]:
    """The image tower's transformer as (tower, rows, sequences, slots)."""
    kept = work.params.kept_patches + (work.params.form.vision.pooling == "class")
    return work.params.model.vision, work.pairs * kept, work.pairs, kept


def runs(work: Work) -> list[tuple[Tower, float, float, float]]:
    """The towers' transformers: vision, and text where there is such a tower; none where no loss reads what they give
    by themselves."""
    params, pairs = work.params, work.pairs
    if not (params.aligned or params.reconstruction.weight):
        return []
    text = (params.model.text, pairs * work.words, pairs, work.longest)
    return [vision_run(work), text] if params.aligned else [vision_run(work)]


def reads_one(work: Work, decodes: bool) -> list[bool]:
    """Of which of `runs` one token alone is read: a class token, where no decoder reads the rest, and the token that a
    caption is pooled to."""
    form = work.params.form
    found = [form.vision.pooling == "class" and not decodes, form.text.pooling != "mean"]
    return found[: len(runs(work))]


def decoder_run(work: Work) -> tuple[Tower, float, float, float]:
    """The decoder's transformer, over all patches and a class token."""
    head, slots = work.params.reconstruction, work.params.model.patches + (work.params.form.vision.pooling == "class")
    tower = Tower(layers=head.layers, width=head.width, heads=head.heads)
    return tower, work.pairs * slots, work.pairs, slots


def decoder(work: Work) -> float:
    """Forward through MAE's head: in from the kept patches, blocks over all, out to pixels; 0 where there is none."""
    params = work.params
    if not params.reconstruction.weight:
        return 0.0
    width, rows = params.reconstruction.width, work.pairs * params.model.patches
    inward = vision_run(work)[1] * 2 * params.model.vision.width * width
    return inward + blocks(*decoder_run(work)) + rows * 2 * width * pixels(params.model)


def masked_runs(work: Work) -> list[tuple[Tower, float, float, float]]:
    """Transformers of the masked pass over both modalities: encoders (the vision tower alone, where it is shared), then
    the decoder over all patches and words; [] where there is no such pass."""
    params, pairs, head = work.params, work.pairs, work.params.generative
    if not head.wanted:
        return []
    (patches, tokens), model = head.kept(params.model), params.model
    patches += params.form.vision.pooling == "class"
    last = (head, pairs * (model.patches + work.caption), pairs, model.patches + model.tokens)
    if head.encoder == "shared":
        return [(model.vision, pairs * (patches + work.shown), pairs, patches + tokens), last]
    image, text = (model.vision, pairs * patches, pairs, patches), (model.text, pairs * work.shown, pairs, tokens)
    return [image, text, last]


def masked_ends(work: Work) -> float:
    """Forward from the masked pass's encoders into its decoder, and out to pixels and to the vocabulary."""
    params, head = work.params, work.params.generative
    inward = sum(rows * 2 * tower.width * head.width for tower, rows, _, _ in masked_runs(work)[:-1])
    if head.encoder == "separate":  # here the class token stays outside
        inward -= work.pairs * (params.form.vision.pooling == "class") * 2 * params.model.vision.width * head.width
    outward = params.model.patches * pixels(params.model) * bool(head.pixels)
    outward += (work.caption - work.shown) * vocabulary(params) * bool(head.words)
    return inward + work.pairs * outward * 2 * head.width


def masked_pass(work: Work) -> float:
    """Forward and backward; 0 where there is no such pass."""
    if not work.params.generative.wanted:
        return 0.0
    inner = sum(blocks(*run) for run in masked_runs(work)) + masked_ends(work)
    return 3 * inner + 2 * embed(work, work.params.generative.kept(work.params.model)[0])


def pooling(work: Work) -> float:
    """Forward through multi-head attention pooling: one query (once per part) sees all patches; 0 without it."""
    params, width = work.params, work.params.model.vision.width
    if params.form.vision.pooling != "map":
        return 0.0
    query, patch, picture = 2 * width**2, 2 * 2 * width**2 + 4 * width, 2 * (1 + 8) * width**2
    return work.pairs / work.part * query + work.pairs * (params.kept_patches * patch + picture)


def projected(params: Params) -> int:
    """Widths that are projected into the common space, added up."""
    if not params.aligned:
        return 0
    return params.model.text.width + (params.model.vision.width if params.form.vision.projection != "none" else 0)


def projections(work: Work) -> float:
    """Forward through the projections into the common space."""
    return work.pairs * 2 * work.params.embedding * projected(work.params)


def towers(work: Work, decodes: bool = False) -> float:
    """Forward through both towers and their projections: what evaluation and a pass without a graph cost; and where it
    `decodes`, a step's."""
    found = runs(work)
    inward = embed(work, work.params.kept_patches) if found else 0.0
    inner = sum(forward(run, one) for run, one in zip(found, reads_one(work, decodes), strict=True))
    return inward + inner + pooling(work) + projections(work)


def loss(work: Work) -> float:
    """Forward and backward of the losses over pairs: three products of the size of the logits each. Where they go by
    tiles, InfoNCE needs the logits twice and the matched pairs' one by one; and each has the scale's gradient."""
    params, losses = work.params, bool(work.params.contrastive.weight) + bool(work.params.sigmoid.weight)
    products = 3 * losses * 2 * work.pairs * work.everyone * params.embedding
    if not losses or work.everyone < TILES_FROM:
        return products
    matched = 2 * work.pairs * params.embedding
    if params.contrastive.weight:
        products += 2 * work.pairs * work.everyone * params.embedding + matched
    return products + losses * matched


def look(work: Work) -> float:
    """Forward through the image tower alone, to one vector per picture."""
    one = work.params.form.vision.pooling == "class"
    return embed(work, work.params.kept_patches) + forward(vision_run(work), one) + pooling(work)


def head(work: Work) -> float:
    """Forward through SimCLR's projection head, for two views of each picture."""
    simclr, width = work.params.simclr, work.params.model.vision.width
    return 2 * work.pairs * 2 * simclr.hidden * (width + simclr.hidden + simclr.width)


def contrast_views(work: Work) -> float:
    """Forward and backward of SimCLR beside its towers: head, and three products of the size of all views' logits, four
    where they go by strips; 0 where there is none."""
    if not work.params.simclr.weight:
        return 0.0
    logits = 2 * work.pairs * 2 * work.everyone * 2 * work.params.simclr.width
    return 3 * head(work) + (3 if work.pairs < TILES_FROM else 4) * logits


def model_flops(work: Work) -> float:
    """Forward and backward of one process's step, nothing computed twice."""
    inward = embed(work, work.params.kept_patches) if runs(work) else 0.0
    seen = sum(3 * look(one) - embed(one, one.params.kept_patches) for one in views(work))
    inner = towers(work, bool(work.params.reconstruction.weight)) + decoder(work)
    return 3 * inner - inward + masked_pass(work) + seen + contrast_views(work) + loss(work)


def repeated(work: Work) -> float:
    """What is computed twice to hold less: both towers, for a loss of all features, and blocks with checkpointing."""
    params, total, decodes = work.params, 0.0, bool(work.params.reconstruction.weight)
    if not work.whole:
        total += towers(work) if params.aligned else 0.0
        total += sum(look(one) for one in views(work))
    if params.train.checkpoint_activations:
        total += sum(again(*pair) for pair in zip(runs(work), reads_one(work, decodes), strict=True))
        total += sum(again(run, False) for run in ([decoder_run(work)] if decodes else []) + masked_runs(work))
        total += sum(again(vision_run(one), params.form.vision.pooling == "class") for one in views(work))
    return total


def step_flops(work: Work) -> float:
    """All of one process's step."""
    return model_flops(work) + repeated(work)
