# Tables 3.1, 3.2, 3.3 and 4.1 from the measurements of all cells.
TABLES = ("table_3_1", "table_3_2", "table_3_3", "table_4_1")


rule render_tables:
    input:
        metrics=METRICS,
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
        cells=short_digest(FACTS),
        runs=lambda wildcards, output: str(Path(output.metrics).parent / "runs"),
        tables=lambda wildcards, output: str(Path(output.tables[0]).parent),
    shell:
        "python -m harness tables --settings {params.settings:q} --runs {params.runs:q} --metrics {output.metrics:q}"
        " --output {params.tables:q} > {log:q} 2>&1"


rule tables:
    input:
        rules.render_tables.output,
        METRICS,
