# Searches: settings tried on the validation set. A trial's folder is like a run's, but nothing measures it on the test set.
with errors_in_one_line():
    TRIALS = {trial.path: trial for trial in trials(SETTINGS)}


rule train_trial:
    input:
        data=rules.fetch.output,
    output:
        f"{RESULTS}/searches/{{dataset}}/{{method}}/{{variant}}/{{trial}}/status.json",
    log:
        f"{RESULTS}/logs/searches/{{dataset}}/{{method}}/{{variant}}/{{trial}}.log",
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    resources:
        **GPU_RESOURCES,
        runtime=lambda wildcards: minutes(trial_of(wildcards).cell),
    params:
        settings=settings_file,
        digest=lambda wildcards: trial_of(wildcards).cell.training_digest,
        run=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python -m harness trial --settings {params.settings} --dataset {wildcards.dataset}"
        " --method {wildcards.method} --variant {wildcards.variant:q} --trial {wildcards.trial:q}"
        " --run {params.run:q} --data-record {input.data} 2> {log}"


rule searches:
    input:
        [f"{RESULTS}/searches/{path}/status.json" for path in TRIALS],
    output:
        f"{RESULTS}/searches.csv",
    log:
        f"{RESULTS}/logs/searches.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        digests=[trial.cell.training_digest for trial in TRIALS.values()],
        chosen=[trial.chosen for trial in TRIALS.values()],
        trials=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
    shell:
        "python -m harness searches --settings {params.settings} --trials {params.trials} --output {output} > {log} 2>&1"
