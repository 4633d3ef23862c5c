# The tables: metrics and costs of all variants -> comparisons, figures, page.
# Needs the receipts of every evaluation, of the costs and of the data. Gives receipts/<scale>/tables/tables.json, and
# behind it tables/<scale>/ and metrics/<scale>.json.


rule tables:
    """The ablation tables, the figures and the page that shows them."""
    input:
        spec="specs/{scale}/tables/tables.json",
        after=evaluations(PROJECT.variants)
        + ["receipts/{scale}/tables/cost.json"]
        + data_receipts("manifest"),
    output:
        update("receipts/{scale}/tables/tables.json"),
    log:
        "logs/tables/{scale}.log",
    params:
        made=["tables/{scale}/index.html", "tables/{scale}/tables.csv"],
        metrics="metrics/{scale}.json",
    shell:
        RECEIPT + " --beside {params.metrics:q} --"
        " {PYTHON} -m flip.report.tables --params specs/{wildcards.scale}/params.yaml --scale {wildcards.scale}"
        " --data data/{wildcards.scale} --results results/{wildcards.scale} --receipts receipts/{wildcards.scale}"
        " --metrics {params.metrics:q} --out tables/{wildcards.scale} 2> {log:q}"
