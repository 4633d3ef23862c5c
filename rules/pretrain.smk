# Training: frozen parameters -> weights.
# Needs the receipts of data.smk and specs/<scale>/. Gives receipts/<scale>/variants/<variant>/seed-<seed>/
# pretrain.json, and behind it results/<scale>/<variant>/seed-<seed>/{weights.safetensors, training.json, log.csv}.
# A run in progress lives in checkpoints/; flip/launch.py starts its processes and takes it over a job's time limit.


def several_nodes(job) -> dict:
    """What the executor must know to leave starting the processes to srun."""
    if job.nodes == 1:
        return {}
    asked = {"mpi": "srun", "tasks": job.nodes * job.processes, "tasks_per_gpu": 0}
    return asked | {
        "cpus_per_task": job.threads,
        "slurm_extra": f"--ntasks-per-node={job.processes}",
    }


rule pretrain:
    """Train {wildcards.variant} (unmasked tuning, where it starts from another variant's weights)."""
    input:
        spec="specs/{scale}/variants/{variant}/pretrain.json",
        after=training_receipts,
    output:
        update("receipts/{scale}/variants/{variant}/seed-{seed}/pretrain.json"),
    log:
        "logs/pretrain/{scale}/{variant}/seed-{seed}.log",
    threads: JOB.cores
    # Long jobs first: the short evaluations then fill the gaps at the end.
    priority: 1
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
        start=start_option,
        # Fewer where the machine has fewer cores than the job asks for.
        threads=lambda wildcards, threads: max(threads // JOB.processes, 1),
    shell:
        RECEIPT + " --beside {params.beside:q} --facts {params.facts:q} --"
        " {PYTHON} -m flip.launch --nodes {JOB.nodes} --processes {JOB.processes} --threads {params.threads}"
        " --gpus {JOB.gpus} --stop-seconds {JOB.stop_seconds} --"
        " -m flip.pretrain --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --seed {wildcards.seed} --spec {input.spec:q} {params.start} --threads {params.threads}"
        " --checkpoints checkpoints/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed}"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"
