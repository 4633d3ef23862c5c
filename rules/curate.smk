# Which pairs a variant is trained on, where `curation` says so: entries of captions -> scores of pairs -> what is kept.
#
#   count_mentions  per part       score_pairs     per part, from the sums of all parts, or by a trained model
#   sum_mentions    one file       select_pairs    one file: the threshold, and how many of each shard are kept
#
# Needs the receipts of data.smk, specs/<scale>/ and, for clip-score, the training of the variant that scores. Gives
# receipts/<scale>/curation/<variant>/seed-<seed>/, and behind them curated/<scale>/<variant>/seed-<seed>/, intermediate.

from flip.config.schema import STARTED, TOKENIZER, WEIGHTS, is_folder


def curation_of(wildcards):
    return PROJECT.variants[wildcards.variant].curation


def scored_by(wildcards) -> list[str]:
    """What the pairs of a part are scored by: words or entries of all captions, or a trained variant."""
    curation, seed = curation_of(wildcards), wildcards.seed
    if curation.reads_words:
        return [HERE.receipts.data("all_words")]
    if curation.reads_mentions:
        return [HERE.receipts.curation(wildcards.variant, "sum_mentions", seed)]
    by = PROJECT.variants.get(curation.by)
    return [HERE.receipts.variant(by.variant, "pretrain", seed)] if by else []


def scoring(wildcards) -> list[str]:
    """Options of scoring: the list of the part's samples with all counts, or the model's files."""
    curation, variant, seed = curation_of(wildcards), wildcards.variant, wildcards.seed
    if curation.reads_words or curation.reads_mentions:
        counts = HERE.words if curation.reads_words else HERE.mentions(variant, seed)
        return ["--samples", HERE.samples_of(wildcards.part), "--words", counts]
    if curation.by in PROJECT.variants:
        files = HERE.params(curation.by), HERE.weights(curation.by, seed)
        return ["--scorer", files[0], "--weights", files[1]]
    return [
        *("--scorer", f"{curation.by}/params.yaml"),
        *("--weights", f"{curation.by}/{WEIGHTS}"),
        *("--tokenizer", f"{curation.by}/{TOKENIZER}"),
    ]


def curation_files(wildcards) -> list[str]:
    """Files from outside that pairs are chosen by: entries, or what an imported folder has."""
    curation = curation_of(wildcards)
    folder = curation.by if is_folder(curation.by) else None
    model = [f"{folder}/{one}" for one in ("params.yaml", *STARTED)] if folder else []
    return outside(curation.entries, *model)


rule count_mentions:
    """Count the entries in the captions of part {wildcards.part} mention, for {wildcards.variant}."""
    input:
        spec=AT.specs.curation("{variant}", "count_mentions"),
        upstream=data_receipts("manifest"),
    output:
        update(AT.receipts.curation("{variant}", "count_mentions/{part}", "{seed}")),
    log:
        AT.log("count_mentions", "{variant}", "seed-{seed}", "{part}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        frozen=AT.params("{variant}"),
        samples=AT.samples_of("{part}"),
        outputs=AT.mentions("{variant}", "{seed}", "{part}"),
        sources=curation_files,
    shell:
        RECEIPT + " --sources {params.sources:q} --intermediate --"
        " {PYTHON:q} -m flip.curate.count --params {params.frozen:q}"
        " --samples {params.samples:q} --out {params.outputs:q} 2> {log:q}"


rule sum_mentions:
    """Sum these counts of all parts, for {wildcards.variant}."""
    input:
        spec=AT.specs.curation("{variant}", "sum_mentions"),
        upstream=data_receipts("manifest")
        + [
            AT.receipts.curation("{variant}", f"count_mentions/{part}", "{seed}")
            for part in PARTS
        ],
    output:
        update(AT.receipts.curation("{variant}", "sum_mentions", "{seed}")),
    log:
        AT.log("sum_mentions", "{variant}", "seed-{seed}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        frozen=AT.params("{variant}"),
        outputs=AT.mentions("{variant}", "{seed}"),
        counts=lambda wildcards: ranged(
            lambda part: HERE.mentions(wildcards.variant, wildcards.seed, part), PARTS
        ),
        receipts=lambda wildcards: [
            HERE.receipts.data("manifest"),
            ranged(
                lambda part: HERE.receipts.curation(
                    wildcards.variant, f"count_mentions/{part}", wildcards.seed
                ),
                PARTS,
            ),
        ],
    shell:
        RECEIPT_OF_MANY + " --intermediate --"
        " {PYTHON:q} -m flip.curate.total --params {params.frozen:q} --data {HERE.data}"
        " --counts {params.counts:q} --out {params.outputs:q} 2> {log:q}"


rule score_pairs:
    """Score the pairs of part {wildcards.part} for {wildcards.variant}."""
    input:
        spec=AT.specs.curation("{variant}", "score_pairs"),
        upstream=lambda wildcards: data_receipts("manifest", "tokenizer")
        + scored_by(wildcards),
    output:
        update(AT.receipts.curation("{variant}", "score_pairs/{part}", "{seed}")),
    log:
        AT.log("score_pairs", "{variant}", "seed-{seed}", "{part}"),
    threads: BASE.resources.evaluate.threads
    resources:
        **gpus(BASE.resources.evaluate.gpus),
        mem_mb=BASE.resources.evaluate.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        frozen=AT.params("{variant}"),
        outputs=AT.scores("{variant}", "{seed}", "{part}"),
        scoring=scoring,
        sources=curation_files,
    shell:
        RECEIPT + " --sources {params.sources:q} --intermediate --"
        " {PYTHON:q} -m flip.curate.score --params {params.frozen:q} --data {HERE.data}"
        " --part {wildcards.part} --seed {wildcards.seed} {params.scoring:q} --threads {threads}"
        " --out {params.outputs:q} 2> {log:q}"


rule select_pairs:
    """Choose the pairs of {wildcards.variant} by their scores."""
    input:
        spec=AT.specs.curation("{variant}", "select_pairs"),
        upstream=data_receipts("manifest")
        + [
            AT.receipts.curation("{variant}", f"score_pairs/{part}", "{seed}")
            for part in PARTS
        ],
    output:
        update(AT.receipts.curation("{variant}", "select_pairs", "{seed}")),
    log:
        AT.log("select_pairs", "{variant}", "seed-{seed}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        frozen=AT.params("{variant}"),
        outputs=AT.selection("{variant}", "{seed}"),
        scores=lambda wildcards: ranged(
            lambda part: HERE.scores(wildcards.variant, wildcards.seed, part), PARTS
        ),
        receipts=lambda wildcards: [
            HERE.receipts.data("manifest"),
            ranged(
                lambda part: HERE.receipts.curation(
                    wildcards.variant, f"score_pairs/{part}", wildcards.seed
                ),
                PARTS,
            ),
        ],
    shell:
        RECEIPT_OF_MANY + " --intermediate --"
        " {PYTHON:q} -m flip.curate.select --params {params.frozen:q} --data {HERE.data}"
        " --scores {params.scores:q} --out {params.outputs:q} 2> {log:q}"
