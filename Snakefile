# flip: from a URL list to the ablation tables of language-image pre-training.
#
#   snakemake                                      the tables at the default scale (params.yaml: scale)
#   snakemake ablations --config scale=cc12m       at another one
#   snakemake systems                              CLIP, FLIP, SigLIP, MAE, SLIP, FLAVA, ... side by side
#   snakemake variant --config variant=flip-50     one variant alone
#   snakemake --profile slurm ablations            on a cluster (slurm/config.yaml)


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/codebook.smk"
include: "rules/pretrain.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"


localrules:
    ablations,
    data,
    specs,
    systems,
    variant,


# Everything: the six tables, the trade-off figure, the page.
rule ablations:
    default_target: True
    input:
        f"receipts/{SCALE}/tables/ablations/tables.json",


# What other systems of the family give on the same data.
rule systems:
    input:
        f"receipts/{SCALE}/tables/systems/tables.json",


# The training data, the test sets and the tokenizer.
rule data:
    input:
        expand(data_receipts("tokenizer", "tests/{set}"), scale=SCALE, set=SETS),


# A variant, trained and evaluated: `--config variant=NAME`, or all.
rule variant:
    input:
        evaluations(chosen_variants()),


# What each job depends on besides other jobs. Any call of Snakemake writes it; this one does nothing else.
rule specs:
    input:
        "params.yaml",
