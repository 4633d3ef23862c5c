# Captions in other languages: training images -> each one's caption in one of a variant's languages, with a tokenizer
# of them all; and the retrieval set in each.
# Needs the manifest's receipt and specs/<scale>/. Gives receipts/<scale>/languages/, and behind it
# data/<scale>/languages/{<languages>/, tests/retrieval-<language>/}, intermediate: from the same data they are made again.
# Only variants that read other languages ask for any of it.


from flip.metrics.sets import retrieval_in

# With wildcards: the folder of captions in some languages, and the set in one.
SPOKEN = AT.languages("{languages}")
RETRIEVAL = retrieval_in("{language}")


wildcard_constraints:
    language="[a-z]+",
    languages="[a-z]+(-[a-z]+)*",


def translation_receipts(variants) -> list[str]:
    """Of the captions that these variants read, but for those that are read as they come."""
    translations = []
    for name in variants:
        captions = PROJECT.variants[name].captions
        if fault := captions.untranslated(PROJECT.variants[name].source):
            raise WorkflowError(f"variant '{name}': {fault}")
        translations += [captions.language_key] * bool(captions.translated)
    return [HERE.receipts.translations(one) for one in dict.fromkeys(translations)]


def evaluation_receipts(wildcards) -> list[str]:
    """What a variant is evaluated with and on."""
    params = PROJECT.variants[wildcards.variant]
    places = params.evaluate.of(params.captions.languages)
    receipts, own = HERE.receipts, AT.receipts.variant(
        "{variant}", "pretrain", "{seed}"
    )
    found = [
        receipts.test(name) if name in SETS else receipts.translated_test(name)
        for name in places
    ]
    translations = translation_receipts([wildcards.variant])
    return data_receipts("tokenizer") + [own] + found + translations


rule translations:
    """Say captions in {wildcards.languages}, a language per image, and make their tokenizer."""
    input:
        spec=AT.specs.translations("{languages}"),
        upstream=data_receipts("manifest"),
    output:
        update(AT.receipts.translations("{languages}")),
    log:
        AT.log("translations", "{languages}"),
    # Long jobs wait for it.
    priority: 2
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        out=SPOKEN,
        outputs=[f"{SPOKEN}/translations.json", f"{SPOKEN}/tokenizer.json"],
        facts=f"{SPOKEN}/translations.json",
        sources=outside(BASE.source.translations),
        module=TRANSLATIONS.at(BASE.source.kind).module,
    shell:
        RECEIPT
        + " --sources {params.sources:q} --facts {params.facts:q} --intermediate --"
        " {PYTHON:q} -m {params.module} --params {FROZEN}"
        " --languages {wildcards.languages} --manifest {HERE.manifest}"
        " --shards {HERE.shards} --out {params.out:q} 2> {log:q}"


rule translated_set:
    """Make or check the retrieval set in the language {wildcards.language}."""
    input:
        spec=AT.specs.translated_set("{language}"),
        upstream=[],
    output:
        update(AT.receipts.translated_test(RETRIEVAL)),
    log:
        AT.log("translated_set", "{language}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        out=AT.translated_test(RETRIEVAL),
        set=RETRIEVAL,
        outputs=f"{AT.translated_test(RETRIEVAL)}/revision.json",
        sources=lambda wildcards: outside(BASE.evaluate.languages[wildcards.language]),
        module=lambda wildcards: TRANSLATED_SET.at(
            BASE.evaluate.languages[wildcards.language]
        ).module,
    shell:
        RECEIPT + " --sources {params.sources:q} --intermediate --"
        " {PYTHON:q} -m {params.module} --params {FROZEN}"
        " --set {params.set:q} --out {params.out:q}"
        " 2> {log:q}"
