# The report: all tables and figures in one HTML file.
rule write_report:
    input:
        metrics=rules.gather_metrics.output.metrics,
        figures=[f"{RESULTS}/figures/{name}.png" for name in FIGURES],
        judged=files_to_judge(),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        **({"own": digest_of_users()} if OWN_TABLES or OWN_CLAIMS else {}),
        settings=settings_file,
        cells=short_digest(FACTS),
        figures=[FIGURE_DIGESTS[name] for name in FIGURES],
        runs=f"{RESULTS}/runs",
    shell:
        "python -m harness report --settings {params.settings:q} --runs {params.runs:q} --figures {input.figures:q}"
        " --output {output:q} > {log:q} 2>&1"


rule report:
    input:
        rules.write_report.output,
        rules.tables.input,
        rules.figures.input,
