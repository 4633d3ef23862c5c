# What is chosen before a variant trains: a schedule that takes another one's time, from the times of their steps
# (`train.equal_time`); and the best of a grid of values (`sweep`) on the validation set, of candidates trained at one seed.
# Needs the receipts of data.smk and of what training builds on. Gives receipts/<scale>/sweeps/<variant>/<candidate>.json and behind
# it sweeps/<scale>/<variant>/<candidate>/, intermediate; receipts/<scale>/choices/<variant>/choose.json and behind it
# chosen/<scale>/sweeps/<variant>.json; receipts/<scale>/times/<variant>/step_time.json and behind it chosen/<scale>/times/<variant>.json.
# What is chosen belongs into Git: params.yaml is read with it from the next call of Snakemake on.

import json
from functools import cache

from flip.config import sweep

# The seed that candidates are trained with.
SWEPT_SEED = BASE.seeds[0]
CANDIDATE = AT.candidate("{variant}", "{candidate}")


def candidates(variant) -> dict:
    """Values to try, by the candidate's name."""
    return sweep.candidates(PROJECT.variants[variant])


def unsettled(variant) -> list[str]:
    """What has to be chosen before this variant's candidates train: what it begins with, and schedules, its own too."""
    chain = PROJECT.chain(variant)
    found = [
        one for one in chain[1:] if candidates(one) and not is_chosen(PROJECT, one)
    ]
    return found + [f"{one}'s schedule" for one in chain if not is_timed(PROJECT, one)]


def sweepable() -> list[str]:
    """The variants of the reports that are asked for, or the one, that have something to choose."""
    if "variant" in config:
        names = chosen_variants(config, PROJECT)
    else:
        reports = chosen_reports(config, PROJECT)
        names = dict.fromkeys(
            name for report in reports for name in PROJECT.of(report).named
        )
    return [name for name in names if candidates(name) or not is_timed(PROJECT, name)]


def chosen_elsewhere(variant) -> bool:
    """Whether this very recipe was swept, and not here: what was chosen came with Git."""
    return (
        is_chosen(PROJECT, variant) and not Path(HERE.receipts.choice(variant)).exists()
    )


@cache
def choices_now() -> list[str]:
    """Receipts of what can be chosen for these now; the others are named: they need another call, or none."""
    found = sweepable()
    swept = [name for name in found if candidates(name) and not chosen_elsewhere(name)]
    if kept := [name for name in found if candidates(name) and name not in swept]:
        logger.info(
            f"Chosen before, from the same recipe: {', '.join(kept)}. To choose again, delete "
            f"{HERE.choice('VARIANT')}."
        )
    later = {name: before for name in swept if (before := unsettled(name))}
    for name, before in later.items():
        logger.warning(
            f"{name} waits for {', '.join(before)}: run `snakemake sweep` again after this one."
        )
    times = [name for name in found if not is_timed(PROJECT, name)]
    now = [name for name in swept if name not in later]
    receipts = HERE.receipts
    return [*map(receipts.step_time, times), *map(receipts.choice, now)]


def timed_pair(wildcards) -> list[str]:
    """The variant whose time another one takes, and that one."""
    return [PROJECT.variants[wildcards.variant].train.equal_time, wildcards.variant]


def as_trained(wildcards) -> SimpleNamespace:
    """A candidate's wildcards as those of a training."""
    return SimpleNamespace(variant=wildcards.variant, seed=SWEPT_SEED)


def candidate_receipts(wildcards) -> list[str]:
    """What training builds on, and the set that the candidate is scored on."""
    found = training_receipts(as_trained(wildcards))
    return found + [AT.receipts.test(BASE.evaluate.validation_set)]


def candidate_beginning(wildcards) -> list[str]:
    return beginning(as_trained(wildcards))


rule step_time:
    """Time the steps of {wildcards.variant} and of the variant whose time it takes, in turns."""
    input:
        spec=AT.specs.step_time("{variant}"),
        upstream=lambda wildcards: steps_receipts(timed_pair(wildcards)),
    output:
        update(AT.receipts.step_time("{variant}")),
    log:
        AT.log("step_time", "{variant}"),
    priority: 2
    threads: MEASURING.threads
    resources:
        **MEASURING.resources,
    params:
        frozen=lambda wildcards: [HERE.params(name) for name in timed_pair(wildcards)],
        outputs=AT.step_time("{variant}"),
    shell:
        RECEIPT
        + " -- {PYTHON:q} -m flip.sweep.times --params {params.frozen:q} --spec {input.spec:q} --data {HERE.data}"
        " --threads {JOB.threads} --out {params.outputs:q} 2> {log:q}"


rule candidate:
    """Train {wildcards.variant} with {params.values} and score it on the validation set."""
    input:
        spec=AT.specs.candidate("{variant}", "candidate"),
        upstream=candidate_receipts,
    output:
        update(AT.receipts.candidate("{variant}", "{candidate}")),
    log:
        AT.log("candidate", "{variant}", "{candidate}"),
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        frozen=AT.params("{variant}"),
        values=lambda wildcards: json.dumps(
            candidates(wildcards.variant)[wildcards.candidate]
        ),
        out=CANDIDATE,
        checkpoints=AT.candidate_checkpoints("{variant}", "{candidate}"),
        outputs=f"{CANDIDATE}/score.json",
        extra_outputs=[f"{CANDIDATE}/{name}" for name in ("training.json", "log.csv")],
        facts=f"{CANDIDATE}/score.json",
        sources=tower_files,
        begin=candidate_beginning,
        threads=threads_each,
    shell:
        RECEIPT
        + " --sources {params.sources:q} --extra-outputs {params.extra_outputs:q} --facts {params.facts:q} --intermediate --"
        " {PYTHON:q} -m flip.train.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.sweep --params {params.frozen:q} --values {params.values:q}"
        " --data {HERE.data} --seed {SWEPT_SEED} --spec {input.spec:q} {params.begin:q} --threads {params.threads}"
        " --checkpoints {params.checkpoints:q}"
        " --out {params.out:q} 2> {log:q}"


rule choose:
    """Choose the best candidate of {wildcards.variant}."""
    input:
        spec=AT.specs.choice("{variant}"),
        upstream=lambda wildcards: [
            HERE.receipts.candidate(wildcards.variant, name)
            for name in candidates(wildcards.variant)
        ],
    output:
        update(AT.receipts.choice("{variant}")),
    log:
        AT.log("choose", "{variant}"),
    localrule: True
    params:
        frozen=AT.params("{variant}"),
        scores=lambda wildcards: [
            f"{HERE.candidate(wildcards.variant, name)}/score.json"
            for name in candidates(wildcards.variant)
        ],
        outputs=AT.choice("{variant}"),
    shell:
        RECEIPT
        + " -- {PYTHON:q} -m flip.sweep.choose --params {params.frozen:q} --spec {input.spec:q}"
        " --scores {params.scores:q} --out {params.outputs:q} 2> {log:q}"
