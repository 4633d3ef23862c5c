# Words of the captions: the parts' lists of samples -> counts per part -> one file of words that are there often enough.
# Needs the receipts of shards and specs/<scale>/. Gives receipts/<scale>/data/words/ and all_words.json, and behind them
# data/<scale>/words.parquet, intermediate: from the same data it is made again. Only variants whose masks choose by words
# ask for it.


def words_receipt(variants) -> list[str]:
    """Of the file of words, if one of the variants reads it."""
    needed = any(PROJECT.variants[name].masking.reads_words for name in variants)
    return [HERE.receipts.data("all_words")] if needed else []


rule words:
    """Count the words of the captions of part {wildcards.part}."""
    input:
        spec=AT.specs.data("words"),
        upstream=data_receipts("shards/{part}"),
    output:
        update(AT.receipts.data("words/{part}")),
    log:
        AT.log("words", "{part}"),
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.words_of("{part}"),
        samples=AT.samples_of("{part}"),
    shell:
        RECEIPT + " --intermediate --"
        " {PYTHON:q} -m flip.data.word_counts --list {params.samples:q}"
        " --out {params.outputs:q} 2> {log:q}"


rule all_words:
    """Add up the words of all parts; those that are there {BASE.tokenizer.least_count} times or more stay."""
    input:
        spec=AT.specs.data("all_words"),
        upstream=data_receipts(*(f"words/{part}" for part in PARTS)),
    output:
        update(AT.receipts.data("all_words")),
    log:
        AT.log("all_words"),
    # Long jobs wait for it.
    priority: 2
    threads: BASE.resources.data.threads
    resources:
        mem_mb=BASE.resources.data.memory_mb,
        runtime=BASE.resources.data.minutes,
    params:
        outputs=AT.words,
        counts=lambda wildcards: ranged(HERE.words_of, PARTS),
        receipts=lambda wildcards: ranged(
            lambda part: HERE.receipts.data(f"words/{part}"), PARTS
        ),
    shell:
        RECEIPT_OF_MANY + " --intermediate --"
        " {PYTHON:q} -m flip.data.word_table --params {FROZEN} --counts {params.counts:q}"
        " --out {params.outputs:q} 2> {log:q}"
