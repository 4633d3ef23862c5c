# Evaluation: weights -> metrics, and what a training step costs.
# Needs results/<scale>/<variant>/... of pretrain.smk and data/<scale>/tests/.
# Gives .../seed-<seed>/{metrics.json, outcomes.npz} and results/<scale>/cost.json.


rule evaluate:
    """Zero-shot classification and retrieval of {wildcards.variant} by clip-benchmark."""
    input:
        params=ancient("results/{scale}/{variant}/params.yaml"),
        tokenizer="data/{scale}/tokenizer.json",
        weights="results/{scale}/{variant}/seed-{seed}/weights.safetensors",
        tests=expand("data/{{scale}}/tests/{set}/revision.json", set=SETS),
    output:
        metrics="results/{scale}/{variant}/seed-{seed}/metrics.json",
        outcomes="results/{scale}/{variant}/seed-{seed}/outcomes.npz",
    log:
        "logs/evaluate/{scale}/{variant}/seed-{seed}.log",
    threads: BASE.resources.evaluate.threads
    resources:
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.evaluate.minutes,
        gpu=BASE.resources.evaluate.gpus,
    params:
        made_from=made_from("evaluate"),
    shell:
        "{PYTHON} -m flip.evaluate --params {input.params:q} --data data/{wildcards.scale} --seed {wildcards.seed}"
        " --weights {input.weights:q} --threads {threads}"
        " --out results/{wildcards.scale}/{wildcards.variant}/seed-{wildcards.seed} 2> {log:q}"


rule cost:
    """FLOPs, time per sample and memory of every variant's training step, measured in turns on a machine of their own."""
    input:
        params=ancient(
            expand("results/{{scale}}/{variant}/params.yaml", variant=BY_COST)
        ),
        manifest="data/{scale}/manifest.json",
        tokenizer="data/{scale}/tokenizer.json",
    output:
        "results/{scale}/cost.json",
    log:
        "logs/cost/{scale}.log",
    # All local cores, though it uses those of a training job: another job beside it would be measured too.
    threads: max(BASE.resources.pretrain.threads, workflow.cores or 1)
    resources:
        mem_mb=BASE.resources.pretrain.memory_mb,
        runtime=BASE.resources.pretrain.minutes,
        gpu=BASE.resources.pretrain.gpus,
    params:
        made_from=[made_from("cost")({"variant": variant}) for variant in BY_COST],
    shell:
        "{PYTHON} -m flip.cost --params {input.params:q} --data data/{wildcards.scale}"
        " --threads {BASE.resources.pretrain.threads} --out {output:q} 2> {log:q}"
