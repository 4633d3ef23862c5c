# flip: from a URL list to the ablation tables of language-image pre-training.
#
#   snakemake                                     the tables at the default scale (params.yaml: scale)
#   snakemake ablations --config scale=cc12m      at another one
#   snakemake results/tiny/flip-50/seed-0/metrics.json    one variant alone
#   snakemake --profile slurm ablations           on a cluster (slurm/config.yaml)


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/pretrain.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"


localrules:
    ablations,
    data,


# Everything: the six tables, the trade-off figure, the page.
rule ablations:
    default_target: True
    input:
        f"tables/{SCALE}/index.html",


# The training data, the test sets and the tokenizer.
rule data:
    input:
        f"data/{SCALE}/manifest.json",
        f"data/{SCALE}/tokenizer.json",
        expand("data/{scale}/tests/{set}/revision.json", scale=SCALE, set=SETS),
