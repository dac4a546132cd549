# Figures: analyses of trained models, one job per model, then one job per figure. Analyses of users are done even if no
# figure shows them.
FIGURES = figure_names(SETTINGS)
FIGURE_DIGESTS = {name: digest_of_figure(name) for name in FIGURES}
ANALYSED = {name: analysed_for(name) for name in FIGURES}
OWN_ANALYSES = with_analyses_of_users()


rule analyse_model:
    input:
        data=f"{RESULTS}/data/{{dataset}}.json",
        metrics=rules.run_model.output,
    output:
        str(RUN.manifest_file),
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
        digests=lambda wildcards: [each.digest for each in ANALYSES[cell_of(wildcards).path]],
        failures=lambda wildcards: failures(run_folder(wildcards).manifest_file),
        run=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "trap : TERM; python -m harness analyse --settings {params.settings:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --variant {wildcards.variant:q} --seed {wildcards.seed:q}"
        " --run {params.run:q} 2> {log:q}"


rule draw_figure:
    input:
        lambda wildcards: ANALYSED[wildcards.figure],
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
        cells=lambda wildcards: FIGURE_DIGESTS[wildcards.figure],
        runs=f"{RESULTS}/runs",
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness figure {wildcards.figure:q} --settings {params.settings:q} --runs {params.runs:q}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule figures:
    input:
        [f"{RESULTS}/figures/{name}.{form}" for name in FIGURES for form in ("csv", "png", "pdf")],
        [str(RUNS[path].manifest_file) for path in OWN_ANALYSES],
        sorted({path for behind in ANALYSED.values() for path in behind}),
        sorted({str(RunFolder(Path(path).parent).metrics_file) for behind in ANALYSED.values() for path in behind}),
