# Data sets: found, verified and cached. On a cluster that happens where Snakemake runs: nodes rarely have a network.
rule fetch:
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    priority: FIRST
    localrule: True
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    params:
        settings=settings_file,
        attempt=lambda wildcards: ATTEMPTS.get(wildcards.dataset, 0),
    shell:
        "python -m harness datasets --settings {params.settings:q} --fetch {wildcards.dataset:q}"
        " --record {output:q} --attempt {params.attempt:q} 2> {log:q}"


rule data:
    input:
        [f"{RESULTS}/data/{name}.json" for name in dict.fromkeys(cell.dataset for cell in CELLS.values())],
