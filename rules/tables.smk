# The tables of a report: metrics and costs of the variants that they name -> comparisons, figures, page.
# Needs the receipts of their evaluations, of the costs, of the data and of the image tokenizer, if they read one. Gives receipts/<scale>/tables/<report>/
# tables.json, and behind it tables/<scale>/<report>/ and metrics/<scale>/<report>.json; and receipts/<scale>/page.json, and behind it the page of
# several reports, tables/<scale>/index.html, which is made of these in seconds and so not recorded with DVC.


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


rule page:
    """One page of {params.reports}, with all that it shows."""
    input:
        spec="specs/{scale}/page.json",
        after=reports_on_page(),
    output:
        update("receipts/{scale}/page.json"),
    log:
        "logs/page/{scale}.log",
    params:
        made="tables/{scale}/index.html",
        reports=chosen_reports(config, PROJECT),
    shell:
        RECEIPT + " --"
        " {PYTHON} -m flip.report.whole --params specs/{wildcards.scale}/params.yaml --scale {wildcards.scale} --reports {params.reports:q}"
        " --data data/{wildcards.scale} --results results/{wildcards.scale} --receipts receipts/{wildcards.scale}"
        " --tables tables/{wildcards.scale} --out {params.made:q} 2> {log:q}"
