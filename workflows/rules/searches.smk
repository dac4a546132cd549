# Searches: settings tried on the validation set. A trial's folder is like a run's, but nothing measures it on the test set.
with errors_in_one_line():
    TRIALS = {trial.path: trial for trial in trials(SETTINGS)}
TRIAL_RUNS = [RunFolder(Path(RESULTS) / "searches" / path) for path in TRIALS]
TRIAL_RUN = RunFolder(Path(RESULTS) / "searches/{dataset}/{method}/{variant}/{trial}")  # of any trial
TRIED = [str(folder.status_file) for folder in TRIAL_RUNS]
TRAINED = short_digest(
    {path: [training_key(trial.cell), ATTEMPTS[trial.cell.dataset]] for path, trial in TRIALS.items()}
)
for folder in TRIAL_RUNS:
    folder.discard_damaged()
if workflow.is_main_process:
    tell(changed_data(SETTINGS, CELLS.values(), Path(RESULTS)))
    tell(trained_by_other_code(CELLS.values(), TRIALS.values(), Path(RESULTS), SETTINGS_FILE))


rule train_trial:
    input:
        data=rules.fetch.output,
    output:
        str(TRIAL_RUN.status_file),
    log:
        f"{RESULTS}/logs/searches/{{dataset}}/{{method}}/{{variant}}/{{trial}}.log",
    group:
        trial_group
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    resources:
        **GPU_RESOURCES,
        runtime=lambda wildcards: minutes(trial_of(wildcards).cell, SETTINGS),
    params:
        settings=settings_file,
        digest=lambda wildcards: training_key(trial_of(wildcards).cell),
        run=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "trap : TERM; python -m harness trial --settings {params.settings:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --variant {wildcards.variant:q} --trial {wildcards.trial:q}"
        " --run {params.run:q} --data-record {input.data:q} 2> {log:q}"


rule gather_searches:
    input:
        TRIED,
    output:
        f"{RESULTS}/searches.csv",
    log:
        f"{RESULTS}/logs/searches.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        trained=TRAINED,
        chosen=[trial.chosen for trial in TRIALS.values()],
        trials=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
    shell:
        "python -m harness searches --settings {params.settings:q} --trials {params.trials:q}"
        " --output {output:q} > {log:q} 2>&1"


rule searches:
    input:
        rules.gather_searches.output,
        TRIED,
