# Tables 3.1, 3.2, 3.3 and 4.1 from the measurements of all cells.
TABLES = ("table_3_1", "table_3_2", "table_3_3", "table_4_1")


rule render_tables:
    input:
        metrics=[f"{RESULTS}/runs/{path}/metrics.json" for path in CELLS],
    output:
        metrics=f"{RESULTS}/metrics.parquet",
        rows=f"{RESULTS}/rows.parquet",
        tables=[f"{RESULTS}/tables/{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")],
    log:
        f"{RESULTS}/logs/tables.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        runs=lambda wildcards, output: str(Path(output.metrics).parent / "runs"),
        tables=lambda wildcards, output: str(Path(output.tables[0]).parent),
    shell:
        "python -m harness tables --settings {params.settings} --runs {params.runs} --metrics {output.metrics}"
        " --output {params.tables} > {log} 2>&1"


rule tables:
    input:
        rules.render_tables.output,
