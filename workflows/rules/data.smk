# Settings of this call, and data sets: found, verified and cached.
rule settings:
    output:
        f"{RESULTS}/settings.json",
    log:
        f"{RESULTS}/logs/settings.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    params:
        settings=canonical_json(SETTINGS),
    shell:
        "python -m harness settings --settings {params.settings:q} --output {output} 2> {log}"


rule fetch:
    input:
        settings=ancient(rules.settings.output),
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    conda:
        "../envs/harness.yaml"
    threads: cores_per_job(workflow.cores)
    params:
        attempt=lambda wildcards, output: data_attempt(Path(output[0]), wildcards.dataset, SETTINGS),
    shell:
        "python -m harness datasets --settings {input.settings} --fetch {wildcards.dataset}"
        " --record {output} --attempt {params.attempt} 2> {log}"


rule data:
    input:
        [f"{RESULTS}/data/{name}.json" for name in dict.fromkeys(cell.dataset for cell in CELLS.values())],
