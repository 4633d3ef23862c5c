# Test sets, and what no training picture may be equal to or look like.
# Needs specs/<scale>/ and the public sets that params.yaml names. Gives receipts/<scale>/data/tests/ and
# test_fingerprints.json, and behind them data/<scale>/tests/ and, scratch, data/<scale>/fingerprints/tests.parquet.


rule test_sets:
    """Make or check the test set {wildcards.set}, with its training split if it is probed."""
    input:
        spec="specs/{scale}/data/test_sets.json",
        after=[],
    output:
        update("receipts/{scale}/data/tests/{set}.json"),
    log:
        "logs/test_sets/{scale}/{set}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/tests/{set}/revision.json",
    shell:
        RECEIPT + " --"
        " {PYTHON} -m flip.data.testsets --params specs/{wildcards.scale}/params/{BASE.variant}.yaml --set {wildcards.set}"
        " --out data/{wildcards.scale}/tests/{wildcards.set} 2> {log:q}"


rule test_fingerprints:
    """Hash bytes and looks of all test pictures, and of those that probes are fitted to."""
    input:
        spec="specs/{scale}/data/test_fingerprints.json",
        after=expand("receipts/{{scale}}/data/tests/{set}.json", set=SETS),
    output:
        update("receipts/{scale}/data/test_fingerprints.json"),
    log:
        "logs/test_fingerprints/{scale}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/fingerprints/tests.parquet",
        sets=expand("data/{{scale}}/tests/{set}/revision.json", set=SETS),
    shell:
        RECEIPT + " --scratch --"
        " {PYTHON} -m flip.data.fingerprints --tests {params.sets:q} --out {params.made:q} 2> {log:q}"
