# The data: table of the source, or its tars -> images -> fingerprints -> duplicates -> shards -> manifest, ledger, tokenizer.
#
#   download, fingerprints   per part            shards                   per part, which reads its group's file
#   buckets                  per group of parts  dropped                  per group, which reads all buckets' files
#   all_buckets              one small file      all_duplicates           one small file
#   duplicates               per bucket, which reads its share of all groups' files
#
# So neither links nor reads grow with parts times buckets, though each bucket depends on all parts and each part on all buckets.
# Needs the source's files (none for the world), the receipts of testsets.smk and specs/<scale>/. Gives
# receipts/<scale>/data/, and behind them data/<scale>/{manifest.json, ledger.json, tokenizer.json, shards/}. What else
# lies in data/<scale>/ only serves the next stage ("intermediate").


# How a job with thousands of receipts upstream begins.
RECEIPT_OF_MANY = RECEIPT.replace("{input.upstream:q}", "{params.receipts:q}")


def ranged(path, names) -> str:
    """Name many paths by the first and the last one, as flip.files.expand reads it: commands have no room for all.

    In a function of the wildcards, as Snakemake takes braces in other parameters for wildcards.
    """
    return path(f"{{{names[0]}..{names[-1]}}}")


rule table:
    """Filter and sample the URL table, and deal it to {BASE.download.parts} parts."""
    input:
        spec=AT.specs.data("table"),
        upstream=[],
    output:
        update(AT.receipts.data("table")),
    log:
        AT.log("table"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=lambda wildcards: [HERE.table_account, ranged(HERE.table, PARTS)],
        # A function, as braces of ranges are no wildcards.
        sources=lambda wildcards: outside(*BASE.source.places.values()),
        module=DATA["table"].at(BASE.source.kind).module,
    shell:
        RECEIPT + " --sources {params.sources:q} --intermediate --"
        " {PYTHON:q} -m {params.module} --params {FROZEN}"
        " --out-folder {HERE.table_folder} 2> {log:q}"


def of_the_web(wildcards, input) -> list[str]:
    """Options of a download: its log and, of the world, what its images are drawn by."""
    if BASE.source.kind in ("tars", "files"):
        return []
    drawn_by = ["--spec", input.spec] if BASE.source.kind == "world" else []
    return ["--log", HERE.log("download", wildcards.part), *drawn_by]


rule download:
    """Fetch part {wildcards.part}: download images of {BASE.download.image_size} pixels, pack files, or index tars."""
    input:
        spec=AT.specs.data("download"),
        upstream=data_receipts("table"),
    output:
        update(AT.receipts.data("download/{part}")),
    log:
        AT.log("download", "{part}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.download("{part}"),
        table=AT.table("{part}"),
        # Image files of one's own, and names of classes.
        sources=lambda wildcards: outside(*BASE.source.beside),
        module=DATA["download"].at(BASE.source.kind).module,
        of_the_web=of_the_web,
    shell:
        RECEIPT + " --sources {params.sources:q} --intermediate --"
        " {PYTHON:q} -m {params.module} --params {FROZEN}"
        " --table {params.table:q} --out {params.outputs:q} {params.of_the_web:q} 2>> {log:q}"


# Nothing depends on it: `snakemake retry`, then `snakemake data`.
rule retry:
    """Have images asked for again that failed for a reason that passes."""
    localrule: True
    params:
        accounts=[HERE.download(part) for part in PARTS],
        receipts=[HERE.receipts.data(f"download/{part}") for part in PARTS],
    shell:
        "{PYTHON:q} -m flip.download.retry --params {FROZEN}"
        " --downloads {params.accounts:q} --receipts {params.receipts:q}"


rule fingerprints:
    """Hash bytes and looks of the images of part {wildcards.part}."""
    input:
        spec=AT.specs.data("fingerprints"),
        upstream=data_receipts("download/{part}"),
    output:
        update(AT.receipts.data("fingerprints/{part}")),
    log:
        AT.log("fingerprints", "{part}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.fingerprints("{part}"),
        download=AT.download("{part}"),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.data.fingerprints --params {FROZEN}"
        " --download {params.download:q} --out {params.outputs:q} 2> {log:q}"


rule buckets:
    """Sort the fingerprints of group {wildcards.group} of parts by bucket."""
    input:
        spec=AT.specs.data("buckets"),
        upstream=lambda wildcards: data_receipts(
            *(f"fingerprints/{part}" for part in GROUPS[wildcards.group])
        ),
    output:
        update(AT.receipts.data("buckets/{group}")),
    log:
        AT.log("buckets", "{group}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=[AT.buckets("{group}"), AT.colours("{group}")],
        out=AT.buckets("{group}"),
        fingerprints=lambda wildcards: ranged(
            HERE.fingerprints, GROUPS[wildcards.group]
        ),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.data.buckets --params {FROZEN}"
        " --fingerprints {params.fingerprints:q} --out {params.out:q} 2> {log:q}"


rule all_buckets:
    """Write one file for those of all groups."""
    input:
        spec=AT.specs.data("all_buckets"),
        upstream=data_receipts(*(f"buckets/{group}" for group in GROUPS)),
    output:
        update(AT.receipts.data("all_buckets")),
    log:
        AT.log("all_buckets"),
    localrule: True
    params:
        outputs=AT.collected("buckets"),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.provenance.collect --receipts {input.upstream:q}"
        " --out {params.outputs:q} 2> {log:q}"


rule duplicates:
    """Find images that are there twice or in a test set, in bucket {wildcards.bucket} of {BASE.shards.buckets}."""
    input:
        spec=AT.specs.data("duplicates"),
        upstream=data_receipts("test_fingerprints", "all_buckets"),
    output:
        update(AT.receipts.data("duplicates/{bucket}")),
    log:
        AT.log("duplicates", "{bucket}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.duplicates("{bucket}"),
        groups=lambda wildcards: ranged(HERE.buckets, [*GROUPS]),
        tests=AT.fingerprints("tests"),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.data.duplicates --params {FROZEN} --bucket {wildcards.bucket}"
        " --tests {params.tests:q} --groups {params.groups:q}"
        " --out {params.outputs:q} 2> {log:q}"


rule all_duplicates:
    """Write one file for those of all buckets."""
    input:
        spec=AT.specs.data("all_duplicates"),
        upstream=data_receipts(*(f"duplicates/{bucket}" for bucket in BUCKETS)),
    output:
        update(AT.receipts.data("all_duplicates")),
    log:
        AT.log("all_duplicates"),
    localrule: True
    params:
        outputs=AT.collected("duplicates"),
        receipts=lambda wildcards: ranged(
            lambda name: HERE.receipts.data(f"duplicates/{name}"), BUCKETS
        ),
    shell:
        RECEIPT_OF_MANY + " --intermediate --"
        " {PYTHON:q} -m flip.provenance.collect --receipts {params.receipts:q}"
        " --out {params.outputs:q} 2> {log:q}"


rule dropped:
    """Collect from all buckets what is dropped of group {wildcards.group} of parts."""
    input:
        spec=AT.specs.data("dropped"),
        upstream=lambda wildcards: data_receipts(
            "all_duplicates",
            *(f"fingerprints/{part}" for part in GROUPS[wildcards.group]),
        ),
    output:
        update(AT.receipts.data("dropped/{group}")),
    log:
        AT.log("dropped", "{group}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.dropped("{group}"),
        duplicates=lambda wildcards: ranged(HERE.duplicates, BUCKETS),
        fingerprints=lambda wildcards: ranged(
            HERE.fingerprints, GROUPS[wildcards.group]
        ),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.data.dropped --duplicates {params.duplicates:q}"
        " --fingerprints {params.fingerprints:q} --out {params.outputs:q} 2> {log:q}"


rule shards:
    """Write the shards of part {wildcards.part}, {BASE.shards.samples_per_shard} pairs each."""
    input:
        spec=AT.specs.data("shards"),
        upstream=lambda wildcards: data_receipts(
            "download/{part}",
            "fingerprints/{part}",
            f"dropped/{GROUP_OF[wildcards.part]}",
        ),
    output:
        update(AT.receipts.data("shards/{part}")),
    log:
        AT.log("shards", "{part}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.shards_of("{part}"),
        sources=outside(BASE.shards.only),
        download=AT.download("{part}"),
        fingerprints=AT.fingerprints("{part}"),
        dropped=lambda wildcards: HERE.dropped(GROUP_OF[wildcards.part]),
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON:q} -m flip.data.shards --params {FROZEN}"
        " --download {params.download:q}"
        " --fingerprints {params.fingerprints:q}"
        " --dropped {params.dropped:q} --out {params.outputs:q} 2> {log:q}"


rule manifest:
    """Merge the parts' accounts into one manifest and one ledger."""
    input:
        spec=AT.specs.data("manifest"),
        upstream=data_receipts("table", *(f"shards/{part}" for part in PARTS)),
    output:
        update(AT.receipts.data("manifest")),
    log:
        AT.log("manifest"),
    localrule: True
    params:
        outputs=AT.manifest,
        ledger=AT.ledger,
        table=AT.table_account,
        shards=lambda wildcards: ranged(HERE.shards_of, PARTS),
        receipts=lambda wildcards: [
            HERE.receipts.data("table"),
            ranged(lambda part: HERE.receipts.data(f"shards/{part}"), PARTS),
        ],
    shell:
        RECEIPT_OF_MANY
        + " --extra-outputs {params.ledger:q} --facts {params.ledger:q} --"
        " {PYTHON:q} -m flip.data.manifest --table {params.table:q} --shards {params.shards:q}"
        " --manifest {params.outputs:q} --ledger {params.ledger:q} 2> {log:q}"


rule tokenizer:
    """Make the tokenizer: {BASE.tokenizer.kind}, at most {BASE.tokenizer.vocabulary} entries."""
    input:
        spec=AT.specs.data("tokenizer"),
        upstream=data_receipts("manifest"),
    output:
        update(AT.receipts.data("tokenizer")),
    log:
        AT.log("tokenizer"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.tokenizer,
        # A folder, where it is not a name on the hub.
        sources=outside(BASE.tokenizer.path if BASE.tokenizer.kind == "bert" else None),
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON:q} -m flip.data.tokenizer --params {FROZEN}"
        " --manifest {HERE.manifest} --shards {HERE.shards} --out {params.outputs:q}"
        " 2> {log:q}"
