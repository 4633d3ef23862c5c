# What every rule knows: the resolved parameters of the chosen scale, and how a job is run.
# Needs params.yaml. Gives PROJECT, SCALE, BASE, PARTS, GROUPS, GROUP_OF, BUCKETS, JOB, SETS, AT and HERE (paths), FROZEN, RECEIPT.
#
# Jobs are linked by receipts alone (flip/provenance/receipt.py): small files that say what a result was made from and what it is.
# Images, shards and weights lie behind them, unknown to Snakemake: it would delete them when a job fails.

import locale
import os
import sys
from pathlib import Path
from types import SimpleNamespace

# The package of this folder, even where `snakemake` was installed with another copy of it.
sys.path.insert(0, workflow.basedir)

from flip.config import public
from flip.config.overrides import chosen_reports, chosen_variants, configured
from flip.formats.remote import is_remote
from flip.provenance.layout import Layout
from flip.config.faults import ParameterError
from flip.provenance.specs import (
    DATA,
    TRANSLATED_SET,
    TRANSLATIONS,
    is_chosen,
    is_timed,
)
from snakemake.exceptions import WorkflowError

if not Path("params.yaml").exists():
    raise WorkflowError(
        f"params.yaml: not in {Path.cwd()}, where Snakemake works; `cd {workflow.basedir}` first, or add "
        f"`--directory {workflow.basedir}`"
    )
if (encoding := locale.getencoding().lower()) not in ("utf-8", "utf8"):
    raise WorkflowError(
        f"The locale's encoding is {encoding}, and captions have every script: `export LC_ALL=C.UTF-8` first"
    )
try:
    # A job that Snakemake starts on a cluster has a command line of Snakemake's own.
    PROJECT = configured(
        "params.yaml", config, sys.argv if workflow.is_main_process else []
    )
except ParameterError as error:
    raise WorkflowError(str(error)) from None

SCALE = PROJECT.scale
BASE = PROJECT.baseline
PARTS = BASE.download.part_names
# Neighbouring parts, of which there may be thousands, together: by the group's name, and the group of each part.
GROUPS = BASE.download.groups
GROUP_OF = {part: group for group, parts in GROUPS.items() for part in parts}
BUCKETS = BASE.shards.bucket_names
# What a job of training asks for.
JOB = BASE.resources.pretrain
SETS = list(BASE.evaluate.sets)
# Where everything lies: with the wildcard in place of the scale, and at this scale.
AT, HERE = Layout("{scale}"), Layout(SCALE)
# Parameters of the stages that are alike for all variants.
FROZEN = HERE.params(BASE.variant)

# The interpreter that runs Snakemake, which the environment's package is installed in.
PYTHON = sys.executable
# How every job begins: its command follows after --. It takes the shell's place, as a shell that is sent SIGTERM would
# end at once, and the job with it, before it has saved its work.
RECEIPT = (
    "exec {PYTHON:q} -m flip.provenance.receipt --out {output:q} --spec {input.spec:q} --upstream {input.upstream:q}"
    " --outputs {params.outputs:q}"
)
# How a job with thousands of receipts upstream begins.
RECEIPT_OF_MANY = RECEIPT.replace("{input.upstream:q}", "{params.receipts:q}")
# Before it: what is measured was fetched earlier.
OFFLINE = "HF_HUB_OFFLINE=1 "


wildcard_constraints:
    scale="[a-z0-9-]+",
    variant="[a-z0-9-]+",
    report="[a-z0-9-]+",
    set="[a-z0-9-]+",
    part=r"\d+",
    group=r"\d+",
    bucket=r"\d+",
    seed=r"\d+",


def data_receipts(*names) -> list[str]:
    return [AT.receipts.data(name) for name in names]


def ranged(path, names) -> str:
    """Name many paths by the first and the last one, as flip.files.expand reads it: commands have no room for all.

    In a function of the wildcards, as Snakemake takes braces in other parameters for wildcards.
    """
    return path(f"{{{names[0]}..{names[-1]}}}")


def outside(*places) -> list[str]:
    """Those of the places (files, globs, folders) that lie outside the project, whose contents count. Not Snakemake's
    inputs, of which it would look at times, and which need not be here when what was made of them is.
    """
    return [
        place
        for place in places
        if place
        and place != "world"
        and not public.is_public(place)
        and not is_remote(place)
    ]


def reports_on_page() -> list[str]:
    """The tables that the page of reports shows."""
    names = chosen_reports(config, PROJECT)
    return [HERE.receipts.tables(name, "tables") for name in names]


def gpus(per_node: int, nodes: int = 1) -> dict:
    """Nodes and GPUs as the cluster is asked for them, on each node and in all, and where it has them."""
    asked = {"nodes": nodes, "gpu": nodes * per_node}
    if not per_node:
        return asked
    site = {
        "slurm_partition": os.environ.get("SBATCH_GPU_PARTITION"),
        "constraint": os.environ.get("SBATCH_GPU_CONSTRAINT"),
    }
    named = {key: value for key, value in site.items() if value}
    return asked | {"gres": f"gpu:{per_node}"} | named


# What a job that times steps asks for: all cores of this machine, though it uses those of one process of a training job, as
# another job beside it would be measured too. A cluster gives each job cores of its own.
OWN_CORES = workflow.cores if workflow.cores <= os.cpu_count() else 1
MEASURING = SimpleNamespace(
    threads=max(JOB.threads, OWN_CORES),
    resources={
        **gpus(JOB.gpus),
        "mem_mb": JOB.memory_mb // JOB.processes,
        "runtime": JOB.minutes,
    },
)


def evaluations(variants) -> list[str]:
    """Receipts of the evaluation of all seeds of variants."""
    return [
        HERE.receipts.variant(variant, "evaluate", seed)
        for variant in variants
        for seed in BASE.seeds
    ]


def compared_receipts(wildcards) -> list[str]:
    """What the tables of a report are made of."""
    cost = HERE.receipts.tables(wildcards.report, "cost")
    manifest = HERE.receipts.data("manifest")
    names = PROJECT.of(wildcards.report).named
    heads = transfer_receipts(wildcards.report)
    return [*evaluations(names), cost, manifest, *heads, *codebook_receipt(names)]


def steps_receipts(names) -> list[str]:
    """What the steps of variants are measured on."""
    found = codebook_receipt(names) + translation_receipts(names)
    return data_receipts("manifest", "tokenizer") + found + words_receipt(names)


def compared_parameters(wildcards) -> list[str]:
    """Frozen parameters of the variants that a report compares, the one first that costs are ratios to."""
    return [HERE.params(name) for name in PROJECT.of(wildcards.report).named]
