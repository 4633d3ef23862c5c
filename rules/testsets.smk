# Test sets, and what no training picture may be equal to or look like.
# Needs specs/<scale>/, folders of test sets that params.yaml names and, for public sets, the Hugging Face hub, once.
# Gives receipts/<scale>/data/{mirror/, tests/, test_fingerprints.json}, and behind them testsets/<name>/<commit>/, which
# all scales share, data/<scale>/tests/ and, scratch, data/<scale>/fingerprints/tests.parquet.


def mirror_receipts(sets) -> list[str]:
    """Of those of the sets that are public."""
    places = BASE.evaluate.sets
    return [
        f"receipts/{SCALE}/data/mirror/{name}.json"
        for name in sets
        if public.is_public(places[name])
    ]


# The public test sets that evaluate.sets pins.
rule mirror:
    input:
        mirror_receipts(SETS),
    localrule: True


rule mirror_set:
    """Fetch the public set {wildcards.set} at its commit. Here: nodes of a cluster may have no network."""
    input:
        spec="specs/{scale}/data/mirror_set.json",
        after=[],
    output:
        update("receipts/{scale}/data/mirror/{set}.json"),
    log:
        "logs/mirror_set/{scale}/{set}.log",
    localrule: True
    params:
        made=lambda wildcards: public.folder(BASE.evaluate.sets[wildcards.set])
        / "mirror.json",
    shell:
        RECEIPT + " --facts {params.made:q} --scratch --"
        " {PYTHON} -m flip.testsets.mirror --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --set {wildcards.set} 2> {log:q}"


rule test_sets:
    """Make or check the test set {wildcards.set}, with its training split if it is probed."""
    input:
        spec="specs/{scale}/data/tests/{set}/test_sets.json",
        after=lambda wildcards: mirror_receipts([wildcards.set]),
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
        sources=lambda wildcards: outside(BASE.evaluate.sets[wildcards.set]),
        module=lambda wildcards: DATA["test_sets"]
        .at(BASE.evaluate.sets[wildcards.set])
        .module,
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON} -m {params.module} --params specs/{wildcards.scale}/params/{BASE.variant}.yaml --set {wildcards.set}"
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
        " {PYTHON} -m flip.testsets.fingerprints --tests {params.sets:q} --out {params.made:q} 2> {log:q}"
