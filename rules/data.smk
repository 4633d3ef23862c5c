# The data: URL table -> pictures -> fingerprints -> duplicates -> shards -> manifest, ledger, tokenizer.
# Needs the source's files (none for the world), the receipts of testsets.smk and specs/<scale>/. Gives
# receipts/<scale>/data/, and behind them data/<scale>/{manifest.json, ledger.json, tokenizer.json, shards/}. What else
# lies in data/<scale>/ only serves the next stage ("scratch").


rule table:
    """Filter and sample the URL table, and deal it to {BASE.download.parts} parts."""
    input:
        spec="specs/{scale}/data/table.json",
        after=[],
    output:
        update("receipts/{scale}/data/table.json"),
    log:
        "logs/table/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made=expand("data/{{scale}}/table/{part}.parquet", part=PARTS),
        sources=outside(BASE.source.table),
        module=DATA["table"].at(BASE.source.table).module,
    shell:
        RECEIPT + " --sources {params.sources:q} --scratch --"
        " {PYTHON} -m {params.module} --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --out-folder data/{wildcards.scale}/table 2> {log:q}"


def drawn_by(wildcards, input) -> list[str]:
    """The option that says what the world's images are drawn by; none where they are the web's."""
    return ["--spec", input.spec] if BASE.source.table == "world" else []


rule download:
    """Download part {wildcards.part} with img2dataset, pictures of {BASE.download.image_size} pixels."""
    input:
        spec="specs/{scale}/data/download.json",
        after=data_receipts("table"),
    output:
        update("receipts/{scale}/data/download/{part}.json"),
    log:
        "logs/download/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/download/{part}.json",
        module=DATA["download"].at(BASE.source.table).module,
        drawn_by=drawn_by,
    shell:
        RECEIPT + " --scratch --"
        " {PYTHON} -m {params.module} --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --table data/{wildcards.scale}/table/{wildcards.part}.parquet {params.drawn_by:q} --out {params.made:q}"
        " --log {log:q} 2>> {log:q}"


rule fingerprints:
    """Hash bytes and looks of the pictures of part {wildcards.part}."""
    input:
        spec="specs/{scale}/data/fingerprints.json",
        after=data_receipts("download/{part}"),
    output:
        update("receipts/{scale}/data/fingerprints/{part}.json"),
    log:
        "logs/fingerprints/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/fingerprints/{part}.parquet",
    shell:
        RECEIPT + " --scratch --"
        " {PYTHON} -m flip.data.fingerprints --download data/{wildcards.scale}/download/{wildcards.part}.json"
        " --out {params.made:q} 2> {log:q}"


rule duplicates:
    """Find pictures that are there twice or in a test set, in bucket {wildcards.bucket} of {BASE.shards.buckets}."""
    input:
        spec="specs/{scale}/data/duplicates.json",
        after=data_receipts("test_fingerprints")
        + expand("receipts/{{scale}}/data/fingerprints/{part}.json", part=PARTS),
    output:
        update("receipts/{scale}/data/duplicates/{bucket}.json"),
    log:
        "logs/duplicates/{scale}/{bucket}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/duplicates/{bucket}.parquet",
        fingerprints=expand("data/{{scale}}/fingerprints/{part}.parquet", part=PARTS),
    shell:
        RECEIPT + " --scratch --"
        " {PYTHON} -m flip.data.duplicates --params specs/{wildcards.scale}/params/{BASE.variant}.yaml --bucket {wildcards.bucket}"
        " --tests data/{wildcards.scale}/fingerprints/tests.parquet --fingerprints {params.fingerprints:q}"
        " --out {params.made:q} 2> {log:q}"


rule shards:
    """Write the shards of part {wildcards.part}, {BASE.shards.samples_per_shard} pairs each."""
    input:
        spec="specs/{scale}/data/shards.json",
        after=data_receipts("download/{part}", "fingerprints/{part}")
        + expand("receipts/{{scale}}/data/duplicates/{bucket}.json", bucket=BUCKETS),
    output:
        update("receipts/{scale}/data/shards/{part}.json"),
    log:
        "logs/shards/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/shards/{part}.json",
        sources=outside(BASE.shards.only),
        duplicates=expand("data/{{scale}}/duplicates/{bucket}.parquet", bucket=BUCKETS),
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON} -m flip.data.shards --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --download data/{wildcards.scale}/download/{wildcards.part}.json"
        " --fingerprints data/{wildcards.scale}/fingerprints/{wildcards.part}.parquet"
        " --duplicates {params.duplicates:q} --out {params.made:q} 2> {log:q}"


rule manifest:
    """Merge the parts' accounts into one manifest and one ledger."""
    input:
        spec="specs/{scale}/data/manifest.json",
        after=expand("receipts/{{scale}}/data/shards/{part}.json", part=PARTS),
    output:
        update("receipts/{scale}/data/manifest.json"),
    log:
        "logs/manifest/{scale}.log",
    localrule: True
    params:
        made="data/{scale}/manifest.json",
        ledger="data/{scale}/ledger.json",
        shards=expand("data/{{scale}}/shards/{part}.json", part=PARTS),
    shell:
        RECEIPT + " --beside {params.ledger:q} --facts {params.ledger:q} --"
        " {PYTHON} -m flip.data.manifest --shards {params.shards:q} --manifest {params.made:q}"
        " --ledger {params.ledger:q} 2> {log:q}"


rule tokenizer:
    """Make the tokenizer: {BASE.tokenizer.kind}, at most {BASE.tokenizer.vocabulary} entries."""
    input:
        spec="specs/{scale}/data/tokenizer.json",
        after=data_receipts("manifest"),
    output:
        update("receipts/{scale}/data/tokenizer.json"),
    log:
        "logs/tokenizer/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/tokenizer.json",
        # A folder, where it is not a name on the hub.
        sources=outside(BASE.tokenizer.path if BASE.tokenizer.kind == "bert" else None),
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON} -m flip.data.tokenizer --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --manifest data/{wildcards.scale}/manifest.json --shards data/{wildcards.scale}/shards --out {params.made:q}"
        " 2> {log:q}"
