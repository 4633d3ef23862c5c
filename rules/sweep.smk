# Sweeps: a grid of values (`sweep` of a variant) -> candidates, trained at one seed -> the best on the validation set.
# Needs the receipts of data.smk and of what training builds on. Gives receipts/<scale>/sweeps/<variant>/<candidate>.json and behind
# it sweeps/<scale>/<variant>/<candidate>/, intermediate; receipts/<scale>/choices/<variant>/choose.json and behind it
# chosen/<scale>/<variant>.json, which belongs into Git: params.yaml is read with it from the next call of Snakemake on.

from functools import cache

from flip.config import sweep

# The seed that candidates are trained with.
SWEPT_SEED = BASE.seeds[0]
CANDIDATE = AT.candidate("{variant}", "{candidate}")


def candidates(variant) -> dict:
    """Values to try, by the candidate's name."""
    return sweep.candidates(PROJECT.variants[variant])


def unsettled(variant) -> list[str]:
    """Variants that this one begins with and for which nothing has been chosen yet: their turn comes first."""
    before = PROJECT.chain(variant)[1:]
    return [one for one in before if candidates(one) and not is_chosen(PROJECT, one)]


def sweepable() -> list[str]:
    """The variants of the reports that are asked for, or the one, that have something to choose."""
    if "variant" in config:
        names = chosen_variants(config, PROJECT)
    else:
        reports = chosen_reports(config, PROJECT)
        names = dict.fromkeys(
            name for report in reports for name in PROJECT.of(report).named
        )
    return [name for name in names if candidates(name)]


@cache
def sweeps_now() -> list[str]:
    """Of these, those that can be swept now; the others are named, as they need another call."""
    found = sweepable()
    later = {name: unsettled(name) for name in found if unsettled(name)}
    for name, before in later.items():
        logger.warning(
            f"{name} begins with {', '.join(before)}, for which nothing is chosen yet: run `snakemake sweep` again "
            "after this one."
        )
    return [name for name in found if name not in later]


def as_trained(wildcards) -> SimpleNamespace:
    """A candidate's wildcards as those of a training."""
    return SimpleNamespace(variant=wildcards.variant, seed=SWEPT_SEED)


def candidate_receipts(wildcards) -> list[str]:
    """What training builds on, and the set that the candidate is scored on."""
    found = training_receipts(as_trained(wildcards))
    return found + [AT.receipts.test(BASE.evaluate.validation_set)]


def candidate_beginning(wildcards) -> list[str]:
    return beginning(as_trained(wildcards))


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
