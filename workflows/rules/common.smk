# Settings, cells and the functions that rules use.
from collections import Counter
from functools import cache
from pathlib import Path

import snakemake.logging

from harness.errors import ConfigError
from harness.evaluation.manifest import failures
from harness.evaluation.plan import analyses_of
from harness.cli.cluster import check_requests, forward_sigterm, use_this_cluster
from harness.cli.dry_run import InPlaceOfJobs, summary
from harness.settings.asked import results_name
from harness.settings.config import canonical_json, cells
from harness.plugins import claims, figures, tables
from harness.plugins.analyses import MEASURED
from harness.reporting.figures.write import analyses_behind, cells_of, figure_names
from harness.reporting.tables.planned import cells_compared, cells_shown, cells_waited_for, table_names
from harness.compute.gpu_slots import visible_gpus
from harness.compute.places import WORKFLOWS
from harness.storage.budgets import budget_trials
from harness.storage.collect import measured
from harness.storage.durations import Durations
from harness.storage.method_code import training_key
from harness.storage.runs import RunFolder
from harness.storage.seals import discard_broken
from harness.storage.search import trials
from harness.cli.terminal import Progress, how_it_ended, hush, tell, what_is_left, what_was_made, whose_code_failed
from harness.cli.workflow import (
    attempts_at_data,
    changed_data,
    check_place,
    cores_per_job,
    errors_in_one_line,
    facts_of_cells,
    gpu_resources,
    is_short,
    minutes,
    priorities,
    record_settings,
    schedule_at_once,
    settings_given,
    short_digest,
    sources_of,
    trained_by_other_code,
    use_this_python,
)
from harness.worker.start import start_worker

use_this_python()
with errors_in_one_line():
    check_place(Path(workflow.basedir))
    use_this_cluster(WORKFLOWS / "profiles" / "slurm")
    SETTINGS = settings_given(config, workflow.config_settings.configfiles, workflow.config_settings.config)
if workflow.local_exec:
    forward_sigterm()
if workflow.is_main_process and not (workflow.output_settings.printshellcmds or workflow.output_settings.verbose):
    hush(
        snakemake.logging.logger,
        *([InPlaceOfJobs(lambda jobs: dry_run(jobs))] if workflow.output_settings.dryrun else []),
    )
RESULTS = f"results/{results_name(SETTINGS)}"
# What jobs read. Its name follows from its content, so that a dry run with other settings changes nothing for jobs under
# way. It is no input: the digests among params say which jobs a change concerns.
SETTINGS_FILE = record_settings(SETTINGS, Path(RESULTS) / "settings")
CELLS = {cell.path: cell for cell in cells(SETTINGS)}
ANALYSES = {path: analyses_of(SETTINGS, cell) for path, cell in CELLS.items()}
RUNS = {path: RunFolder(Path(RESULTS) / "runs" / path) for path in CELLS}
RUN = RunFolder(Path(RESULTS) / "runs/{dataset}/{method}/{variant}/{seed}")  # of any cell
METRICS = [str(folder.metrics_file) for folder in RUNS.values()]
CELLS_OF = {name: cells_shown(list(CELLS.values()), SETTINGS, [name]) for name in table_names(SETTINGS)}  # by table
OWN_TABLES = tables.own_tables(SETTINGS)
OWN_CLAIMS = claims.own_claims(SETTINGS)
CELLS_COMPARED = cells_compared(list(CELLS.values()), SETTINGS)
# What is ready early should be seen early: the table that takes least comes first, and of what is left the longest cell.
DURATIONS = Durations(SETTINGS["preset"])
PRIORITIES = priorities({**CELLS_OF, "overview": CELLS_COMPARED}, DURATIONS, CELLS)
FIRST = 1 + max(PRIORITIES.values(), default=0)  # of what others wait for
# What tables, figures, report and searches are made of is a parameter of theirs, and what they are made from stands
# among the inputs of their targets as well. Snakemake deletes the output of a job that it runs again, and takes a
# missing file for no reason to make those that follow from it, as long as they are there: once that job had failed,
# tables of other settings would pass for those of these.
ATTEMPTS = attempts_at_data(SETTINGS, CELLS.values(), Path(RESULTS))
with errors_in_one_line():
    FACTS = facts_of_cells(SETTINGS, CELLS.values(), Path(RESULTS), ATTEMPTS)
GPU_RESOURCES, GPU_SLOTS = gpu_resources(SETTINGS, visible_gpus())
if GPU_SLOTS and "gpu_slots" not in workflow.global_resources:  # unless --resources says so
    workflow.register_resource("gpu_slots", GPU_SLOTS)
for folder in RUNS.values():
    folder.discard_damaged()
if workflow.is_main_process:
    for folder in ("", "tables", "figures", "check", "compare"):
        discard_broken(Path(RESULTS) / folder)


resource_scopes:
    gpu_slots="local",


wildcard_constraints:
    dataset="[^/]+",
    method="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",


def cell_of(wildcards):
    """The cell that a run's folder stands for."""
    return CELLS[f"{wildcards.dataset}/{wildcards.method}/{wildcards.variant}/{wildcards.seed}"]


def trial_of(wildcards):
    """The trial that a folder of a search stands for."""
    return TRIALS[f"{wildcards.dataset}/{wildcards.method}/{wildcards.variant}/{wildcards.trial}"]


def threads_here(wildcards):
    """Cores of a single-threaded job, by what `--cores` promises and this machine has; 1 on a cluster."""
    return cores_per_job(workflow.cores) if workflow.local_exec else 1


def group_of(cell):
    """`short` for cells of minutes, where --group-components asks a cluster to run several of them in one job.

    Not for one that waits for a cell of hours: a job can neither begin before it nor be in two parts.
    """
    asked = "short" in workflow.group_settings.group_components
    return "short" if asked and all(map(is_short, [cell, *sources_of([cell], CELLS)])) else None


def starts_from(cell):
    """What stands for the cell whose weights another begins with, where it does."""
    start = cell.training.start_from
    if start is None:
        return []
    if start.path not in RUNS:  # of a trial, whose cell nobody asks for
        with errors_in_one_line():
            raise ConfigError(f"only: expected {start.path} as well, which {cell.path} starts from, found it left out")
    return [str(RUNS[start.path].metrics_file)]


def job_group(wildcards):
    """The group of what is done for a cell of the grid."""
    return group_of(cell_of(wildcards))


def trial_group(wildcards):
    """The group of a trial."""
    return group_of(trial_of(wildcards).cell)


def job_minutes(wildcards):
    """Time that a cluster should grant what is done for a cell of the grid."""
    return minutes(cell_of(wildcards), SETTINGS)


def job_attempt(wildcards, attempt):
    """The number of this try; a cell that is killed for memory in every one is given up in the end."""
    return attempt


def job_priority(wildcards):
    """How early a cell of the grid should be trained."""
    return PRIORITIES.get(cell_of(wildcards).path, 0)


def metrics_files(cells):
    """What stands for the measurements of cells."""
    return [str(RUNS[cell.path].metrics_file) for cell in cells]


def cells_asked_for():
    """The cells behind the targets of this call, in the order of the configuration."""
    paths = set()
    for target in workflow.dag_settings.targets or ("all",):
        stem = Path(target).stem
        if target in CELLS_OF or target == "tables":
            shown = CELLS_OF[target] if target in CELLS_OF else CELLS_COMPARED
            paths |= {cell.path for cell in cells_waited_for(shown, SETTINGS)}
        elif target in ("overview", "compare"):
            paths |= {cell.path for cell in CELLS_COMPARED}
        elif target == "figures":
            paths |= {path for figure in FIGURES for path in cells_behind(figure)} | set(OWN_ANALYSES)
        elif stem in FIGURES and Path(target).parent.name == "figures":
            paths |= set(cells_behind(stem))
        elif target not in ("data", "searches"):
            return list(CELLS.values())
    paths |= {source.path for source in sources_of([CELLS[path] for path in paths], CELLS)}
    return [cell for path, cell in CELLS.items() if path in paths]


@cache
def cells_to_gather():
    """What ``metrics.parquet`` holds: the cells behind the targets, and what else has been measured before."""
    wanted = {cell.path for cell in cells_asked_for()}
    wanted |= {cell.path for cell in measured(list(CELLS.values()), Path(RESULTS) / "runs")}
    return [cell for path, cell in CELLS.items() if path in wanted]


def gathered(cells):
    """Those of the cells that a table of them is made of in this call."""
    paths = {cell.path for cell in cells_to_gather()}
    return [cell for cell in cells if cell.path in paths]


def settings_file(wildcards, output):
    """What jobs read; as a function of the output, Snakemake does not take it for a reason to run a job again."""
    return str(SETTINGS_FILE)


def run_folder(wildcards):
    """Where a cell's run lies."""
    return RUNS[cell_of(wildcards).path]


def planned_for(figure):
    """What a figure is drawn from: by path of a cell, those of its analyses that are behind the figure."""
    behind = set(analyses_behind(figure))
    planned = {cell.path: ANALYSES[cell.path] for cell in cells_of(figure, CELLS.values())}
    chosen = {path: [each for each in analyses if each.name in behind] for path, analyses in planned.items()}
    return {path: analyses for path, analyses in chosen.items() if analyses}


def measured_for(figure):
    """The cells whose measured numbers a figure is drawn from."""
    return cells_of(figure, CELLS_COMPARED) if MEASURED in analyses_behind(figure) else []


def cells_behind(figure):
    """Paths of all cells that a figure shows something of."""
    return [*planned_for(figure), *(cell.path for cell in measured_for(figure))]


def analysed_for(figure):
    """What a figure waits for: the analyses of all cells that have one which it shows, and the numbers that it shows."""
    analysed = [
        str(RUNS[path].manifest_file)
        for path, analyses in planned_for(figure).items()
        if not all(each.lacks for each in analyses)
    ]
    return analysed + metrics_files(measured_for(figure))


def digest_of_figure(figure):
    """What a figure is made of: its cells, their analyses, how often these have failed so far, and a user's code."""
    made_of = {
        path: [FACTS[path], [each.digest for each in analyses], failures(RUNS[path].manifest_file)]
        for path, analyses in planned_for(figure).items()
    }
    if code := figures.code(figure):
        made_of |= {"code": code, "measured": {cell.path: FACTS[cell.path] for cell in measured_for(figure)}}
    return short_digest(made_of)


def digest_of_table(table):
    """What a table is made of: its cells, and a user's code."""
    made_of = {cell.path: FACTS[cell.path] for cell in gathered(CELLS_OF[table])}
    if table in OWN_TABLES:
        made_of["code"] = tables.REGISTRY.code(table)
    return short_digest(made_of)


def digest_of_users():
    """The code of users that a report needs beside figures: their tables and claims."""
    return short_digest(
        {
            kind.word: {name: kind.code(name) for name in names}
            for kind, names in ((tables.REGISTRY, OWN_TABLES), (claims.REGISTRY, OWN_CLAIMS))
        }
    )


def files_to_judge():
    """The data of figures and tables that claims of users are judged from, as far as the settings ask for them."""
    behind = [name for claim in OWN_CLAIMS for name in claims.own_claim(claim).sources]
    return [
        f"{RESULTS}/{kind}/{name}.csv"
        for name in dict.fromkeys(behind)
        for kind in ["figures" if claims.is_figure(name) else "tables"]
        if name in {*FIGURES, *CELLS_OF, "overview"}
    ]


def with_analyses_of_users():
    """Paths of the cells that have an analysis of a user which their method can do."""
    return [path for path, analyses in ANALYSES.items() if any(each.code and not each.lacks for each in analyses)]


def digest_of_trials(planned):
    """A digest of what trials are, and of attempts at their data."""
    return short_digest(
        {path: [training_key(trial.cell), ATTEMPTS[trial.cell.dataset]] for path, trial in planned.items()}
    )


def requests():
    """Resources of what is to be sent to a cluster; jobs of cells that share one ask for the sum of their times."""
    remote = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    for shared in {workflow.dag.get_job_group(job) or job for job in remote}:
        parts = list(shared.jobs) if shared.is_group() else [shared]
        minutes_in_all = sum(part.resources.get("runtime", 0) for part in parts)
        yield {**dict(parts[0].resources.items()), "runtime": minutes_in_all}


def cells_due():
    """The cells that are to be trained or measured."""
    due = {str(path) for job in workflow.dag.needrun_jobs() if job.rule.name == "run_model" for path in job.output}
    return [cell for path, cell in CELLS.items() if str(RUNS[path].metrics_file) in due]


def slots_for(cells):
    """How many cells are worked on at a time."""
    return max(1, workflow.cores // threads_here(None)) if workflow.local_exec else max(1, len(cells))


def dry_run(jobs):
    """What a dry run says in place of Snakemake, whose jobs by rule are given."""
    asked = cells_asked_for()
    paths, due = {cell.path for cell in asked}, cells_due()
    shown = {**CELLS_OF, "overview": CELLS_COMPARED}
    waited_for = {name: {cell.path for cell in cells_waited_for(cells, SETTINGS)} for name, cells in shown.items()}
    shown = {
        name: [cell for cell in cells if cell.path in paths]
        for name, cells in shown.items()
        if cells and waited_for[name] <= paths
    }
    if "draw_figure" in jobs:
        drawn = {path for figure in FIGURES for path in planned_for(figure)}
        shown["figures"] = [cell for cell in asked if cell.path in drawn]
    reasons = Counter(why for job in workflow.dag.needrun_jobs() for why in workflow.dag.reason(job).get_names())
    return summary(Path(RESULTS), shown, asked, due, jobs, reasons, DURATIONS, slots_for(due))


PROGRESS = []  # of this call, once it runs


def report_progress():
    """Tell of every cell that is to be trained or measured when it is done."""
    due = cells_due()
    PROGRESS.append(Progress(due, Path(RESULTS) / "runs", DURATIONS, slots_for(due)))
    PROGRESS[0].start()


onstart:
    report_progress()
    if workflow.local_exec:
        schedule_at_once(workflow.scheduler)
    if workflow.executor_plugin.name == "slurm":
        check_requests(requests())
    if workflow.is_main_process and workflow.executor_plugin.name == "local":
        start_worker()
