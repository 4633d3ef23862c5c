# What trainings read beside pixels and captions, computed once: features of all images, by a locked image tower; and a
# teacher's embeddings of all pairs. Both are intermediate.
# Needs the receipts of data.smk and pretrain.smk, and specs/<scale>/. Gives receipts/<scale>/features/<variant>/seed-<seed>/
# embed.json, behind it features/<scale>/<variant>/seed-<seed>/; and receipts/<scale>/teachers/<variant>/seed-<seed>/
# embed_pairs.json, behind it data/<scale>/teachers/<variant>/seed-<seed>/.


from flip.config.schema import STARTED, TOKENIZER

# Folders of a job, with its wildcards.
FEATURES = AT.features("{variant}", "{seed}")
EMBEDDINGS = AT.embeddings("{variant}", "{seed}")


def tower_receipts(wildcards) -> list[str]:
    """What image features follow from: the images, and the training of the variant whose tower it is."""
    own = AT.receipts.variant("{variant}", "pretrain", "{seed}")
    file = PROJECT.variants[wildcards.variant].image_tower.file
    return data_receipts("manifest") + [own] * (not file)


def tower_weights(wildcards) -> str:
    file = PROJECT.variants[wildcards.variant].image_tower.file
    return weights_of(file or wildcards.variant, wildcards)


def teacher(wildcards) -> dict[str, str]:
    """The imported folder that a variant learns from: its parameters, weights and tokenizer; none of a variant's own."""
    folder = PROJECT.variants[wildcards.variant].distillation.teacher
    if PROJECT.variants[wildcards.variant].embeddings != wildcards.variant:
        return {}
    return {one: f"{folder}/{one}" for one in ("params.yaml", *STARTED)}


def teacher_receipts(wildcards) -> list[str]:
    """What embeddings of pairs follow from: the data, and the training of the variant that teaches."""
    own = AT.receipts.variant("{variant}", "pretrain", "{seed}")
    return data_receipts("manifest", "tokenizer") + [own] * (not teacher(wildcards))


def teacher_params(wildcards) -> str:
    return teacher(wildcards).get("params.yaml") or HERE.params(wildcards.variant)


def teacher_options(wildcards) -> list[str]:
    """Options of the command that embeds pairs: weights of the towers, and an imported model's tokenizer."""
    if found := teacher(wildcards):
        return ["--weights", found[WEIGHTS], "--tokenizer", found[TOKENIZER]]
    return ["--weights", HERE.weights(wildcards.variant, wildcards.seed)]


rule embed:
    """Compute what the locked image tower of {wildcards.variant} gives for all training images, once."""
    input:
        spec=AT.specs.features("{variant}"),
        upstream=tower_receipts,
    output:
        update(AT.receipts.features("{variant}", "{seed}")),
    log:
        AT.log("embed", "{variant}", "seed-{seed}"),
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        frozen=AT.params("{variant}"),
        out=FEATURES,
        outputs=f"{FEATURES}/features.json",
        sources=tower_files,
        weights=tower_weights,
        threads=threads_each,
    shell:
        RECEIPT
        + " --sources {params.sources:q} --facts {params.outputs:q} --intermediate --"
        " {PYTHON:q} -m flip.train.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.train.precompute_features --params {params.frozen:q}"
        " --data {HERE.data} --weights {params.weights:q} --spec {input.spec:q} --threads {params.threads}"
        " --out {params.out:q} 2> {log:q}"


rule embed_pairs:
    """Compute what {wildcards.variant}, or the model that it learns from, makes of all training pairs, once."""
    input:
        spec=AT.specs.embeddings("{variant}"),
        upstream=teacher_receipts,
    output:
        update(AT.receipts.embeddings("{variant}", "{seed}")),
    log:
        AT.log("embed_pairs", "{variant}", "seed-{seed}"),
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        out=EMBEDDINGS,
        outputs=[
            f"{EMBEDDINGS}/{part}/features.json" for part in ("images", "captions")
        ],
        sources=lambda wildcards: outside(*teacher(wildcards).values()),
        frozen=teacher_params,
        towers=teacher_options,
        threads=threads_each,
    shell:
        RECEIPT
        + " --sources {params.sources:q} --facts {params.outputs[0]:q} --intermediate --"
        " {PYTHON:q} -m flip.train.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.train.precompute_pairs --params {params.frozen:q} {params.towers:q}"
        " --data {HERE.data} --spec {input.spec:q} --threads {params.threads}"
        " --out {params.out:q} 2> {log:q}"
