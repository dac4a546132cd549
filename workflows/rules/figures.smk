# Figures: analyses of trained models, one job a model, then one job a figure.
FIGURES = figure_names()


rule analyse_model:
    input:
        data=f"{RESULTS}/data/{{dataset}}.json",
        metrics=rules.run_model.output,
    output:
        f"{RESULTS}/runs/{{dataset}}/{{method}}/{{variant}}/{{seed}}/analyses.json",
    log:
        f"{RESULTS}/logs/analyses/{{dataset}}/{{method}}/{{variant}}/{{seed}}.log",
    group:
        job_group
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    resources:
        **GPU_RESOURCES,
        runtime=job_minutes,
    params:
        settings=settings_file,
        digests=lambda wildcards: [each.digest for each in analyses_of(SETTINGS, cell_of(wildcards))],
        failures=lambda wildcards: failures(run_folder(wildcards)),
        run=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "trap : TERM; python -m harness analyse --settings {params.settings} --dataset {wildcards.dataset}"
        " --method {wildcards.method} --variant {wildcards.variant:q} --seed {wildcards.seed}"
        " --run {params.run:q} 2> {log}"


rule draw_figure:
    input:
        lambda wildcards: analysed_for(wildcards.figure),
    output:
        [f"{RESULTS}/figures/{{figure}}.{form}" for form in ("csv", "png", "pdf", "rst")],
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    localrule: True
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    params:
        settings=settings_file,
        runs=f"{RESULTS}/runs",
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness figure {wildcards.figure} --settings {params.settings} --runs {params.runs}"
        " --output {params.folder} > {log} 2>&1"


rule figures:
    input:
        [f"{RESULTS}/figures/{name}.{form}" for name in FIGURES for form in ("csv", "png", "pdf")],
