# Test sets, and what no training image may be equal to or look like.
# Needs specs/<scale>/, folders of test sets that params.yaml names and, for public sets, the Hugging Face hub, once.
# Gives receipts/<scale>/data/{mirror/, tests/, test_fingerprints.json}, and behind them testsets/<name>/<commit>/, which
# all scales share, data/<scale>/tests/ and, intermediate, data/<scale>/fingerprints/tests.parquet.

# The folder of a set, with its wildcards.
TEST = AT.test("{set}")


def mirror_receipts(sets) -> list[str]:
    """Of those of the sets that are public."""
    places = BASE.evaluate.sets
    return [
        HERE.receipts.data(f"mirror/{name}")
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
        spec=AT.specs.data("mirror_set"),
        upstream=[],
    output:
        update(AT.receipts.data("mirror/{set}")),
    log:
        AT.log("mirror_set", "{set}"),
    localrule: True
    params:
        outputs=lambda wildcards: public.folder(BASE.evaluate.sets[wildcards.set])
        / "mirror.json",
    shell:
        RECEIPT + " --facts {params.outputs:q} --intermediate --"
        " {PYTHON:q} -m flip.testsets.mirror --params {FROZEN}"
        " --set {wildcards.set} 2> {log:q}"


rule test_sets:
    """Make or check the test set {wildcards.set}, with its training split if it is probed."""
    input:
        spec=AT.specs.test_set("{set}"),
        upstream=lambda wildcards: mirror_receipts([wildcards.set]),
    output:
        update(AT.receipts.data("tests/{set}")),
    log:
        AT.log("test_sets", "{set}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        out=TEST,
        outputs=f"{TEST}/revision.json",
        sources=lambda wildcards: outside(BASE.evaluate.sets[wildcards.set]),
        module=lambda wildcards: DATA["test_sets"]
        .at(BASE.evaluate.sets[wildcards.set])
        .module,
    shell:
        RECEIPT + " --sources {params.sources:q} --"
        " {PYTHON:q} -m {params.module} --params {FROZEN} --set {wildcards.set}"
        " --out {params.out:q} 2> {log:q}"


rule test_fingerprints:
    """Hash bytes and looks of all test images, and of those that probes are fitted to."""
    input:
        spec=AT.specs.data("test_fingerprints"),
        upstream=[AT.receipts.test(name) for name in SETS],
    output:
        update(AT.receipts.data("test_fingerprints")),
    log:
        AT.log("test_fingerprints"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.fingerprints("tests"),
        sets=[f"{AT.test(name)}/revision.json" for name in SETS],
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.testsets.fingerprints --tests {params.sets:q} --out {params.outputs:q} 2> {log:q}"
