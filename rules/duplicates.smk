# What is dropped: images of data.smk -> fingerprints -> buckets of those that may be alike -> duplicates -> what each part loses.
#
#   fingerprints        per part
#   buckets             per group of parts       dropped                  per group, which reads all buckets' files
#   all_buckets         one small file           all_duplicates           one small file
#   duplicates          per bucket, which reads its share of all groups' files
#
# So neither links nor reads grow with parts times buckets, though each bucket depends on all parts and each part on all buckets.
# Needs receipts of downloads and of testsets.smk. Gives receipts, and behind them files in data/<scale>/, intermediate.


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
