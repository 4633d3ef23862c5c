# flip: from a URL list to the ablation tables of language-image pre-training.
#
#   snakemake                                      the tables at the default scale (params.yaml: scale)
#   snakemake ablations --config scale=cc12m       at another one
#   snakemake systems siglip languages hybrids     other systems of the family: SigLIP, MAE, SLIP, FLAVA, ...
#   snakemake beyond                               reports of later methods: those whose group is `beyond`
#   snakemake refresh                              the reports that have been made here, where something changed (dvc repro)
#   snakemake report                               one page of all reports; some: --config reports=ablations,systems
#   snakemake reported; snakemake reported --report report.zip     tables and figures in Snakemake's own report
#   snakemake retry                                have images asked for again that failed for a passing reason
#   snakemake mirror                               fetch the public test sets that params.yaml pins, once
#   snakemake sweep                                choose what each variant sweeps: chosen/<scale>/
#   snakemake variant --config variant=flip-50     one variant alone
#   snakemake --profile slurm ablations            on a cluster (slurm/config.yaml)


include: "rules/common.smk"
include: "rules/start.smk"
include: "rules/hooks.smk"
include: "rules/data.smk"
include: "rules/duplicates.smk"
include: "rules/testsets.smk"
include: "rules/languages.smk"
include: "rules/codebook.smk"
include: "rules/words.smk"
include: "rules/curate.smk"
include: "rules/pretrain.smk"
include: "rules/embed.smk"
include: "rules/evaluate.smk"
include: "rules/sweep.smk"
include: "rules/tables.smk"


localrules:
    data,
    refresh,
    report,
    reported,
    specs,
    sweep,
    variant,


# Each report of params.yaml by its name: its tables, figures and page. The first one is what a bare call makes.
for report in PROJECT.reports:

    rule:
        name:
            report
        default_target: report == next(iter(PROJECT.reports))
        input:
            HERE.receipts.tables(report, "tables"),
        localrule: True


# The reports of a group together, by its name.
for group, members in PROJECT.groups.items():

    rule:
        name:
            group
        input:
            [HERE.receipts.tables(one, "tables") for one in members],
        localrule: True


# The training data, the test sets and the tokenizer.
rule data:
    input:
        expand(data_receipts("tokenizer", "tests/{set}"), scale=SCALE, set=SETS),


# One page of all reports, or of those that `--config reports=ablations,systems` names.
rule report:
    input:
        HERE.receipts.page,


# Tables and figures of all reports, or of some, for Snakemake's own report: `snakemake reported --report FILE.zip` after it.
rule reported:
    input:
        [HERE.reported(name) for name in chosen_reports(config, PROJECT)],


# The reports whose tables have been made here, the first one if there is none.
rule refresh:
    input:
        [
            path
            for path in map(
                lambda name: HERE.receipts.tables(name, "tables"), PROJECT.reports
            )
            if RECEIPTS is None or path in RECEIPTS.known
        ]
        or HERE.receipts.tables(next(iter(PROJECT.reports)), "tables"),


# The schedules and the best values for each variant of `--config reports=ablations,systems` (default: of all), or of `--config variant=NAME`.
rule sweep:
    input:
        lambda wildcards: choices_now(),


# A variant, trained and evaluated: `--config variant=NAME`, or all.
rule variant:
    input:
        evaluations(chosen_variants(config, PROJECT)),


# What each job depends on besides other jobs. Any call of Snakemake writes it; this one does nothing else.
rule specs:
    input:
        "params.yaml",
