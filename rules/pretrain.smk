# Training: frozen parameters -> weights.
# Needs data/<scale>/{manifest,tokenizer}.json, the shards beside them and results/<scale>/<variant>/params.yaml.
# Gives results/<scale>/<variant>/seed-<seed>/{weights.safetensors, training.json, log.csv}.
# Checkpoints are not declared: Snakemake deletes what a failed job declares, and they must outlive it.


rule pretrain:
    """Train {wildcards.variant} (unmasked tuning, where it starts from another variant's weights)."""
    input:
        # Whether they matter here is for made_from to say, not for their time stamps.
        params=ancient("results/{scale}/{variant}/params.yaml"),
        manifest="data/{scale}/manifest.json",
        tokenizer="data/{scale}/tokenizer.json",
        start=start_weights,
    output:
        weights="results/{scale}/{variant}/seed-{seed}/weights.safetensors",
        training="results/{scale}/{variant}/seed-{seed}/training.json",
        log="results/{scale}/{variant}/seed-{seed}/log.csv",
    log:
        "logs/pretrain/{scale}/{variant}/seed-{seed}.log",
    threads: BASE.resources.pretrain.threads
    resources:
        mem_mb=BASE.resources.pretrain.memory_mb,
        runtime=BASE.resources.pretrain.minutes,
        gpu=BASE.resources.pretrain.gpus,
    params:
        made_from=made_from("pretrain"),
        start=lambda wildcards, input: f"--start {input.start}" if input.start else "",
    shell:
        "{PYTHON} -m flip.pretrain --params {input.params:q} --data data/{wildcards.scale} --seed {wildcards.seed}"
        " --checkpoints checkpoints/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} {params.start}"
        " --made-from {params.made_from} --threads {threads}"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"
