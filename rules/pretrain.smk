# Training: frozen parameters -> weights; with a locked image tower, after computing its features of all pictures once.
# Needs the receipts of data.smk and specs/<scale>/. Gives receipts/<scale>/variants/<variant>/seed-<seed>/
# pretrain.json, and behind it results/<scale>/<variant>/seed-<seed>/{weights.safetensors, training.json, log.csv}; and
# receipts/<scale>/features/<variant>/seed-<seed>/embed.json, behind it features/<scale>/<variant>/seed-<seed>/, scratch.
# Before the first, preflight looks whether it can go well. A run in progress lives in checkpoints/; flip/launch.py
# starts its processes and takes it over a job's time limit.


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
    """The preflight, for a training that has to run; one that stands must not run since a look was taken."""
    receipt = f"receipts/{wildcards.scale}/variants/{wildcards.variant}/seed-{wildcards.seed}/pretrain.json"
    if RECEIPTS is None or RECEIPTS.stands(receipt):
        return []
    TO_TRAIN.add(wildcards.variant)
    return [f".flip/preflight/{wildcards.scale}.json"]


rule preflight:
    """Look at pairs, disk, memory and ports before jobs of {wildcards.scale} wait in a queue."""
    input:
        data_receipts("manifest", "tokenizer"),
    output:
        # Once in each workflow that trains anything: what it looks at may be another the next time.
        temp(".flip/preflight/{scale}.json"),
    log:
        "logs/preflight/{scale}.log",
    localrule: True
    params:
        variants=lambda wildcards: sorted(TO_TRAIN),
    shell:
        "{PYTHON} -m flip.preflight --params specs/{wildcards.scale}/params.yaml --data data/{wildcards.scale}"
        " --variants {params.variants:q}"
        " --out {output:q} 2> {log:q}"


rule embed:
    """Compute what the locked image tower of {wildcards.variant} gives for all training pictures, once."""
    input:
        spec="specs/{scale}/features/{variant}/embed.json",
        after=tower_receipts,
        source=tower_files,
    output:
        update("receipts/{scale}/features/{variant}/seed-{seed}/embed.json"),
    log:
        "logs/embed/{scale}/{variant}/seed-{seed}.log",
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        made="features/{scale}/{variant}/seed-{seed}/features.json",
        weights=tower_weights,
        threads=threads_each,
    shell:
        RECEIPT + " --sources {input.source:q} --facts {params.made:q} --scratch --"
        " {PYTHON} -m flip.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.embed --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --weights {params.weights:q} --spec {input.spec:q} --threads {params.threads}"
        " --out features/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"


rule pretrain:
    """Train {wildcards.variant} (from other weights, where it begins with some)."""
    input:
        spec="specs/{scale}/variants/{variant}/pretrain.json",
        after=training_receipts,
        source=tower_files,
        preflight=look_first,
    output:
        update("receipts/{scale}/variants/{variant}/seed-{seed}/pretrain.json"),
    log:
        "logs/pretrain/{scale}/{variant}/seed-{seed}.log",
    # Long jobs first: the short evaluations then fill the gaps at the end.
    priority: 1
    threads: JOB.cores
    resources:
        **gpus(JOB.processes * JOB.gpus, JOB.nodes),
        **several_nodes(JOB),
        mem_mb=JOB.memory_mb,
        runtime=JOB.minutes,
    params:
        made="results/{scale}/{variant}/seed-{seed}/weights.safetensors",
        beside=expand(
            "results/{{scale}}/{{variant}}/seed-{{seed}}/{name}",
            name=["params.yaml", "training.json", "log.csv"],
        ),
        facts="results/{scale}/{variant}/seed-{seed}/training.json",
        begin=beginning,
        threads=threads_each,
    shell:
        RECEIPT
        + " --sources {input.source:q} --beside {params.beside:q} --facts {params.facts:q} --"
        " {PYTHON} -m flip.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.pretrain --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --seed {wildcards.seed} --spec {input.spec:q} {params.begin:q} --threads {params.threads}"
        " --checkpoints checkpoints/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed}"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"
