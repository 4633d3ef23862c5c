"""Label a table: what distinguishes its rows, read from their frozen parameters, and what its columns measure."""

from collections.abc import Callable
from functools import partial

from flip.config.objectives import NAMES, Objectives
from flip.config.schema import Curation, Params, Section
from flip.metrics.names import FINETUNED, PROBE, Metric


def _image_tower(params: Params) -> str:
    tower = params.image_tower
    how = " locked" if tower.locked else f" at {tower.lr_scale:g} x the learning rate" if tower.has_lower_lr else ""
    return f"{tower.weights}{how}" if tower.weights else ""


def _size(params: Params) -> str:
    towers = {"image": params.model.vision, "text": params.model.text}
    return ", ".join(f"{side} {tower.layers} layers of {tower.width}" for side, tower in towers.items())


def _loss(params: Params) -> str:
    """Name the losses of pairs in a common space."""
    weights = {"softmax": params.contrastive.weight, "sigmoid": params.sigmoid.weight}
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items() if weight)


def _bias(params: Params) -> str:
    bias = params.sigmoid.bias if params.sigmoid.weight else ""
    return "none" if bias is None else f"{bias:g}" if isinstance(bias, float) else bias


def _noise(params: Params) -> str:
    found = {"images": params.noise.images, "words": params.noise.texts, "pairs": params.noise.pairs}
    return ", ".join(f"{100 * share:g}% of {name}" for name, share in found.items() if share)


def _objectives() -> dict:
    """Collect the facts of all objectives' sections."""
    return {
        fact: (partial(_of_section, name, read), [f"{name}.{key}" for key in keys])
        for name in NAMES
        for fact, (read, keys) in Objectives.model_fields[name].annotation.facts.items()
    }


def _of_section(name: str, read: Callable[[Section], str], params: Params) -> str:
    return read(getattr(params, name))


# Facts in the field's words; each replaces the keys named beside it.
FACTS = {
    "image mask": (
        lambda p: (
            f"{100 * p.masking.image:g}%"
            + f" {p.masking.image_policy}" * (p.masking.image_policy != "random")
            + " of two views" * (p.masking.views == 2)
        ),
        ["masking.image", "masking.image_policy", "masking.views"],
    ),
    "image side": (
        lambda p: f"{p.model.image}" + (f" after {p.model.first_image}" if p.model.first_image else ""),
        ["model.image", "model.first_image", "model.full_image"],
    ),
    "text mask": (
        lambda p: f"{100 * p.masking.text:g}%" + (f" {p.masking.text_policy}" if p.masking.text else ""),
        ["masking.text", "masking.text_policy"],
    ),
    "image tower": (
        lambda p: (
            f"{p.form.vision.pooling} pooling, {p.form.vision.positions} positions"
            + ", extra LayerNorm" * p.form.vision.pre_norm
        ),
        ["form.vision.pooling", "form.vision.positions", "form.vision.pre_norm"],
    ),
    "merged tokens": (
        lambda p: (
            f"{100 * p.form.vision.merged:g}%" + " in training" * (not p.form.vision.merges_at_evaluation)
            if p.form.vision.merged
            else ""
        ),
        ["form.vision.merged", "form.vision.merges_at_evaluation"],
    ),
    "text tower": (
        lambda p: f"{p.form.text.pooling} pooling" + ", causal" * p.form.text.causal,
        ["form.text.pooling", "form.text.causal"],
    ),
    "initial weights as": (
        lambda p: "" if p.form.initialization == "xavier" else f"{p.form.initialization}'s",
        ["form.initialization"],
    ),
    "towers": (_size, [f"model.{side}.{key}" for side in ("vision", "text") for key in ("layers", "width", "heads")]),
    "data": (lambda p: f"{100 * p.train.data_share:g}%", ["train.data_share"]),
    "curation": (
        lambda p: p.curation.text if p.curation else "",
        ["curation", *(f"curation.{key}" for key in Curation.model_fields)],
    ),
    "languages": (lambda p: " ".join(p.captions.languages), ["captions.languages"]),
    "token entries": (
        lambda p: f"{entry} wide" if (entry := p.form.text.entry(p.model.text.width)) else "",
        ["form.text.bottleneck"],
    ),
    "batch": (lambda p: f"{p.train.global_batch:,}", ["train.batch", "train.batch_scale"]),
    "epochs": (
        lambda p: f"{p.train.total_epochs:.4g}",
        ["train.epochs", "train.epochs_scale", "train.equal_time"],
    ),
    "loss": (_loss, ["contrastive.weight", "sigmoid.weight"]),
    "temperature": (
        lambda p: f"{p.logits.temperature:g}" if p.aligned else "",
        ["logits.temperature", "logits.max_scale"],
    ),
    "bias": (_bias, ["sigmoid.bias"]),
    "noise": (_noise, ["noise.images", "noise.texts", "noise.pairs"]),
    "crops of at least": (lambda p: f"{100 * p.augmentation.crop_area[0]:g}%", ["augmentation.crop_area"]),
    **_objectives(),
    "base learning rate": (lambda p: f"{p.train.base_lr:g}", ["train.base_lr"]),
    "warm-up samples": (lambda p: f"{p.train.warmup:,}", ["train.warmup_samples", "train.warmup_scale"]),
    "image tower from": (_image_tower, ["image_tower.weights", "image_tower.lr_scale"]),
    "text tower from": (lambda p: p.text_tower.weights or "", ["text_tower.weights"]),
    "tuned from": (lambda p: p.start or "", ["start"]),
}
# Tasks and scores that go by a word of their own.
TASKS = {PROBE: "linear probe", FINETUNED: "fine-tuned"}
SCORES = {"cider": "CIDEr-D", "bleu4": "BLEU-4", "meteor": "METEOR", "spice": "SPICE"}
MANY = 12  # facts, beyond which a label says only what sets its row apart
# No part of the recipe.
IGNORED = {"variant", "scale", "resources", "sweep"}


def flat(tree: dict, prefix: str = "") -> dict[str, str]:
    """Return values as text by their dotted keys."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: str(value)}
    return found


def facts(params: Params) -> dict[str, str]:
    """Return all that can distinguish a row, as text, by a label or else by its key."""
    covered = {key for _, keys in FACTS.values() for key in keys}
    others = flat(params.model_dump(mode="json", exclude=IGNORED | (set(NAMES) - params.objectives.keys())))
    return {fact: read(params) for fact, (read, _) in FACTS.items()} | {
        key: value for key, value in others.items() if key not in covered
    }


def column(metric: Metric) -> str:
    """Return what a metric is called: 'fine linear probe' for 'fine-probe'."""
    if metric.task in TASKS:
        return f"{metric.set} {TASKS[metric.task]}"
    if metric.score in SCORES:
        return f"{Metric(metric.set, metric.task)} {SCORES[metric.score]}"
    return str(metric)


def labels(rows: list[Params]) -> list[str]:
    """Return for each row the facts in which rows differ; if these are many, as between systems, those with a label
    in which it differs from the first row."""
    known = [facts(row) for row in rows]
    every = dict.fromkeys(fact for row in known for fact in row)  # a row says nothing of objectives without a weight
    differing = [fact for fact in every if len({row[fact] for row in known if fact in row}) > 1]
    if len(differing) <= MANY:
        return [", ".join(f"{fact} {row[fact]}" for fact in differing if row.get(fact)) for row in known]
    named = [fact for fact in differing if fact in FACTS]
    return [
        ", ".join(f"{fact} {row[fact]}" for fact in named if row[fact] and row[fact] != known[0][fact]) for row in known
    ]
