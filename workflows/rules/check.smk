# The regression check: which numbers moved, against the thesis and against the published run of this preset. Nothing
# is declared as output, since a failing job would lose it: the tables of a failed check are what one wants to read.
rule check:
    input:
        metrics=rules.gather_metrics.output.metrics,
        cells=METRICS,
        judged=files_to_judge(),
    log:
        f"{RESULTS}/logs/check.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        folder=f"{RESULTS}/check",
        strict="--strict" if SETTINGS["strict"] else "",
    shell:
        "python -m harness check {input.metrics:q} --settings {params.settings:q} --output {params.folder:q}"
        " {params.strict:q} 2>&1 | tee {log:q}"
