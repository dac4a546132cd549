# Data sets: found, verified and cached. On a cluster that happens where Snakemake runs: nodes rarely have a network.
rule fetch:
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    localrule: True
    conda:
        "../envs/harness.yaml"
    threads: threads_here
    params:
        settings=settings_file,
        attempt=lambda wildcards: data_attempt(
            Path(f"{RESULTS}/data/{wildcards.dataset}.json"), wildcards.dataset, SETTINGS
        ),
    shell:
        "python -m harness datasets --settings {params.settings} --fetch {wildcards.dataset}"
        " --record {output} --attempt {params.attempt} 2> {log}"


rule data:
    input:
        [f"{RESULTS}/data/{name}.json" for name in dict.fromkeys(cell.dataset for cell in CELLS.values())],
