# The data: table of the source, or its tars -> images -> (duplicates.smk) -> shards -> manifest, ledger, tokenizer.
#
#   download, shards    per part; a part's shards read the file of what is dropped of its group
#
# Needs the source's files (none for the world), the receipts of testsets.smk and specs/<scale>/. Gives
# receipts/<scale>/data/, and behind them data/<scale>/{manifest.json, ledger.json, tokenizer.json, shards/}. What else
# lies in data/<scale>/ only serves the next stage ("intermediate").


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


# Each part has its share of what a host is asked at most, whatever machine it is on, so no more may run at once than have one.
if "downloads" not in workflow.global_resources:
    workflow.register_resource("downloads", BASE.download.sharing)


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
        downloads=int(BASE.source.downloads),
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
