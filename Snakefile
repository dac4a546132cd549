# The workflow: data -> runs (train, measure) -> tables; runs -> analyses -> figures. Rules are thin, each calls one verb of the `harness` command
# line; cells and settings come from workflows/config.yaml, workflows/presets/ and your --config / --configfile.
include: "workflows/rules/common.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/models.smk"
include: "workflows/rules/tables.smk"
include: "workflows/rules/figures.smk"
include: "workflows/rules/report.smk"
include: "workflows/rules/check.smk"
include: "workflows/rules/searches.smk"


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.report.input,


onsuccess:
    tell(how_it_ended(CELLS.values(), Path(RESULTS), early=False))


onerror:
    tell(how_it_ended(CELLS.values(), Path(RESULTS), early=True))
