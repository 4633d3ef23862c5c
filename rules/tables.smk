# The tables of a report: metrics and costs of the variants that they name -> comparisons, figures, page.
# Needs the receipts of their evaluations, of the costs, of the data and of the image tokenizer, if they read one. Gives receipts/<scale>/tables/<report>/
# tables.json, and behind it tables/<scale>/<report>/; and receipts/<scale>/page.json, and behind it the page of
# several reports, tables/<scale>/index.html, which is made of these in seconds and so not recorded with DVC.

# The folder of a report, with its wildcards.
REPORT = AT.report("{report}")


rule tables:
    """The tables of {wildcards.report}, their figures and the page that shows them."""
    input:
        spec=AT.specs.tables("{report}", "tables"),
        upstream=compared_receipts,
    output:
        update(AT.receipts.tables("{report}", "tables")),
    log:
        AT.log("tables", "{report}"),
    params:
        outputs=[f"{REPORT}/index.html", f"{REPORT}/tables.csv"],
        out=REPORT,
    shell:
        RECEIPT + " --"
        " {PYTHON:q} -m flip.report.tables --params {HERE.project} --scale {wildcards.scale} --report {wildcards.report}"
        " --data {HERE.data} --results {HERE.results} --receipts {HERE.receipts.root}"
        " --out {params.out:q} 2> {log:q}"


rule page:
    """One page of {params.reports}, with all that it shows."""
    input:
        spec=AT.specs.page,
        upstream=reports_on_page(),
    output:
        update(AT.receipts.page),
    log:
        AT.log("page"),
    params:
        outputs=AT.page,
        reports=chosen_reports(config, PROJECT),
    shell:
        RECEIPT + " --"
        " {PYTHON:q} -m flip.report.whole --params {HERE.project} --scale {wildcards.scale} --reports {params.reports:q}"
        " --data {HERE.data} --results {HERE.results} --receipts {HERE.receipts.root}"
        " --tables {HERE.tables} --out {params.outputs:q} 2> {log:q}"


rule copy_report:
    """Tables, figures and page of {wildcards.report}, where `snakemake --report` finds them."""
    input:
        AT.receipts.tables("{report}", "tables"),
    output:
        # Copies, as what Snakemake declares it may delete.
        report(
            directory(AT.reported("{report}")),
            patterns=["{name}.csv", "{name}.svg", "{name}.html"],
            category="{report}",
        ),
    localrule: True
    params:
        folder=REPORT,
    shell:
        "mkdir -p {output:q} && cp {params.folder:q}/*.csv {params.folder:q}/*.svg {params.folder:q}/*.html {output:q}"
