# One model a cell: train it, then measure it on the test set. A crash becomes a status, so that it never blocks the
# tables; the next call tries again (see harness/workflow.py). Checkpoints lie in the run's folder but are no declared
# output, since Snakemake removes those of a killed job.
rule train_model:
    input:
        settings=ancient(SETTINGS_FILE),
        data=rules.fetch.output,
    output:
        f"{RESULTS}/runs/{{dataset}}/{{method}}/{{variant}}/{{seed}}/status.json",
    log:
        f"{RESULTS}/logs/train/{{dataset}}/{{method}}/{{variant}}/{{seed}}.log",
    conda:
        "../envs/harness.yaml"
    threads: cores_per_job(workflow.cores)
    params:
        digest=lambda wildcards: cell_of(wildcards).training_digest,
        run=lambda wildcards, output: str(Path(output[0]).parent),
        attempt=lambda wildcards: run_attempt(run_folder(wildcards) / "status.json"),
    shell:
        "cell=(--settings {input.settings} --dataset {wildcards.dataset} --method {wildcards.method}"
        " --variant {wildcards.variant:q} --seed {wildcards.seed} --run {params.run:q} --attempt {params.attempt});"
        ' python -m harness train "${{cell[@]}}" --digest {params.digest} --data-record {input.data} 2> {log}'
        ' || python -m harness record-failure "${{cell[@]}}" --stage train --exit-code $? --log {log} 2>> {log}'


rule evaluate_model:
    input:
        settings=ancient(SETTINGS_FILE),
        status=rules.train_model.output,
    output:
        f"{RESULTS}/runs/{{dataset}}/{{method}}/{{variant}}/{{seed}}/metrics.json",
    log:
        f"{RESULTS}/logs/evaluate/{{dataset}}/{{method}}/{{variant}}/{{seed}}.log",
    conda:
        "../envs/harness.yaml"
    threads: cores_per_job(workflow.cores)
    params:
        evaluation=lambda wildcards: canonical_json(cell_of(wildcards).to_dict()["evaluation"]),
        run=lambda wildcards, output: str(Path(output[0]).parent),
        attempt=lambda wildcards: run_attempt(run_folder(wildcards) / "metrics.json"),
    shell:
        "cell=(--settings {input.settings} --dataset {wildcards.dataset} --method {wildcards.method}"
        " --variant {wildcards.variant:q} --seed {wildcards.seed} --run {params.run:q} --attempt {params.attempt});"
        ' python -m harness evaluate "${{cell[@]}}" 2> {log}'
        ' || python -m harness record-failure "${{cell[@]}}" --stage evaluate --exit-code $? --log {log} 2>> {log}'


rule train:
    input:
        [f"{RESULTS}/runs/{path}/status.json" for path in CELLS],
