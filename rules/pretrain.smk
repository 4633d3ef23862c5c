# Training: frozen parameters -> weights.
# Needs the receipts of data.smk and specs/<scale>/. Gives receipts/<scale>/variants/<variant>/seed-<seed>/
# pretrain.json, and behind it results/<scale>/<variant>/seed-<seed>/{weights.safetensors, training.json, log.csv}.
# A run in progress lives in checkpoints/.


rule pretrain:
    """Train {wildcards.variant} (unmasked tuning, where it starts from another variant's weights)."""
    input:
        spec="specs/{scale}/variants/{variant}/pretrain.json",
        after=training_receipts,
    output:
        update("receipts/{scale}/variants/{variant}/seed-{seed}/pretrain.json"),
    log:
        "logs/pretrain/{scale}/{variant}/seed-{seed}.log",
    threads: BASE.resources.pretrain.threads
    # Long jobs first: the short evaluations then fill the gaps at the end.
    priority: 1
    resources:
        mem_mb=BASE.resources.pretrain.memory_mb,
        runtime=BASE.resources.pretrain.minutes,
        gpu=BASE.resources.pretrain.gpus,
    params:
        made="results/{scale}/{variant}/seed-{seed}/weights.safetensors",
        beside=expand(
            "results/{{scale}}/{{variant}}/seed-{{seed}}/{name}",
            name=["params.yaml", "training.json", "log.csv"],
        ),
        facts="results/{scale}/{variant}/seed-{seed}/training.json",
        start=start_option,
    shell:
        RECEIPT + " --beside {params.beside:q} --facts {params.facts:q} --"
        " {PYTHON} -m flip.pretrain --params specs/{wildcards.scale}/params/{wildcards.variant}.yaml"
        " --data data/{wildcards.scale} --seed {wildcards.seed} --spec {input.spec:q} {params.start} --threads {threads}"
        " --checkpoints checkpoints/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed}"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"
