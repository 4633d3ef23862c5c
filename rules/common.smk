# What every rule knows: the resolved parameters of the chosen scale, and what a result is made from.
# Needs params.yaml. Gives PROJECT, SCALE, BASE, PARTS, BUCKETS, SETS, BY_COST, RUNS, made_from(), start_weights(),
# and the frozen parameters data/<scale>/params.yaml and results/<scale>/<variant>/params.yaml.

import sys
from hashlib import sha256

from flip.params import ParameterError, freeze, read_project
from flip.provenance import source_hash
from snakemake.exceptions import WorkflowError

try:
    PROJECT = read_project("params.yaml", config.get("scale")).check()
except ParameterError as error:
    raise WorkflowError(str(error)) from None

SCALE = PROJECT.scale
# The baseline of the first table stands for its scale wherever variants do not differ: data, test sets, resources.
BASELINE = next(iter(PROJECT.tables.values())).variants[0]
BASE = PROJECT.variants[BASELINE]
PARTS = [f"{part:04d}" for part in range(BASE.download.parts)]
BUCKETS = list(range(BASE.shards.buckets))
SETS = list(BASE.evaluate.sets)
# The baseline first: the costs of the others are ratios to its own.
BY_COST = [BASELINE, *(name for name in PROJECT.variants if name != BASELINE)]
# One folder per variant and seed.
RUNS = [f"results/{SCALE}/{v}/seed-{s}" for v in PROJECT.variants for s in BASE.seeds]

# The interpreter that runs Snakemake, which the environment's package is installed in.
PYTHON = sys.executable


wildcard_constraints:
    scale="[a-z0-9-]+",
    variant="[a-z0-9-]+",
    set="[a-z0-9-]+",
    part=r"\d+",
    bucket=r"\d+",
    seed=r"\d+",


# The module that each stage runs and the parameter sections that it reads. A result is made again when one of these
# changes, and by nothing else: neither by another section nor by another variant.
TRAINING = ["model", "augmentation", "masking", "reconstruction", "train", "start"]
STAGES = {
    "table": ("flip.data.table", ["source", "world", "download"]),
    "download": ("flip.data.download", ["source", "world", "download"]),
    "fingerprints": ("flip.data.fingerprints", []),
    "test_sets": ("flip.data.testsets", ["world", "evaluate"]),
    "duplicates": ("flip.data.duplicates", ["shards"]),
    "shards": ("flip.data.shards", ["shards"]),
    "manifest": ("flip.data.manifest", []),
    "tokenizer": ("flip.data.tokenizer", ["tokenizer"]),
    "pretrain": ("flip.pretrain", TRAINING),
    "evaluate": ("flip.evaluate", ["model", "masking", "evaluate"]),
    "cost": ("flip.cost", [*TRAINING, "cost"]),
    "tables": ("flip.report.tables", ["bootstrap"]),
}


def digest(*facts) -> str:
    return sha256(repr(facts).encode()).hexdigest()[:16]


def made_from(stage):
    """A function for a rule's `params`: digest of the sections and sources that the stage reads for a variant."""
    source, sections = STAGES[stage]

    def of_variant(wildcards):
        params = PROJECT.variants[wildcards.get("variant", BASELINE)]
        return digest(
            params.model_dump_json(include=set(sections)), source_hash(source)
        )

    return of_variant


def start_weights(wildcards):
    """The weights that a tuned variant begins with; nothing for others."""
    start = PROJECT.variants[wildcards.variant].start
    return (
        [f"results/{wildcards.scale}/{start}/seed-{wildcards.seed}/weights.safetensors"]
        if start
        else []
    )


# The frozen parameters are written here and not by a rule: Snakemake asks a job behind one that is to run for no reasons
# of its own, and with ancient() it then finds none. A job on a cluster reads what the main process wrote.
if workflow.is_main_process:
    freeze(BASE, f"data/{SCALE}/params.yaml")
    for name, params in PROJECT.variants.items():
        freeze(params, f"results/{SCALE}/{name}/params.yaml")
