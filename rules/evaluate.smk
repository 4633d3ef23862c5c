# Evaluation: weights -> metrics, and what a training step costs.
# Needs the receipts of pretrain.smk and data.smk. Gives receipts/<scale>/variants/<variant>/seed-<seed>/evaluate.json,
# receipts/<scale>/tables/<report>/cost.json and, where a report shows what heads learn, <variant>/<job>/seed-<seed>/transfer.json
# beside it; and behind them results/<scale>/<variant>/seed-<seed>/{metrics.json, outcomes.npz, sheets/} and, in
# tables/<scale>/<report>/, cost.json and <variant>/<job>/seed-<seed>/{metrics.json, outcomes.npz}.

from flip.metrics.names import transferred
from flip.metrics.sets import TRANSFERS
from flip.formats.notes import SHOWN, notes_path

# Folders of a job, with its wildcards.
RUN = AT.run("{variant}", "{seed}")
TRANSFER = AT.transfer("{report}", "{variant}", "{job}", "{seed}")


def transfer_receipts(report) -> list[str]:
    """Of what is trained for the metrics that a report shows."""
    return [
        HERE.receipts.transfer(report, variant, job, seed)
        for variant, jobs in transferred(PROJECT.of(report)).items()
        for job in jobs
        for seed in PROJECT.variants[variant].seeds
    ]


def tasks_of(wildcards) -> list[str]:
    """What a job of the rule transfer does."""
    return transferred(PROJECT.of(wildcards.report))[wildcards.variant][wildcards.job]


def transfer_sources(wildcards) -> list[str]:
    """What these tasks learn from and are tested on, where that lies outside the project; of the world's images, what
    heads are told, which no hash of a set covers."""
    asked = BASE.transfer.model_dump(include=set(tasks_of(wildcards)) & set(TRANSFERS))
    tests = Path("data", SCALE, "tests")
    notes = [str(notes_path(tests / name, split)) for split, name in SHOWN.items()]
    return outside(*asked.values()) + notes * ("world" in asked.values())


rule evaluate:
    """Zero-shot classification and retrieval of {wildcards.variant} by clip-benchmark, probes, and where it looks."""
    input:
        spec=AT.specs.variant("{variant}", "evaluate"),
        upstream=evaluation_receipts,
    output:
        update(AT.receipts.variant("{variant}", "evaluate", "{seed}")),
    log:
        AT.log("evaluate", "{variant}", "seed-{seed}"),
    threads: BASE.resources.evaluate.threads
    resources:
        **gpus(BASE.resources.evaluate.gpus),
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.evaluate.minutes,
    params:
        frozen=AT.params("{variant}"),
        weights=AT.weights("{variant}", "{seed}"),
        out=RUN,
        outputs=[f"{RUN}/outcomes.npz", f"{RUN}/metrics.json"],
        # What there is to see depends on the variant and on the sets.
        output_dirs=f"{RUN}/sheets",
        facts=f"{RUN}/metrics.json",
    shell:
        OFFLINE
        + RECEIPT
        + " --output-dirs {params.output_dirs:q} --facts {params.facts:q} --"
        " {PYTHON:q} -m flip.evaluate --params {params.frozen:q}"
        " --data {HERE.data} --seed {wildcards.seed} --threads {threads}"
        " --weights {params.weights:q}"
        " --out {params.out:q} 2> {log:q}"


rule cost:
    """FLOPs, time per sample and memory of the training steps that {wildcards.report} compares, measured in turns."""
    input:
        spec=AT.specs.tables("{report}", "cost"),
        upstream=lambda wildcards: steps_receipts(PROJECT.of(wildcards.report).named),
    output:
        update(AT.receipts.tables("{report}", "cost")),
    log:
        AT.log("cost", "{report}"),
    threads: MEASURING.threads
    resources:
        **MEASURING.resources,
    params:
        outputs=AT.cost("{report}"),
        params=compared_parameters,
    shell:
        RECEIPT + " --facts {params.outputs:q} --"
        " {PYTHON:q} -m flip.train.step_cost --params {params.params:q} --data {HERE.data}"
        " --threads {JOB.threads} --out {params.outputs:q} 2> {log:q}"


rule transfer:
    """Train on what {wildcards.variant} has learned and measure it, as {wildcards.report} shows it: {params.tasks}."""
    input:
        spec=AT.specs.transfer("{report}", "{variant}", "{job}"),
        upstream=evaluation_receipts,
    output:
        update(AT.receipts.transfer("{report}", "{variant}", "{job}", "{seed}")),
    log:
        AT.log("transfer", "{report}", "{variant}", "{job}", "seed-{seed}"),
    threads: BASE.resources.evaluate.threads
    resources:
        **gpus(BASE.resources.evaluate.gpus),
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.evaluate.minutes,
    params:
        frozen=AT.params("{variant}"),
        weights=AT.weights("{variant}", "{seed}"),
        out=TRANSFER,
        outputs=[f"{TRANSFER}/outcomes.npz", f"{TRANSFER}/metrics.json"],
        facts=f"{TRANSFER}/metrics.json",
        tasks=tasks_of,
        sources=transfer_sources,
    shell:
        OFFLINE + RECEIPT + " --sources {params.sources:q} --facts {params.facts:q} --"
        " {PYTHON:q} -m flip.transfer --params {params.frozen:q}"
        " --data {HERE.data} --seed {wildcards.seed} --threads {threads}"
        " --weights {params.weights:q}"
        " --out {params.out:q}"
        " --tasks {params.tasks:q} 2> {log:q}"
