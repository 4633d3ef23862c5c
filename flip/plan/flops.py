"""FLOPs of a training step, from the parameters alone: products of matrices, where an addition and a multiplication
count as two, as torch's FlopCounterMode counts them (attention by its plain form: what fused kernels compute twice is
theirs). The backward pass of a product is two of its size, one where its input needs no gradient.

The paper's 1.00 / 0.52 / 0.28 (Table 1a) are those of both towers with all text slots (its text tower is "4.4 %" of
the image tower) and of a class token beside the patches, as its released code has; without one they are 1.00 / 0.51 /
0.28.
"""

from flip.plan.work import Work
from flip.schema import Model, Tower
from flip.tiles import TILES_FROM


def attention(tower: Tower, sequences: float, slots: float) -> float:
    """Forward: scores, and sums weighted by them."""
    return tower.layers * sequences * 4 * slots**2 * tower.width


def blocks(tower: Tower, rows: float, sequences: float, slots: float) -> float:
    """Forward through all blocks for `rows` tokens: 12 width^2 weights each, and attention within each sequence."""
    return tower.layers * rows * 2 * 12 * tower.width**2 + attention(tower, sequences, slots)


def again(tower: Tower, rows: float, sequences: float, slots: float) -> float:
    """What checkpoint_activations computes a second time: blocks without their last product, whose result is not
    needed on the way back."""
    return blocks(tower, rows, sequences, slots) - tower.layers * rows * 2 * 4 * tower.width**2


def pixels(model: Model) -> int:
    """Numbers of a patch."""
    return 3 * model.patch**2


def embed(work: Work) -> float:
    """Forward through the embedding of patches, whose input needs no gradient."""
    params = work.params
    return work.pairs * params.kept_patches * 2 * pixels(params.model) * params.model.vision.width


def runs(work: Work) -> list[tuple[Tower, float, float, float]]:
    """The two towers' transformers as (tower, rows, sequences, slots)."""
    params, pairs = work.params, work.pairs
    kept = params.kept_patches
    return [
        (params.model.vision, pairs * kept, pairs, kept),
        (params.model.text, pairs * work.words, pairs, work.longest),
    ]


def decoder_run(work: Work) -> tuple[Tower, float, float, float]:
    """The decoder's transformer, over all patches."""
    head, patches = work.params.reconstruction, work.params.model.patches
    tower = Tower(layers=head.layers, width=head.width, heads=head.heads)
    return tower, work.pairs * patches, work.pairs, patches


def decoder(work: Work) -> float:
    """Forward through MAE's head: in from the kept patches, blocks over all, out to pixels; 0 where there is none."""
    params = work.params
    if not params.reconstruction.weight:
        return 0.0
    width, rows = params.reconstruction.width, work.pairs * params.model.patches
    inward = work.pairs * params.kept_patches * 2 * params.model.vision.width * width
    return inward + blocks(*decoder_run(work)) + rows * 2 * width * pixels(params.model)


def towers(work: Work) -> float:
    """Forward through both towers and their projections: what evaluation and a pass without a graph cost."""
    model = work.params.model
    projections = work.pairs * 2 * model.embedding * (model.vision.width + model.text.width)
    return embed(work) + sum(blocks(*run) for run in runs(work)) + projections


def loss(work: Work) -> float:
    """Forward and backward of InfoNCE: three products of the size of the logits, four where they go by tiles (twice
    the logits, and the matched pairs' one by one)."""
    product = 2 * work.pairs * work.everyone * work.params.model.embedding
    if work.everyone < TILES_FROM:
        return 3 * product
    return 4 * product + 2 * 2 * work.pairs * work.params.model.embedding


def model_flops(work: Work) -> float:
    """Forward and backward of one process's step, nothing computed twice."""
    return 3 * (towers(work) + decoder(work)) - embed(work) + loss(work)


def repeated(work: Work) -> float:
    """What is computed twice to hold less: both towers with micro-batches, blocks with checkpointing."""
    train, total = work.params.train, 0.0
    if not work.whole:
        total += towers(work)
    if train.checkpoint_activations:
        chosen = runs(work) + ([decoder_run(work)] if work.params.reconstruction.weight else [])
        total += sum(again(*run) for run in chosen)
    return total


def step_flops(work: Work) -> float:
    """All of one process's step."""
    return model_flops(work) + repeated(work)
