# The image tokenizer: training images -> codes, which masked image modelling predicts.
# Needs the manifest's receipt and specs/<scale>/. Gives receipts/<scale>/codebook.json, and behind it
# data/<scale>/codebook/{weights.safetensors, metrics.json, images.webp}. Only variants that read codes ask for it; it
# serves their training and their report alone ("intermediate").


def codebook_receipt(variants) -> list[str]:
    """The image tokenizer's, where a loss of these variants reads codes."""
    needed = any(PROJECT.variants[name].flava.reads_codes for name in variants)
    return [HERE.receipts.codebook] if needed else []


rule codebook:
    """Train an image tokenizer of {BASE.codebook.codes} codes on {BASE.codebook.samples} images, or take DALL-E's."""
    input:
        spec=AT.specs.codebook,
        upstream=data_receipts("manifest"),
    output:
        update(AT.receipts.codebook),
    log:
        AT.log("codebook"),
    # Some of the longest jobs wait for it.
    priority: 2
    threads: JOB.threads
    resources:
        **gpus(JOB.gpus),
        mem_mb=JOB.memory_mb // JOB.processes,
        runtime=JOB.minutes,
    params:
        outputs=AT.codebook("weights.safetensors"),
        extra_outputs=[AT.codebook("metrics.json"), AT.codebook("images.webp")],
        facts=AT.codebook("metrics.json"),
        sources=outside(BASE.codebook.weights),
        out=AT.codebook(),
    shell:
        RECEIPT
        + " --sources {params.sources:q} --extra-outputs {params.extra_outputs:q} --facts {params.facts:q} --intermediate --"
        " {PYTHON:q} -m flip.train.image_tokenizer --params {FROZEN}"
        " --data {HERE.data} --threads {threads} --out {params.out:q} 2> {log:q}"
