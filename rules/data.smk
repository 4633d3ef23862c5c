# The data: URL table -> pictures -> fingerprints -> duplicates -> shards -> manifest, ledger, tokenizer; test sets.
# Needs the source's files (none for the world). Gives data/<scale>/{manifest.json, ledger.json,
# tokenizer.json, tests/<set>/revision.json}. Pictures, shards and test sets lie beside what is declared of them:
# Snakemake would delete them when a job fails, and they must outlive it.

from glob import glob


rule table:
    """Filter and sample the URL table, and deal it to {BASE.download.parts} parts."""
    input:
        # Whether they matter here is for made_from to say, not for their time stamps.
        params=ancient("data/{scale}/params.yaml"),
        source=[] if BASE.source.table == "world" else sorted(glob(BASE.source.table)),
    output:
        expand("data/{{scale}}/table/{part}.parquet", part=PARTS),
    log:
        "logs/table/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("table"),
    shell:
        "{PYTHON} -m flip.data.table --params {input.params:q} --out-folder data/{wildcards.scale}/table 2> {log:q}"


rule download:
    """Download part {wildcards.part} with img2dataset, pictures of {BASE.download.image_size} pixels."""
    input:
        params=ancient("data/{scale}/params.yaml"),
        table="data/{scale}/table/{part}.parquet",
    output:
        "data/{scale}/download/{part}.json",
    log:
        "logs/download/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("download"),
    shell:
        "{PYTHON} -m flip.data.download --params {input.params:q} --table {input.table:q} --out {output:q}"
        " --made-from {params.made_from} --log {log:q} 2>> {log:q}"


rule fingerprints:
    """Hash bytes and looks of the pictures of part {wildcards.part}."""
    input:
        "data/{scale}/download/{part}.json",
    output:
        "data/{scale}/fingerprints/{part}.parquet",
    log:
        "logs/fingerprints/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("fingerprints"),
    shell:
        "{PYTHON} -m flip.data.fingerprints --download {input:q} --out {output:q} 2> {log:q}"


rule test_sets:
    """Make or check the test set {wildcards.set}."""
    input:
        params=ancient("data/{scale}/params.yaml"),
    output:
        "data/{scale}/tests/{set}/revision.json",
    log:
        "logs/test_sets/{scale}/{set}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("test_sets"),
    shell:
        "{PYTHON} -m flip.data.testsets --params {input.params:q} --set {wildcards.set}"
        " --out data/{wildcards.scale}/tests/{wildcards.set} 2> {log:q}"


rule test_fingerprints:
    """Hash bytes and looks of all test pictures."""
    input:
        expand("data/{{scale}}/tests/{set}/revision.json", set=SETS),
    output:
        "data/{scale}/tests/fingerprints.parquet",
    log:
        "logs/test_fingerprints/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("fingerprints"),
    shell:
        "{PYTHON} -m flip.data.fingerprints --tests {input:q} --out {output:q} 2> {log:q}"


rule duplicates:
    """Find pictures that are there twice or in a test set, in bucket {wildcards.bucket} of {BASE.shards.buckets}."""
    input:
        params=ancient("data/{scale}/params.yaml"),
        tests="data/{scale}/tests/fingerprints.parquet",
        fingerprints=expand("data/{{scale}}/fingerprints/{part}.parquet", part=PARTS),
    output:
        "data/{scale}/duplicates/{bucket}.parquet",
    log:
        "logs/duplicates/{scale}/{bucket}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("duplicates"),
    shell:
        "{PYTHON} -m flip.data.duplicates --params {input.params:q} --bucket {wildcards.bucket} --tests {input.tests:q}"
        " --fingerprints {input.fingerprints:q} --out {output:q} 2> {log:q}"


rule shards:
    """Write the shards of part {wildcards.part}, {BASE.shards.samples_per_shard} pairs each."""
    input:
        params=ancient("data/{scale}/params.yaml"),
        download="data/{scale}/download/{part}.json",
        fingerprints="data/{scale}/fingerprints/{part}.parquet",
        duplicates=expand("data/{{scale}}/duplicates/{bucket}.parquet", bucket=BUCKETS),
    output:
        "data/{scale}/shards/{part}.json",
    log:
        "logs/shards/{scale}/{part}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("shards"),
    shell:
        "{PYTHON} -m flip.data.shards --params {input.params:q} --download {input.download:q}"
        " --fingerprints {input.fingerprints:q} --duplicates {input.duplicates:q} --out {output:q} 2> {log:q}"


rule manifest:
    """Merge the parts' accounts into one manifest and one ledger."""
    input:
        expand("data/{{scale}}/shards/{part}.json", part=PARTS),
    output:
        manifest="data/{scale}/manifest.json",
        ledger="data/{scale}/ledger.json",
    log:
        "logs/manifest/{scale}.log",
    localrule: True
    params:
        made_from=made_from("manifest"),
    shell:
        "{PYTHON} -m flip.data.manifest --shards {input:q} --manifest {output.manifest:q} --ledger {output.ledger:q}"
        " 2> {log:q}"


rule tokenizer:
    """Make the tokenizer: {BASE.tokenizer.kind}, at most {BASE.tokenizer.vocabulary} entries."""
    input:
        params=ancient("data/{scale}/params.yaml"),
        manifest="data/{scale}/manifest.json",
    output:
        "data/{scale}/tokenizer.json",
    log:
        "logs/tokenizer/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made_from=made_from("tokenizer"),
    shell:
        "{PYTHON} -m flip.data.tokenizer --params {input.params:q} --manifest {input.manifest:q}"
        " --shards data/{wildcards.scale}/shards --out {output:q} 2> {log:q}"
