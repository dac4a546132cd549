"""What a call of the workflow says on the terminal."""

import io
import json
import logging
import os
import time
from dataclasses import replace

import pytest
from cells import cell

from harness.cli import dry_run, terminal
from harness.storage.records import write_json
from harness.storage.runs import RunFolder


class Second:
    """Every cell takes a second."""

    def seconds(self, cell):
        return 1.0


ROWS = [
    {"metric": "-log p~*", "value": 13.5, "sem": 0.1, "seconds": 1.0, "train_seconds": 80.0, "status": "ok"},
    {"metric": "ess p", "value": 0.5, "sem": 0.1, "seconds": 1.0, "train_seconds": 80.0, "status": "ok"},  # with it
    {"metric": "-log p", "value": 13.271, "sem": 0.018, "seconds": 0.4, "train_seconds": 80.0, "status": "ok"},
]


def measure(folder, cell, rows):
    write_json(RunFolder(folder / cell.path).metrics_file, {"rows": rows})


def test_every_cell_gets_a_line_when_it_is_measured(tmp_path):
    out, due = io.StringIO(), [replace(cell("nade"), seed=seed) for seed in range(3)]
    measure(tmp_path, due[2], ROWS)  # by an earlier call
    os.utime(RunFolder(tmp_path / due[2].path).metrics_file, (0, 0))
    progress = terminal.Progress(due, tmp_path, Second(), 2, out)
    progress.look()
    assert out.getvalue() == ""
    measure(tmp_path, due[0], ROWS)
    progress.look()
    progress.look()
    assert out.getvalue() == "[1/3] patterns/nade -log p 13.27 ± 0.02, 81 s, less than a minute left\n"
    measure(tmp_path, due[1], [{"metric": None, "status": "failed", "message": "why", "train_seconds": 0.0}])
    measure(tmp_path, due[2], [{"metric": "error", "value": 0.1394, "sem": 0.0031, "status": "ok"}])
    progress.end()
    progress.end()
    assert out.getvalue().splitlines()[1:] == [
        "[2/3] patterns/nade/seed 1 failed, less than a minute left",
        "[3/3] patterns/nade/seed 2 error 0.139 ± 0.003",
    ]


def test_the_time_left_grows_with_what_was_measured_here(tmp_path):
    out, due = io.StringIO(), [replace(cell("nade"), seed=seed) for seed in range(5)]
    progress = terminal.Progress(due, tmp_path, Second(), 2, out)
    progress._begin = time.time() - 60.0  # a cell a minute beside another, of which four are left
    measure(tmp_path, due[0], ROWS)
    progress.look()
    assert out.getvalue().endswith("about 5 min left\n") or out.getvalue().endswith("about 4 min left\n")


def test_a_file_that_is_being_written_or_damaged_is_passed_over(tmp_path):
    out, due = io.StringIO(), [cell("nade")]
    path = RunFolder(tmp_path / due[0].path).metrics_file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rows": ROWS})[:40])
    progress = terminal.Progress(due, tmp_path, Second(), 1, out)
    progress._begin -= 10.0
    progress.look()
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("event", "level", "text", "shown"),
    [
        ("job_info", logging.INFO, "rule run_model", False),
        ("progress", logging.INFO, "1 of 2 steps", False),
        ("job_error", logging.ERROR, "Error in rule run_model", True),
        ("run_info", logging.INFO, "Job stats", True),
        (None, logging.INFO, "Select jobs to execute...", False),
        (None, logging.INFO, "Nothing to be done", True),
        (None, logging.WARNING, "a warning", True),
    ],
)
def test_lines_about_jobs_go_to_the_log_alone(tmp_path, event, level, text, shown):
    logger, screen = logging.Logger("snakemake-like"), io.StringIO()
    logger.addHandler(logging.StreamHandler(screen))
    logger.addHandler(logging.FileHandler(tmp_path / "log"))
    terminal.hush(logger)
    logger.log(level, text, extra={"event": event} if event else {})
    assert (text in screen.getvalue()) == shown
    assert text in (tmp_path / "log").read_text()


def test_the_end_says_where_everything_is(tmp_path):
    assert terminal.what_was_made(["tables"], tmp_path) == []
    for name in ("tables/table_3_1.md", "tables/table_4_1.md", "metrics.parquet", "report.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    both = f"tables: {tmp_path}/tables/table_3_1.md {tmp_path}/tables/table_4_1.md"
    measured = f"measurements: {tmp_path}/metrics.parquet"
    assert terminal.what_was_made(["tables"], tmp_path) == [both, measured]
    assert terminal.what_was_made(["table_4_1"], tmp_path) == [f"tables: {tmp_path}/tables/table_4_1.md"]
    assert terminal.what_was_made([], tmp_path) == [both, f"report: {tmp_path}/report.html", measured]


def test_cells_beyond_the_thesis_that_nobody_asked_for_are_told():
    planned = [cell("nade"), cell("vimco"), cell("rws")]
    assert terminal.what_is_left(["tables"], planned, planned[:1]) == [
        "left out: 2 cells beyond the thesis; `snakemake overview` or `all` adds their rows"
    ]
    assert terminal.what_is_left(["table_3_1"], planned, planned[:2])[0].startswith("left out: 1 cell beyond")
    assert terminal.what_is_left(["tables"], planned, planned) == terminal.what_is_left(["train"], planned, []) == []


def test_a_dry_run_says_what_is_done_and_to_do_on_a_screen(tmp_path):
    cells = [replace(cell(method), seed=seed) for method in ("nade", "bihm") for seed in range(3)]
    shown = {"table_3_1": cells[:3], "overview": cells}
    jobs, reasons = {"run_model": 4, "tables": 1, "total": 5}, {"params have changed": 4, dry_run.FOLLOWS: 2}
    lines = dry_run.summary(tmp_path, shown, cells, cells[2:], jobs, reasons, Minutes(), 2)
    assert max(map(len, lines)) <= dry_run.WIDTH + len(str(tmp_path))
    assert lines[0] == f"{tmp_path}: 4 of 6 cells to train or measure, about 4 min with 2 jobs at once"
    assert [line.split() for line in lines[2:5]] == [
        ["for", "cells", "done", "to", "do", "time"],
        ["table_3_1", "3", "2", "1", "about", "2", "min"],
        ["overview", "6", "2", "4", "about", "4", "min"],
    ]
    assert "cells to do: nade 1, bihm 3" in lines
    assert "jobs: run_model 4, tables 1, total 5" in lines
    assert "why: params have changed 4" in lines
    nothing = dry_run.summary(tmp_path, {}, cells, [], {"tables": 1}, {}, Minutes(), 1)
    assert nothing[:2] == [f"{tmp_path}: 0 of 6 cells to train or measure", "jobs: tables 1"]


class Minutes:
    """Every cell takes two minutes."""

    def seconds(self, cell):
        return 120.0


def test_in_a_dry_run_the_summary_stands_in_place_of_what_snakemake_says_of_jobs():
    logger, screen, out = logging.Logger("snakemake-like"), io.StringIO(), io.StringIO()
    logger.addHandler(logging.StreamHandler(screen))
    terminal.hush(logger, dry_run.InPlaceOfJobs(lambda jobs: [f"in all {jobs['total']}"], out))
    logger.info("Workflow has started!", extra={"event": "workflow_started"})
    logger.info("Building DAG of jobs...")
    for _ in range(2):  # at the beginning and at the end
        logger.info("Job stats", extra={"event": "run_info", "stats": {"run_model": 3, "total": 3}})
    logger.info("Reasons:")
    logger.warning("a warning")
    assert screen.getvalue() == "Building DAG of jobs...\na warning\n"
    assert out.getvalue() == "in all 3\n"
