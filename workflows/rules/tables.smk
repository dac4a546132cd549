# Tables 3.1, 3.2, 3.3 and 4.1, each from the cells that it shows and as soon as these are measured; and the measurements
# themselves, gathered of all that the targets of a call ask for and all that earlier calls have left.


rule render_table:
    input:
        lambda wildcards: metrics_files(gathered(CELLS_OF[wildcards.table])),
    output:
        [f"{RESULTS}/tables/{{table}}.{form}" for form in ("csv", "md", "tex")],
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    wildcard_constraints:
        table="|".join(CELLS_OF),
    priority: FIRST
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        cells=lambda wildcards: short_digest(
            {cell.path: FACTS[cell.path] for cell in gathered(CELLS_OF[wildcards.table])}
        ),
        runs=f"{RESULTS}/runs",
        tables=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness tables {wildcards.table:q} --settings {params.settings:q} --runs {params.runs:q}"
        " --output {params.tables:q} 2> {log:q}"


rule gather_metrics:
    input:
        lambda wildcards: metrics_files(cells_to_gather()),
    output:
        metrics=f"{RESULTS}/metrics.parquet",
        rows=f"{RESULTS}/rows.parquet",
    log:
        f"{RESULTS}/logs/metrics.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        cells=lambda wildcards: short_digest({cell.path: FACTS[cell.path] for cell in cells_to_gather()}),
        runs=f"{RESULTS}/runs",
    shell:
        "python -m harness metrics --settings {params.settings:q} --runs {params.runs:q} --output {output.metrics:q}"
        " > {log:q} 2>&1"


for table in CELLS_OF:

    rule:
        name:
            table
        input:
            [f"{RESULTS}/tables/{table}.{form}" for form in ("csv", "md", "tex")],
            lambda wildcards, table=table: metrics_files(gathered(CELLS_OF[table])),


rule tables:
    input:
        [f"{RESULTS}/tables/{table}.{form}" for table in CELLS_OF for form in ("csv", "md", "tex")],
        OVERVIEW,
        rules.gather_metrics.output,
        lambda wildcards: metrics_files(gathered(CELLS_COMPARED)),
