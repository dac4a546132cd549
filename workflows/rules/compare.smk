# Which method is better: the overview of all methods on all data sets, and all pairs with the ranks over data sets. The
# diagram of the ranks is no declared output, since one data set or one method alone has no ranks.
OVERVIEW = [f"{RESULTS}/tables/overview.{form}" for form in ("csv", "md", "tex")]
COMPARED = [f"{RESULTS}/compare/{name}" for name in ("compare.csv", "ranks.csv", "compare.md")]


rule render_overview:
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        rows=f"{RESULTS}/rows.parquet",
    output:
        OVERVIEW,
    log:
        f"{RESULTS}/logs/overview.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        cells=lambda wildcards: short_digest({cell.path: FACTS[cell.path] for cell in gathered(CELLS_COMPARED)}),
        tables=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness overview {input.metrics:q} --settings {params.settings:q} --output {params.tables:q}"
        " 2> {log:q}"


rule compare_methods:
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        rows=f"{RESULTS}/rows.parquet",
    output:
        COMPARED,
    log:
        f"{RESULTS}/logs/compare.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        cells=short_digest({cell.path: FACTS[cell.path] for cell in CELLS_COMPARED}),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness compare {input.metrics:q} --settings {params.settings:q} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule overview:
    input:
        OVERVIEW,
        metrics_files(CELLS_COMPARED),


rule compare:
    input:
        COMPARED,
        OVERVIEW,
        metrics_files(CELLS_COMPARED),
