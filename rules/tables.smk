# The tables: metrics and costs of all variants -> comparisons, figure, page.
# Needs the metrics, logs and costs of every run and the data's ledger.
# Gives tables/<scale>/.


rule tables:
    """The ablation tables, the trade-off figure and the page that shows them."""
    input:
        metrics=[f"{run}/metrics.json" for run in RUNS],
        training=[f"{run}/training.json" for run in RUNS],
        cost="results/{scale}/cost.json",
        manifest="data/{scale}/manifest.json",
        ledger="data/{scale}/ledger.json",
        paper="flip/report/paper.yaml",
        template="flip/report/page.html",
    output:
        page="tables/{scale}/index.html",
        table="tables/{scale}/tables.csv",
    log:
        "logs/tables/{scale}.log",
    params:
        made_from=made_from("tables"),
        definitions=digest(PROJECT.tree["tables"], PROJECT.tree["tradeoff"]),
    shell:
        "{PYTHON} -m flip.report.tables --scale {wildcards.scale} --data data/{wildcards.scale}"
        " --results results/{wildcards.scale} --out tables/{wildcards.scale} 2> {log:q}"
