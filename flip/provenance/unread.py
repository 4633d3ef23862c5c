"""Say which parameters the stages do not depend on, and why. All others count: a new section does for every stage,
until it is named here.

A key stands for all that is below it. tests/test_unread.py holds the reasons to the truth: it runs the stages and looks
at what they read.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from flip.config.objectives import NAMES
from flip.config.schema import Params

NOT_READ = "the stage's code does not read it"
UPSTREAM = "what it decides comes with a result that this one is made from"
SPEED = "it changes how fast a result comes, and not what it is, but for rounding, as another machine does"
RESTART = "it says when a run saves its state, and when it gives up"
POLITE = "it says how strangers are asked and what is taken from them; images that have come stay as they are"
NAME = "a name: under another one, a result is the same"
CHOSEN = "what was chosen stands under its own key"
OWN = "each seed has a result of its own"
UNUSED = "it is read on the way to something else, and gives nothing to this result"
LISTED = "what the stage reads of it is listed beside the parameters"

LOSSES = ("logits", *NAMES)
MODEL = ("start", "model", "form", "image_tower", "text_tower", "masking", *LOSSES)
TRAINED = (*MODEL, "captions", "curation", "augmentation", "noise", "codebook", "train")
DATA = ("source", "world", "download", "shards", "tokenizer")
MEASURED = ("evaluate", "transfer", "bootstrap", "cost")

ALWAYS = {"scale": NAME, "variant": NAME, "resources": SPEED, "sweep": CHOSEN, "train.equal_time": CHOSEN}
ALWAYS |= {"source.cache": SPEED}
FASTER = dict.fromkeys(
    (
        "train.workers",
        "train.decoder",
        "train.compile",
        "train.checkpoint_activations",
        "train.shard_weights",
        "train.deterministic",
    ),
    SPEED,
)
SAVED = dict.fromkeys(
    ("train.checkpoint_minutes", "train.checkpoint_samples", "train.keep_checkpoints", "train.stall_minutes"), RESTART
)
# Keys that came after results -> what these were made with: at that value a key does not count, so they stay valid.
ADDED: dict[str, Any] = {
    "form.initialization": "xavier",
    "world.faults.disallowed": 0.0,
    "world.faults.busy": 0.0,
    "source.shards": None,
    "source.several": {},
    "source.images": None,
    "source.further_captions": [],
    "source.synthetic_captions": [],
    "captions.synthetic_share": None,
    "source.image_members": ["jpg", "jpeg", "png", "webp"],
    "source.caption_member": "txt",
    "source.classes": None,
    "train.source_weights": {},
    "train.lora": None,
    "masking.image_policy": "random",
    "masking.gaussian_variance": 0.2,
    "form.vision.merged": 0.0,
    "form.vision.merges_at_evaluation": True,
    "masking.views": 1,
    "masking.anchors": 0.05,
    "masking.momentum": 0.996,
    "masking.frequency_threshold": 0.000001,
    "tokenizer.least_count": 5,
    "model.first_image": None,
    "model.full_image": None,
    "curation": None,
}


def but(reason: str, *keys: str) -> dict[str, str]:
    """Map the keys to one reason."""
    return dict.fromkeys(keys, reason)


def as_before(params: Params) -> list[str]:
    """Return the keys of ADDED at the value that they had before they were keys."""
    return [key for key, value in ADDED.items() if attrgetter(key)(params) == value]


def below(section: str, *names: str) -> tuple[str, ...]:
    """Name keys of a section."""
    return tuple(f"{section}.{name}" for name in names)


def nested(keys: Iterable[str]) -> dict:
    """Return dotted keys as pydantic's `exclude` takes them; what is below another key goes with that."""
    found: dict[str, Any] = {}
    for key in sorted(keys):
        *above, last = key.split(".")
        place: Any = found
        for part in above:
            place = True if place is True else place.setdefault(part, {})
        if place is not True:
            place[last] = True
    return found


DATA_CODE = ALWAYS | but(NOT_READ, "seeds", *TRAINED)  # of all stages that make data
ROWS = but(NOT_READ, "world.probe", "source.translations")  # the world's images, and where rows come from
IMAGES = ("image_size", "timeout", "retries", "min_image_size", "max_aspect_ratio", "quality", "samples_per_shard")
THREADS = but(SPEED, "download.processes", "download.threads")
HOSTS = but(POLITE, *below("download", "deadline", "largest_body", "private_addresses", "contact"))
HOSTS |= but(POLITE, *below("download", "at_once", "per_host", "per_host_second")) | but(
    RESTART, *below("download", "least_share", "stall_minutes")
)
OTHER_SECTIONS = but(NOT_READ, "source", "world", "download")

TABLE = (
    DATA_CODE | ROWS | THREADS | HOSTS | but(NOT_READ, *below("download", *IMAGES), "shards", "tokenizer", *MEASURED)
)
DOWNLOAD = DATA_CODE | ROWS | THREADS | HOSTS | but(NOT_READ, "shards", "tokenizer", *MEASURED)
MIRROR_SET = DATA_CODE | but(
    NOT_READ,
    *DATA,
    *below("evaluate", "primary_set", "validation_set", "languages", "measures", "batch"),
    *MEASURED[1:],
)
TEST_SETS = DATA_CODE | but(
    NOT_READ,
    *("source", "download", "shards", "tokenizer"),
    *below("evaluate", "validation_set", "languages", "batch"),
    *MEASURED[1:],
)
FINGERPRINTS = DATA_CODE | but(NOT_READ, *DATA, *MEASURED)
DUPLICATES = (
    DATA_CODE
    | OTHER_SECTIONS
    | but(NOT_READ, *below("shards", "samples_per_shard", "compact", "only"), "tokenizer", *MEASURED)
)
SHARDS = DATA_CODE | OTHER_SECTIONS | but(NOT_READ, "tokenizer", *MEASURED)
TOKENIZER = (
    DATA_CODE | OTHER_SECTIONS | but(NOT_READ, "shards", *below("tokenizer", "multilingual", "least_count"), *MEASURED)
)
ALL_WORDS = (
    DATA_CODE
    | OTHER_SECTIONS
    | but(NOT_READ, "shards", *below("tokenizer", "kind", "vocabulary", "path", "multilingual"), *MEASURED)
)
TRANSLATIONS = (
    DATA_CODE
    | but(UPSTREAM, *below("source", "caption_column", "sha256_column", "filters", "sample"))
    | but(NOT_READ, "world.probe", "download", "shards", *MEASURED)
    | but(NOT_READ, *below("tokenizer", "kind", "vocabulary", "path", "least_count"))
)
TRANSLATED_SET = DATA_CODE | but(
    NOT_READ, "source", "download", "shards", "tokenizer", "evaluate.batch", *MEASURED[1:]
) | but(UNUSED, *below("evaluate", "primary_set", "validation_set", "sets", "probe", "measures"))  # fmt: skip
PRETRAIN = ALWAYS | FASTER | SAVED | but(OWN, "seeds") | but(UPSTREAM, "codebook", *DATA) | but(NOT_READ, *MEASURED)
# What a model is built with before weights replace it.
BUILT = but(UNUSED, *below("train", "batch", "batch_scale"), "form.initialization")
BUILT |= but(SPEED, "train.checkpoint_activations")
STEPS = (
    "batch", "batch_scale", "micro_batch", "data_share", "source_weights", "epochs", "epochs_scale", "base_lr",
    "warmup_samples", "warmup_scale", "weight_decay", "betas", "epsilon", "skip_nonfinite",
)  # fmt: skip
EMBED = (
    ALWAYS
    | FASTER
    | SAVED
    | but(OWN, "seeds")
    | but(UPSTREAM, "start", "text_tower", "image_tower.lr_scale", *DATA)
    | but(
        NOT_READ, *below("train", *STEPS, "shuffle_shards"), "augmentation", "noise", "curation", "codebook", *MEASURED
    )
    | but(UNUSED, "masking")
    | but(SPEED, "evaluate.batch")
    | BUILT
)
FORM_BESIDE_PIXELS = (
    "pooling", "positions", "pre_norm", "patch_bias", "projection", "activation", "norm_epsilon", "merged",
    "merges_at_evaluation",
)  # fmt: skip
CODEBOOK = (
    ALWAYS
    | FASTER
    | SAVED
    | but(UPSTREAM, *DATA)
    | but(NOT_READ, *below("model", "embedding", "vision", "text", "tokens"), "form.text", "form.initialization")
    | but(NOT_READ, *below("form.vision", *FORM_BESIDE_PIXELS), *below("train", *STEPS, "precision"))
    | but(
        NOT_READ, "start", "image_tower", "text_tower", "masking", *LOSSES, "captions", "curation", "noise", *MEASURED
    )
)
CURATE = (
    ALWAYS
    | FASTER
    | SAVED
    | but(OWN, "seeds")
    | but(UPSTREAM, *DATA)
    | but(NOT_READ, *(key for key in TRAINED if key != "curation"), *MEASURED)
)
SWEEP = (
    ALWAYS
    | FASTER
    | SAVED
    | but(OWN, "seeds")
    | but(UPSTREAM, "codebook", "evaluate.measures", *DATA)
    | but(LISTED, *below("evaluate", "sets", "languages"))
    | but(NOT_READ, "evaluate.primary_set", *MEASURED[1:])
)
EVALUATE = (
    ALWAYS
    | but(OWN, "seeds")
    | but(UPSTREAM, *DATA, "start", "image_tower", "text_tower", "evaluate.measures")
    | but(LISTED, *below("evaluate", "sets", "languages", "validation_set"))
    | BUILT
    | but(NOT_READ, "augmentation", "noise", "curation", "codebook", "train", *MEASURED[1:])
)
TRANSFER = (
    ALWAYS
    | but(OWN, "seeds")
    | but(UPSTREAM, *DATA, "start", "image_tower", "text_tower", "evaluate.measures")
    | BUILT
    | but(UNUSED, *below("evaluate", "languages", "validation_set"))
    | but(NOT_READ, "augmentation", "noise", "curation", "codebook", "train", "bootstrap", "cost")
)
HEADS = but(NOT_READ, "transfer.finetuning")
FINETUNING = but(
    NOT_READ,
    *below("transfer", "caption", "nocaps", "vqa", "words", "least", "captioning", "fusion"),
    *below("transfer", "steps", "batch", "lr", "warmup", "weight_decay"),
)
# Which run it is, and how long; none of it changes what a step costs.
RUN = (
    "variant", "start", "seeds", "sweep", "curation", "image_tower.weights", "text_tower.weights",
    *below("train", "data_share", "source_weights", "epochs", "epochs_scale", "equal_time", "base_lr"),
    *below("train", "warmup_samples", "warmup_scale"),
)  # fmt: skip
COST = (
    but(UNUSED, *RUN)
    | but(NAME, "scale", "variant")
    | but(CHOSEN, "sweep", "train.equal_time")
    | SAVED
    | but(NOT_READ, "resources.data", "resources.evaluate", "seeds", *MEASURED[:3])
    | but(NOT_READ, *below("resources.pretrain", "nodes", "processes", "gpus", "gpu_memory_mb"))
    | but(NOT_READ, *below("resources.pretrain", "memory_mb", "minutes", "stop_seconds"))
    | but(UPSTREAM, "codebook", *DATA)
)
TABLES = but(SPEED, "resources", "source.cache") | FASTER | SAVED | THREADS | HOSTS
