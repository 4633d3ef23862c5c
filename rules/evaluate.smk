# Evaluation: weights -> metrics, and what a training step costs.
# Needs the receipts of pretrain.smk and data.smk. Gives receipts/<scale>/variants/<variant>/seed-<seed>/evaluate.json,
# receipts/<scale>/tables/<report>/cost.json and, where a report shows what heads learn, <variant>/<job>/seed-<seed>/transfer.json
# beside it; and behind them results/<scale>/<variant>/seed-<seed>/{metrics.json, outcomes.npz, pictures/} and, in
# tables/<scale>/<report>/, cost.json and <variant>/<job>/seed-<seed>/{metrics.json, outcomes.npz}.

from flip.metrics.names import transferred
from flip.metrics.sets import TRANSFERS


def transfer_receipts(report) -> list[str]:
    """Of what is trained for the metrics that a report shows."""
    return [
        f"receipts/{SCALE}/tables/{report}/{variant}/{job}/seed-{seed}/transfer.json"
        for variant, jobs in transferred(PROJECT.of(report)).items()
        for job in jobs
        for seed in PROJECT.variants[variant].seeds
    ]


def tasks_of(wildcards) -> list[str]:
    """What a job of the rule transfer does."""
    return transferred(PROJECT.of(wildcards.report))[wildcards.variant][wildcards.job]


def transfer_folders(wildcards) -> list[str]:
    """What these tasks learn from and are tested on, where that lies outside the project."""
    asked = BASE.transfer.model_dump(include=set(tasks_of(wildcards)) & set(TRANSFERS))
    return outside(*asked.values())


rule evaluate:
    """Zero-shot classification and retrieval of {wildcards.variant} by clip-benchmark, probes, and where it looks."""
    input:
        spec="specs/{scale}/variants/{variant}/evaluate.json",
        after=evaluation_receipts,
    output:
        update("receipts/{scale}/variants/{variant}/seed-{seed}/evaluate.json"),
    log:
        "logs/evaluate/{scale}/{variant}/seed-{seed}.log",
    threads: BASE.resources.evaluate.threads
    resources:
        **gpus(BASE.resources.evaluate.gpus),
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.evaluate.minutes,
    params:
        made=expand(
            "results/{{scale}}/{{variant}}/seed-{{seed}}/{name}",
            name=["outcomes.npz", "metrics.json"],
        ),
        # What there is to see depends on the variant and on the sets.
        within="results/{scale}/{variant}/seed-{seed}/pictures",
        facts="results/{scale}/{variant}/seed-{seed}/metrics.json",
    shell:
        OFFLINE + RECEIPT + " --within {params.within:q} --facts {params.facts:q} --"
        " {PYTHON} -m flip.evaluate --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --seed {wildcards.seed} --threads {threads}"
        " --weights results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed}/weights.safetensors"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"


rule cost:
    """FLOPs, time per sample and memory of the training steps that {wildcards.report} compares, measured in turns."""
    input:
        spec="specs/{scale}/tables/{report}/cost.json",
        after=cost_receipts,
    output:
        update("receipts/{scale}/tables/{report}/cost.json"),
    log:
        "logs/cost/{scale}/{report}.log",
    # All local cores, though it uses those of a training job: another job beside it would be measured too.
    threads: max(JOB.threads, workflow.cores if workflow.local_exec else 1)
    resources:
        **gpus(JOB.gpus),
        mem_mb=JOB.memory_mb // JOB.processes,
        runtime=JOB.minutes,
    params:
        made="tables/{scale}/{report}/cost.json",
        params=compared_parameters,
    shell:
        RECEIPT + " --facts {params.made:q} --"
        " {PYTHON} -m flip.train.step_cost --params {params.params:q} --data data/{wildcards.scale}"
        " --threads {JOB.threads} --out {params.made:q} 2> {log:q}"


rule transfer:
    """Train on what {wildcards.variant} has learned and measure it, as {wildcards.report} shows it: {params.tasks}."""
    input:
        spec="specs/{scale}/tables/{report}/{variant}/{job}/transfer.json",
        after=evaluation_receipts,
    output:
        update(
            "receipts/{scale}/tables/{report}/{variant}/{job}/seed-{seed}/transfer.json"
        ),
    log:
        "logs/transfer/{scale}/{report}/{variant}/{job}/seed-{seed}.log",
    threads: BASE.resources.evaluate.threads
    resources:
        **gpus(BASE.resources.evaluate.gpus),
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.evaluate.minutes,
    params:
        made=expand(
            "tables/{{scale}}/{{report}}/{{variant}}/{{job}}/seed-{{seed}}/{name}",
            name=["outcomes.npz", "metrics.json"],
        ),
        facts="tables/{scale}/{report}/{variant}/{job}/seed-{seed}/metrics.json",
        tasks=tasks_of,
        sources=transfer_folders,
    shell:
        OFFLINE + RECEIPT + " --sources {params.sources:q} --facts {params.facts:q} --"
        " {PYTHON} -m flip.transfer --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --seed {wildcards.seed} --threads {threads}"
        " --weights results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed}/weights.safetensors"
        " --out tables/{wildcards.scale}/{wildcards.report}/{wildcards.variant}/{wildcards.job}/seed-{wildcards.seed}"
        " --tasks {params.tasks:q} 2> {log:q}"
