# Training: frozen parameters -> weights.
# Needs the receipts of data.smk and embed.smk, and specs/<scale>/. Gives receipts/<scale>/variants/<variant>/seed-<seed>/
# pretrain.json, and behind it results/<scale>/<variant>/seed-<seed>/{weights.safetensors, training.json, log.csv}.
# Before the first, preflight looks whether it can go well. A run in progress lives in checkpoints/; flip/train/launch.py
# starts its processes and takes it over a job's time limit.


from flip.config.schema import WEIGHTS

# Folder of a job, with its wildcards.
TRAINED = AT.run("{variant}", "{seed}")


def training_receipts(wildcards) -> list[str]:
    """What training builds on: the data, weights that it begins with, features of a locked image tower, a teacher's
    embeddings, codes."""
    params = PROJECT.variants[wildcards.variant]
    receipts, seed = HERE.receipts, wildcards.seed
    found = [receipts.variant(name, "pretrain", seed) for name in params.before]
    if params.features:
        found.append(receipts.features(params.features, seed))
    if params.embeddings:
        found.append(receipts.embeddings(params.embeddings, seed))
    if params.curation:
        found.append(receipts.curation(params.variant, "select_pairs", seed))
    own = [wildcards.variant]
    found += codebook_receipt(own) + translation_receipts(own) + words_receipt(own)
    return data_receipts("manifest", "tokenizer") + found


def weights_of(origin: str, wildcards) -> str:
    """A variant's weights, or the file that is named in its place."""
    return origin if "." in origin else HERE.weights(origin, wildcards.seed)


def start_of(params, wildcards) -> str:
    """The weights that a variant starts from: those in an imported folder, or a variant's."""
    return params.start_files.get(WEIGHTS) or weights_of(params.start, wildcards)


def beginning(wildcards) -> list[str]:
    """Options of training for what it begins with; none where that is nothing."""
    params, words = PROJECT.variants[wildcards.variant], []
    if params.start:
        words += ["--start", start_of(params, wildcards)]
    for side in ("image", "text"):
        if origin := getattr(params, f"{side}_tower").weights:
            words += [f"--{side}-tower", weights_of(origin, wildcards)]
    if params.features:
        words += ["--features", HERE.features(params.features, wildcards.seed)]
    if params.curation:
        words += ["--selection", HERE.selection(params.variant, wildcards.seed)]
    return words


def tower_files(wildcards) -> list[str]:
    """Files from outside that a variant, or one of its towers, begins with."""
    params = PROJECT.variants[wildcards.variant]
    towers = params.image_tower.file, params.text_tower.file
    return outside(*towers, *params.start_files.values())


def several_nodes(job) -> dict:
    """What the executor must know to leave starting the processes to srun."""
    if job.nodes == 1:
        return {}
    asked = {"mpi": "srun", "tasks": job.nodes * job.processes, "tasks_per_gpu": 0}
    return asked | {
        "cpus_per_task": job.threads,
        "slurm_extra": f"--ntasks-per-node={job.processes}",
    }


def threads_each(wildcards, threads) -> int:
    """Per process: fewer where the machine has fewer cores than the job asks for."""
    return max(threads // JOB.processes, 1)


# Variants that have to be trained, known once jobs are planned; preflight looks at these.
TO_TRAIN = set()


def look_first(wildcards) -> list[str]:
    """The preflight, for a training that has to run; a fresh one must not run because a preflight ran."""
    receipt = HERE.receipts.variant(wildcards.variant, "pretrain", wildcards.seed)
    if RECEIPTS is None or RECEIPTS.chain_is_fresh(receipt):
        return []
    TO_TRAIN.add(wildcards.variant)
    return [HERE.preflight]


rule preflight:
    """Look at pairs, disk, memory and ports before jobs of {wildcards.scale} wait in a queue."""
    input:
        data_receipts("manifest", "tokenizer"),
    output:
        # Once in each workflow that trains anything: what it looks at may be another the next time.
        temp(AT.preflight),
    log:
        AT.log("preflight"),
    retries: 0  # no retry mends what it finds
    localrule: True
    params:
        variants=lambda wildcards: sorted(TO_TRAIN),
    shell:
        "{PYTHON:q} -m flip.plan.preflight --params {HERE.project} --data {HERE.data}"
        " --variants {params.variants:q}"
        " --out {output:q} 2> {log:q}"


rule pretrain:
    """Train {wildcards.variant} (from other weights, where it begins with some)."""
    input:
        spec=AT.specs.variant("{variant}", "pretrain"),
        upstream=training_receipts,
        preflight=look_first,
    output:
        update(AT.receipts.variant("{variant}", "pretrain", "{seed}")),
    log:
        AT.log("pretrain", "{variant}", "seed-{seed}"),
    # Long jobs first: the short evaluations then fill the gaps at the end.
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        frozen=AT.params("{variant}"),
        out=TRAINED,
        checkpoints=AT.checkpoints("{variant}", "{seed}"),
        outputs=AT.weights("{variant}", "{seed}"),
        extra_outputs=[
            f"{TRAINED}/{name}" for name in ("params.yaml", "training.json", "log.csv")
        ],
        facts=f"{TRAINED}/training.json",
        sources=tower_files,
        begin=beginning,
        threads=threads_each,
    shell:
        RECEIPT
        + " --sources {params.sources:q} --extra-outputs {params.extra_outputs:q} --facts {params.facts:q} --"
        " {PYTHON:q} -m flip.train.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.train --params {params.frozen:q}"
        " --data {HERE.data} --seed {wildcards.seed} --spec {input.spec:q} {params.begin:q} --threads {params.threads}"
        " --checkpoints {params.checkpoints:q}"
        " --out {params.out:q} 2> {log:q}"
