# Searches: settings tried on the validation set. A trial's folder is like a run's, but nothing measures it on the test set.
with errors_in_one_line():
    SEARCHED = {trial.path: trial for trial in trials(SETTINGS)}
    LENGTHS = {trial.path: trial for trial in budget_trials(SETTINGS, cells_shown(list(CELLS.values()), SETTINGS))}
TRIALS = {**SEARCHED, **LENGTHS}
TRIAL_RUNS = {path: RunFolder(Path(RESULTS) / "searches" / path) for path in TRIALS}
TRIAL_RUN = RunFolder(Path(RESULTS) / "searches/{dataset}/{method}/{variant}/{trial}")  # of any trial
TRIED = [str(TRIAL_RUNS[path].status_file) for path in SEARCHED]
LENGTHS_TRIED = [str(TRIAL_RUNS[path].status_file) for path in LENGTHS]
for folder in TRIAL_RUNS.values():
    folder.discard_damaged()
if workflow.is_main_process:
    tell(changed_data(SETTINGS, CELLS.values(), Path(RESULTS)))
    tell(trained_by_other_code(CELLS.values(), TRIALS.values(), Path(RESULTS), SETTINGS_FILE))


rule train_trial:
    input:
        data=rules.fetch.output,
        source=lambda wildcards: starts_from(trial_of(wildcards).cell),
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
        trained=digest_of_trials(SEARCHED),
        chosen=[trial.chosen for trial in SEARCHED.values()],
        trials=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
    shell:
        "python -m harness searches --settings {params.settings:q} --trials {params.trials:q}"
        " --output {output:q} > {log:q} 2>&1"


rule searches:
    input:
        rules.gather_searches.output,
        TRIED,


rule gather_budgets:
    input:
        LENGTHS_TRIED,
    output:
        table=f"{RESULTS}/budgets.csv",
        page=f"{RESULTS}/budgets.md",
    log:
        f"{RESULTS}/logs/budgets.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=settings_file,
        trained=digest_of_trials(LENGTHS),
        asked=SETTINGS["budget_trials"],
        trials=lambda wildcards, output: str(Path(output.table).with_name("searches")),
    shell:
        "python -m harness budgets --settings {params.settings:q} --trials {params.trials:q}"
        " --output {output.table:q} 2> {log:q}"


rule budgets:
    input:
        rules.gather_budgets.output,
        LENGTHS_TRIED,
