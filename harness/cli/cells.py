"""Verbs for one cell: train it, measure it, analyse it, note that it failed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import (
    add_cell,
    add_computing,
    add_training,
    add_verb,
    cell_of,
    computing,
    load_settings,
    results_of,
)
from harness.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from harness.data import Dataset
    from harness.settings.config import Cell
    from harness.storage.runs import RunFolder

STOPPED_BY_USER = (130, 143)  # shells' codes for SIGINT and SIGTERM
KILLED = 137  # that for SIGKILL, which the kernel sends when memory is at an end


def add(verbs: Any) -> None:
    """Verbs for one cell."""
    run = add_verb(verbs, "run", _run_cell, "train one model unless it is trained, and measure it on the test set")
    add_cell(run)
    add_computing(run)
    add_training(run)
    run.add_argument("--attempt", type=int, default=1, help="number of this attempt in one call; clusters make several")

    train = add_verb(verbs, "train", _train, "train one model")
    add_cell(train)
    add_computing(train)
    add_training(train)

    trial = add_verb(verbs, "trial", _trial, "train one trial of a search, to be compared on the validation set")
    add_cell(trial)
    add_computing(trial)
    add_training(trial)
    trial.add_argument("--trial", required=True, metavar="NAME", help="such as learning_rate=0.01,training.l1=0")

    evaluate = add_verb(verbs, "evaluate", _evaluate, "measure one trained model on the test set")
    add_cell(evaluate)
    add_computing(evaluate)

    failure = add_verb(verbs, "record-failure", _record_failure, "record that a run crashed in training or evaluation")
    add_cell(failure)
    failure.add_argument("--data-record", type=Path, required=True, help="as for run")
    failure.add_argument("--exit-code", type=int, required=True)
    failure.add_argument("--attempt", type=int, default=1, help="as for run")
    failure.add_argument("--log", type=Path, help="log file of the crash")

    analyse = add_verb(verbs, "analyse", _analyse, "run the analyses that the settings request for one trained model")
    add_cell(analyse)
    add_computing(analyse)


def _run_cell(options: argparse.Namespace) -> int:
    """Train and measure in one process: importing torch takes longer than the work of a small cell."""
    settings = load_settings(options)
    cell, run = cell_of(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    if run.crashes.killed_at_last(options.attempt) and not settings["strict"]:
        trained = data is not None and run.is_trained(cell, data.digest, options.threads)
        _fail(cell, run, settings, f"killed in {options.attempt - 1} attempts, probably for lack of memory", trained)
        return 0
    run.crashes.forget(options.attempt, succeeded=False)
    with run.alone(), computing(options, settings, idle=data is None) as device:
        from harness.api.experiment import measure  # after torch, which is loaded in a way of its own

        if data is not None:
            trials = results_of(settings) / "searches" / Path(cell.path).parent
            stopped = _train_model(cell, data, run, device, sorted(trials.glob("*")))
            if stopped:
                return stopped
        measure(cell, data, run, device, settings["preset"])
    run.crashes.forget(options.attempt, succeeded=True)
    if options.run is None:  # by hand, without the workflow, whose terminal has a line for every cell
        from harness.cli.show import measured

        print(f"{cell.path}: {run}", *measured(run), sep="\n")
    return 0


def _train(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    cell, run = cell_of(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    if data is None:
        return 0
    with run.alone(), computing(options, settings) as device:
        return _train_model(cell, data, run, device, again=True)


def _trial(options: argparse.Namespace) -> int:
    from harness.settings.config import cells
    from harness.storage.budgets import LENGTH, budget_trials
    from harness.storage.runs import HAVE_MODEL, RunFolder
    from harness.storage.search import find_trial
    from harness.training.scores import validation_scores

    settings = load_settings(options)
    further = budget_trials(settings, cells(settings))
    trial = find_trial(settings, options.dataset, options.method, options.variant, options.trial, further)
    run = RunFolder(options.run or results_of(settings) / "searches" / trial.path)
    data = _data_to_train_on(options, settings, trial.cell, run)
    if data is None:
        return 0
    with run.alone():
        if run.is_trained(trial.cell, data.digest, options.threads):
            run.name_other_code(trial.cell)
            return 0
        with computing(options, settings) as device:
            cell_of_grid = results_of(settings) / "runs" / trial.cell.path
            stopped = _train_model(trial.cell, data, run, device, [cell_of_grid], again=True)
            if not stopped and LENGTH in trial.values and run.status()["status"] in HAVE_MODEL:
                # here, where several trials are at it, rather than when all are gathered
                validation_scores(trial.cell, lambda: data, run, device, settings["budget_trials"]["rows"])
            return stopped


def _data_to_train_on(
    options: argparse.Namespace, settings: dict[str, Any], cell: Cell, run: RunFolder
) -> Dataset | None:
    """The cell's data set; None, with a status that says so, where its record says that it cannot be obtained."""
    from harness.data import obtain
    from harness.settings.config import data_settings
    from harness.storage.records import read_json
    from harness.storage.runs import UNAVAILABLE

    record = read_json(options.data_record) if options.data_record else {"available": True}
    if not record["available"]:
        run.write_config(cell)
        run.write_status(UNAVAILABLE, record["message"])
        print(f"harness: {cell.path}: unavailable: {record['message']}", file=sys.stderr)
        return None
    return obtain(cell.dataset, data_settings(settings), record.get("digest"), options.data_record)


def _train_model(
    cell: Cell,
    data: Dataset,
    run: RunFolder,
    device: torch.device,
    elsewhere: Sequence[Path] = (),
    again: bool = False,
) -> int:
    """The exit code: training that was asked to end is no error of the settings or the model."""
    from harness.api.experiment import train_unless_done
    from harness.training.train import InterruptedRunError

    try:
        train_unless_done(cell, data, run, device, elsewhere, again)
    except InterruptedRunError as error:
        print(f"harness: {error}", file=sys.stderr)
        return STOPPED_BY_USER[1]
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from harness.data import obtain
    from harness.settings.config import data_settings
    from harness.storage.runs import HAVE_MODEL

    settings = load_settings(options)
    cell, run = cell_of(options, settings)
    data, status = None, run.status_of(cell)
    if status["status"] in HAVE_MODEL:
        data = obtain(cell.dataset, data_settings(settings), status.get("data_digest"), run.status_file)
        run.name_other_code(cell)
    with run.alone(), computing(options, settings, idle=data is None) as device:
        from harness.api.experiment import measure

        measure(cell, data, run, device, settings["preset"])
    return 0


def _analyse(options: argparse.Namespace) -> int:
    from harness.data import obtain
    from harness.evaluation.perform import analyse_cell
    from harness.evaluation.plan import analyses_of
    from harness.settings.config import data_settings
    from harness.storage.runs import HAVE_MODEL

    settings = load_settings(options)
    cell, run = cell_of(options, settings)
    planned = analyses_of(settings, cell)
    status = run.status_of(cell)

    def load() -> Dataset:
        return obtain(cell.dataset, data_settings(settings), status.get("data_digest"), run.status_file)

    with run.alone(), computing(options, settings, idle=status["status"] not in HAVE_MODEL) as device:
        found = analyse_cell(run.path, cell, planned, load, device, settings["strict"])
    for name, how in found.items():
        print(f"{cell.path}: {name}: {how['status']} {how['message']}".rstrip(), file=sys.stderr)
    return 0


def _record_failure(options: argparse.Namespace) -> int:
    """Make a crash a status that the tables render; a stop that the user asked for, or has to act on, stays a stop."""
    if options.exit_code in STOPPED_BY_USER:
        return options.exit_code
    if options.exit_code == ConfigError.exit_code:
        print(f"{options.dataset}/{options.method}: {_last_error(options.log) or 'wrong settings'}")
        return options.exit_code
    from harness.storage.records import read_json

    settings = load_settings(options)
    if settings["strict"]:
        return options.exit_code
    cell, run = cell_of(options, settings)
    trained = run.is_trained(cell, read_json(options.data_record).get("digest"))
    message = f"{'evaluation' if trained else 'training'} ended with exit code {options.exit_code}" + (
        f", see {options.log}" if options.log else ""
    )
    run.crashes.add(message, options.attempt if options.exit_code == KILLED else None)
    _fail(cell, run, settings, message, trained)
    return 0


def _fail(cell: Cell, run: RunFolder, settings: dict[str, Any], message: str, trained: bool) -> None:
    """Make the run one that failed, in training or, where that is done, in the evaluation."""
    from harness.evaluation.evaluate import record_failure
    from harness.storage.runs import FAILED

    print(f"harness: {cell.path}: failed: {message}", file=sys.stderr)
    if not trained:
        run.write_config(cell)
        run.write_status(FAILED, message)
    record_failure(run.path, cell, settings["preset"], message)


def _last_error(log: Path | None) -> str:
    """The last line in which this program reported an error; '' without one."""
    if log is None or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("harness: ")), "")
