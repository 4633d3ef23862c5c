# The tables of a report: metrics and costs of the variants that they name -> comparisons, figures, page.
# Needs the receipts of their evaluations, of the costs, of the data and of the image tokenizer, if they read one. Gives receipts/<scale>/tables/<report>/
# tables.json, and behind it tables/<scale>/<report>/ and metrics/<scale>/<report>.json.


rule tables:
    """The tables of {wildcards.report}, their figures and the page that shows them."""
    input:
        spec="specs/{scale}/tables/{report}/tables.json",
        after=compared_receipts,
    output:
        update("receipts/{scale}/tables/{report}/tables.json"),
    log:
        "logs/tables/{scale}/{report}.log",
    params:
        made=expand(
            "tables/{{scale}}/{{report}}/{name}", name=["index.html", "tables.csv"]
        ),
        metrics="metrics/{scale}/{report}.json",
    shell:
        RECEIPT + " --beside {params.metrics:q} --"
        " {PYTHON} -m flip.report.tables --params specs/{wildcards.scale}/params.yaml --scale {wildcards.scale} --report {wildcards.report}"
        " --data data/{wildcards.scale} --results results/{wildcards.scale} --receipts receipts/{wildcards.scale}"
        " --metrics {params.metrics:q} --out tables/{wildcards.scale}/{wildcards.report} 2> {log:q}"
