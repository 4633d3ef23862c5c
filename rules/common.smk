# What every rule knows: the resolved parameters of the chosen scale, and how a job is run.
# Needs params.yaml. Gives PROJECT, SCALE, BASE, PARTS, BUCKETS, JOB, SETS, RUNS, RECEIPT, and, before any job is planned,
# specs/<scale>/ (frozen parameters and code that each job depends on) and receipts whose times say which of them hold.
#
# Jobs are linked by receipts alone (flip/receipt.py): small files that say what a result was made from and what it is.
# Pictures, shards and weights lie behind them, unknown to Snakemake: it would delete them when a job fails.

import os
import subprocess
import sys
from pathlib import Path

# The package of this folder, even where `snakemake` was installed with another copy of it.
sys.path.insert(0, workflow.basedir)

from flip.configured import chosen_reports, chosen_variants, configured
from flip.freshness import Conflict, align, leftovers, read_receipts
from flip.locks import enter
from flip.params import ParameterError
from flip.specs import write_specs
from snakemake.exceptions import WorkflowError

try:
    # A job that Snakemake starts on a cluster has a command line of Snakemake's own.
    PROJECT = configured(
        "params.yaml", config, sys.argv if workflow.is_main_process else []
    )
except ParameterError as error:
    raise WorkflowError(str(error)) from None

SCALE = PROJECT.scale
BASE = PROJECT.baseline
PARTS = [f"{part:04d}" for part in range(BASE.download.parts)]
BUCKETS = list(range(BASE.shards.buckets))
# What a job of training asks for.
JOB = BASE.resources.pretrain
SETS = list(BASE.evaluate.sets)
# Folders of one variant and seed, below results/<scale>/ and receipts/<scale>/variants/.
RUNS = {
    variant: [f"{variant}/seed-{seed}" for seed in BASE.seeds]
    for variant in PROJECT.variants
}

# The interpreter that runs Snakemake, which the environment's package is installed in.
PYTHON = sys.executable
# How every job begins: its command follows after --. It takes the shell's place, as a shell that is sent SIGTERM would
# end at once, and the job with it, before it has saved its work.
RECEIPT = (
    "exec {PYTHON} -m flip.receipt --out {output:q} --spec {input.spec:q} --after {input.after:q}"
    " --made {params.made:q}"
)
# Before it: what is measured was fetched earlier.
OFFLINE = "HF_HUB_OFFLINE=1 "


wildcard_constraints:
    scale="[a-z0-9-]+",
    variant="[a-z0-9-]+",
    report="[a-z0-9-]+",
    set="[a-z0-9-]+",
    part=r"\d+",
    bucket=r"\d+",
    seed=r"\d+",


def data_receipts(*names) -> list[str]:
    return [f"receipts/{{scale}}/data/{name}.json" for name in names]


def training_receipts(wildcards) -> list[str]:
    """What training builds on: the data, weights that it begins with, features of a locked image tower, codes."""
    params = PROJECT.variants[wildcards.variant]
    root, seed = f"receipts/{wildcards.scale}", f"seed-{wildcards.seed}"
    found = [f"{root}/variants/{name}/{seed}/pretrain.json" for name in params.before]
    if params.features:
        found.append(f"{root}/features/{params.features}/{seed}/embed.json")
    own = [wildcards.variant]
    found += codebook_receipt(own) + translation_receipts(own)
    return data_receipts("manifest", "tokenizer") + found


def weights_of(origin: str, wildcards) -> str:
    """A variant's weights, or the file that is named in its place."""
    folder = f"results/{wildcards.scale}/{origin}/seed-{wildcards.seed}"
    return origin if "." in origin else f"{folder}/weights.safetensors"


def beginning(wildcards) -> list[str]:
    """Options of training for what it begins with; none where that is nothing."""
    params, words = PROJECT.variants[wildcards.variant], []
    if params.start:
        words += ["--start", weights_of(params.start, wildcards)]
    for side in ("image", "text"):
        if origin := getattr(params, f"{side}_tower").weights:
            words += [f"--{side}-tower", weights_of(origin, wildcards)]
    if params.features:
        folder = f"features/{wildcards.scale}/{params.features}/seed-{wildcards.seed}"
        words += ["--features", folder]
    return words


def tower_files(wildcards, sides=("image", "text")) -> list[str]:
    """Files from outside that a variant's towers come from, if they do; their times do not count."""
    params = PROJECT.variants[wildcards.variant]
    files = [getattr(params, f"{side}_tower").file for side in sides]
    return [ancient(file) for file in files if file]


def tower_receipts(wildcards) -> list[str]:
    """What image features follow from: the pictures, and the training of the variant whose tower it is."""
    own = "receipts/{scale}/variants/{variant}/seed-{seed}/pretrain.json"
    return data_receipts("manifest") + [own] * (not tower_files(wildcards, ["image"]))


def tower_weights(wildcards) -> str:
    file = PROJECT.variants[wildcards.variant].image_tower.file
    return weights_of(file or wildcards.variant, wildcards)


def gpus(per_node: int, nodes: int = 1) -> dict:
    """Nodes and GPUs as the cluster is asked for them: on each node, and in all."""
    asked = {"nodes": nodes, "gpu": nodes * per_node}
    return asked | ({"gres": f"gpu:{per_node}"} if per_node else {})


def evaluations(variants) -> list[str]:
    """Receipts of the evaluation of all seeds of variants."""
    return [
        f"receipts/{SCALE}/variants/{run}/evaluate.json"
        for variant in variants
        for run in RUNS[variant]
    ]


def compared_receipts(wildcards) -> list[str]:
    """What the tables of a report are made of."""
    cost = f"receipts/{SCALE}/tables/{wildcards.report}/cost.json"
    manifest = f"receipts/{SCALE}/data/manifest.json"
    names = PROJECT.of(wildcards.report).named
    heads = transfer_receipts(wildcards.report)
    return [*evaluations(names), cost, manifest, *heads, *codebook_receipt(names)]


def cost_receipts(wildcards) -> list[str]:
    """What steps are measured on."""
    names = PROJECT.of(wildcards.report).named
    found = codebook_receipt(names) + translation_receipts(names)
    return data_receipts("manifest", "tokenizer") + found


def compared_parameters(wildcards) -> list[str]:
    """Frozen parameters of the variants that a report compares, the one first that costs are ratios to."""
    return [
        f"specs/{SCALE}/params/{name}.yaml"
        for name in PROJECT.of(wildcards.report).named
    ]


# Receipts as they were at the start; a job on a cluster, which runs what it was given, has none.
RECEIPTS = None

# By the main process alone: a job on a cluster sees what it wrote, and must not move the times of files in use.
if workflow.is_main_process:
    PRESENCE, busy = enter(
        SCALE, Path(".snakemake/locks"), wait="DVC_STAGE" in os.environ
    )
    try:
        write_specs(PROJECT, in_use=busy)
        RECEIPTS = (
            read_receipts(f"receipts/{SCALE}")
            if busy
            else align(f"receipts/{SCALE}", f"specs/{SCALE}")
        )
    except (Conflict, ParameterError) as error:
        raise WorkflowError(str(error)) from None
    if unknown := leftovers(f"results/{SCALE}", PROJECT.variants):
        logger.warning(
            f"Results of no variant in params.yaml, left as they are: {', '.join(unknown)}. Give the variant its old "
            "name back, or delete them and their receipts."
        )


def record() -> None:
    """What is finished goes into DVC's records; DVC does so by itself where it called Snakemake."""
    if "DVC_STAGE" not in os.environ:
        subprocess.run([PYTHON, "-m", "flip.record", "--scale", SCALE], check=False)


onsuccess:
    record()


onerror:
    record()
