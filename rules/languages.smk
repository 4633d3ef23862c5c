# Captions in other languages: training pictures -> each one's caption in one of a variant's languages, with a tokenizer
# of them all; and the retrieval set in each.
# Needs the manifest's receipt and specs/<scale>/. Gives receipts/<scale>/languages/, and behind it
# data/<scale>/languages/{<languages>/, tests/retrieval-<language>/}, scratch: from the same data they are made again.
# Only variants that read other languages ask for any of it.


wildcard_constraints:
    language="[a-z]+",
    languages="[a-z]+(-[a-z]+)*",


def translation_receipts(variants) -> list[str]:
    """Of the captions that these variants read, but for those that are read as they come."""
    spoken = []
    for name in variants:
        captions = PROJECT.variants[name].captions
        if fault := captions.untranslated(PROJECT.variants[name].source):
            raise WorkflowError(f"variant '{name}': {fault}")
        spoken += [captions.spoken] * bool(captions.translated)
    folders = [f"receipts/{SCALE}/languages/{one}" for one in dict.fromkeys(spoken)]
    return [f"{folder}/translations.json" for folder in folders]


def evaluation_receipts(wildcards) -> list[str]:
    """What a variant is evaluated with and on."""
    params = PROJECT.variants[wildcards.variant]
    places = params.evaluate.of(params.captions.languages)
    tests = ["data/tests/" if name in SETS else "languages/tests/" for name in places]
    own = "receipts/{scale}/variants/{variant}/seed-{seed}/pretrain.json"
    found = [
        f"receipts/{SCALE}/{folder}{name}.json" for folder, name in zip(tests, places)
    ]
    spoken = translation_receipts([wildcards.variant])
    return data_receipts("tokenizer") + [own] + found + spoken


rule translations:
    """Say captions in {wildcards.languages}, a language per picture, and make their tokenizer."""
    input:
        spec="specs/{scale}/languages/{languages}/translations.json",
        after=data_receipts("manifest"),
    output:
        update("receipts/{scale}/languages/{languages}/translations.json"),
    log:
        "logs/translations/{scale}/{languages}.log",
    # Long jobs wait for it.
    priority: 2
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made=expand(
            "data/{{scale}}/languages/{{languages}}/{name}.json",
            name=["translations", "tokenizer"],
        ),
        facts="data/{scale}/languages/{languages}/translations.json",
        sources=outside(BASE.source.translations),
        module=TRANSLATIONS.at(BASE.source.table).module,
    shell:
        RECEIPT + " --sources {params.sources:q} --facts {params.facts:q} --scratch --"
        " {PYTHON} -m {params.module} --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --languages {wildcards.languages} --manifest data/{wildcards.scale}/manifest.json"
        " --shards data/{wildcards.scale}/shards --out data/{wildcards.scale}/languages/{wildcards.languages} 2> {log:q}"


rule translated_set:
    """Make or check the retrieval set in the language {wildcards.language}."""
    input:
        spec="specs/{scale}/languages/tests/{language}/translated_set.json",
        after=[],
    output:
        update("receipts/{scale}/languages/tests/retrieval-{language}.json"),
    log:
        "logs/translated_set/{scale}/{language}.log",
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        made="data/{scale}/languages/tests/retrieval-{language}/revision.json",
        sources=lambda wildcards: outside(BASE.evaluate.languages[wildcards.language]),
        module=lambda wildcards: TRANSLATED_SET.at(
            BASE.evaluate.languages[wildcards.language]
        ).module,
    shell:
        RECEIPT + " --sources {params.sources:q} --scratch --"
        " {PYTHON} -m {params.module} --params specs/{wildcards.scale}/params/{BASE.variant}.yaml"
        " --set retrieval-{wildcards.language} --out data/{wildcards.scale}/languages/tests/retrieval-{wildcards.language}"
        " 2> {log:q}"
