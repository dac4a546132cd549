# One model per cell: trained, then measured on the test set, in one process. The measurements are the only declared
# output, since Snakemake deletes those of a job that it runs again or kills: a finished training stays where only the
# measuring has changed or was cut short, and an unfinished one continues from its checkpoint. A crash becomes a status, so
# that it never blocks the tables; the next call tries again (see harness/cli/workflow.py). SIGTERM is for the training, which
# writes a checkpoint: the shell waits for it.
rule run_model:
    input:
        data=rules.fetch.output,
        source=lambda wildcards: starts_from(cell_of(wildcards)),
    output:
        str(RUN.metrics_file),
    log:
        f"{RESULTS}/logs/runs/{{dataset}}/{{method}}/{{variant}}/{{seed}}.log",
    priority: job_priority
    group:
        job_group
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    resources:
        **GPU_RESOURCES,
        attempt=job_attempt,
        runtime=job_minutes,
    params:
        settings=settings_file,
        digest=lambda wildcards: training_key(cell_of(wildcards)),
        snapshots=lambda wildcards: cell_of(wildcards).training.snapshots,
        evaluation=lambda wildcards: canonical_json(cell_of(wildcards).to_dict()["evaluation"]),
        crashes=lambda wildcards: run_folder(wildcards).crashes.count(),
        run=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "trap : TERM;"
        " cell=(--settings {params.settings:q} --dataset {wildcards.dataset:q} --method {wildcards.method:q}"
        " --variant {wildcards.variant:q} --seed {wildcards.seed:q} --run {params.run:q}"
        " --data-record {input.data:q});"
        ' python -m harness run "${{cell[@]}}" --digest {params.digest:q} --attempt {resources.attempt:q} 2> {log:q}'
        ' || python -m harness record-failure "${{cell[@]}}" --exit-code $? --attempt {resources.attempt:q}'
        " --log {log:q} 2>> {log:q}"


rule train:
    input:
        METRICS,
