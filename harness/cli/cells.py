"""Verbs for one cell: train it, measure it, analyse it, note that it failed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
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
    runs_of,
)
from harness.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from harness.data import Dataset
    from harness.settings.config import Cell
    from harness.storage.runs import RunFolder
    from harness.worker.company import Company

STOPPED_BY_USER = (130, 143)  # shells' codes for SIGINT and SIGTERM
KILLED = 137  # that for SIGKILL, which the kernel sends when memory is at an end


def add(verbs: Any) -> None:
    """Verbs for one cell."""
    run = add_verb(verbs, "run", _run_cell, "train one model unless it is trained, and measure it on the test set")
    add_cell(run)
    add_computing(run)
    add_training(run)
    run.add_argument("--attempt", type=int, default=1, help="number of this attempt in one call; clusters make several")
    run.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="N repetitions, from --seed on, trained side by side in one process",
    )

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
    if options.seeds != 1:
        return _run_repetitions(options, settings)
    cell, run = cell_of(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    _check_threads(options, cell, data, run)
    if run.crashes.killed_at_last(options.attempt) and not settings["strict"]:
        trained = data is not None and run.is_trained(cell, data.digest, options.threads)
        _fail(cell, run, settings, f"killed in {options.attempt - 1} attempts, probably for lack of memory", trained)
        return 0
    run.crashes.forget(options.attempt, succeeded=False)
    with run.alone():
        stopped = _train_and_measure(options, settings, cell, data, run)
    if stopped:
        return stopped
    run.crashes.forget(options.attempt, succeeded=True)
    if options.run is None:  # by hand, without the workflow, whose terminal has a line for every cell
        from harness.cli.show import measured

        print(f"{cell.path}: {run}", *measured(run), sep="\n")
    return 0


def _train_and_measure(
    options: argparse.Namespace, settings: dict[str, Any], cell: Cell, data: Dataset | None, run: RunFolder
) -> int:
    """The exit code of a training that was asked to end, else 0; in company where a slot of a GPU is shared."""
    company = _company(options, settings, run) if data is not None else None
    elsewhere = results_of(settings) / "searches" / Path(cell.path).parent
    while True:
        with computing(options, settings, idle=data is None, company=company) as device:
            from harness.api.experiment import measure  # after torch, which is loaded in a way of its own

            if data is not None:
                tried = sorted(elsewhere.glob("*"))
                stopped = _train_model(cell, data, run, device, runs_of(options, settings), tried, company=company)
                if stopped is None:
                    continue
                if stopped:
                    return stopped
            measure(cell, data, run, device, settings["preset"])
            return 0


def _company(options: argparse.Namespace, settings: dict[str, Any], run: RunFolder) -> Company | None:
    """Of jobs that are alike in all but the cell; None where slots are not shared."""
    from harness.compute.gpu_slots import means_gpu, visible_gpus

    n, device = settings["gpu"]["stack"], options.device or settings["device"]
    if n == 1 or sys.platform != "linux" or not means_gpu(device, visible_gpus()):
        return None
    from harness.training.together import Asked
    from harness.worker.company import Company
    from harness.worker.identity import identity

    names = ("dataset", "method", "variant", "seed", "digest")
    request = {name: getattr(options, name) for name in names}
    request |= {"run": str(run.path), "data_record": str(options.data_record) if options.data_record else None}
    alike = [identity(os.environb), os.getcwd(), options.settings, options.preset, device, options.threads]

    def asked_of(found: Mapping[str, Any]) -> Asked:
        record = found["data_record"] and Path(found["data_record"])
        others = argparse.Namespace(**{**found, "run": Path(found["run"]), "data_record": record})
        cell, run = cell_of(others, settings)
        return Asked(cell, _data_to_train_on(others, settings, cell, run), run.path)

    return Company(n, request, hashlib.sha256(repr(alike).encode()).hexdigest(), asked_of)


def _run_repetitions(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Train repetitions of a cell side by side, each in its own folder, and measure one after the other."""
    if options.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, found {options.seeds}")
    if options.run or options.digest:
        raise ConfigError(f"--seeds: expected no {'--run' if options.run else '--digest'}, which is of one repetition")
    found = []
    for seed in range(options.seed, options.seed + options.seeds):
        cell, run = cell_of(argparse.Namespace(**{**vars(options), "seed": seed}), settings)
        data = _data_to_train_on(options, settings, cell, run)
        _check_threads(options, cell, data, run)
        found.append((cell, run, data))
    idle = all(data is None for _, _, data in found)
    with contextlib.ExitStack() as stack:
        for _, run, _ in found:
            stack.enter_context(run.alone())
        device = stack.enter_context(computing(options, settings, idle=idle))
        wanted = [(cell, data, run) for cell, run, data in found if data is not None]
        outcomes = _train_models(wanted, device, runs_of(options, settings))
        for cell, run, data in found:
            if isinstance(outcomes.get(run.path, ""), str):
                from harness.api.experiment import measure
                from harness.cli.show import measured

                measure(cell, data, run, device, settings["preset"])
                print(f"{cell.path}: {run}", *measured(run), sep="\n")
    return _exit_code([each for each in outcomes.values() if not isinstance(each, str)])


def _train_models(
    wanted: Sequence[tuple[Cell, Dataset, RunFolder]], device: torch.device, runs: Path
) -> dict[Path, str | BaseException]:
    """How the training in each folder ended; what one raised is reported."""
    from harness.api.experiment import train_together_unless_done
    from harness.errors import HarnessError
    from harness.training.together import Asked
    from harness.training.train import InterruptedRunError

    outcomes = train_together_unless_done([Asked(cell, data, run.path) for cell, data, run in wanted], device, runs)
    for (cell, _, _), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, InterruptedRunError):
            print(f"harness: {outcome}", file=sys.stderr)
        elif isinstance(outcome, HarnessError):
            print(f"harness: {cell.path}: {outcome}", file=sys.stderr)
        elif not isinstance(outcome, str):
            traceback.print_exception(outcome)
    return {run.path: outcome for (_, _, run), outcome in zip(wanted, outcomes, strict=True)}


def _exit_code(errors: Sequence[BaseException]) -> int:
    """That of the worst: a stop, which is asked for again; then what has to be mended."""
    from harness.training.train import InterruptedRunError

    if any(isinstance(error, InterruptedRunError) for error in errors):
        return STOPPED_BY_USER[1]
    return max((getattr(error, "exit_code", 1) for error in errors), default=0)


def _train(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    cell, run = cell_of(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    if data is None:
        return 0
    with run.alone(), computing(options, settings) as device:
        return _train_model(cell, data, run, device, runs_of(options, settings), again=True)


def _trial(options: argparse.Namespace) -> int:
    from harness.settings.config import cells
    from harness.storage import starts
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
    _check_threads(options, trial.cell, data, run)
    with run.alone():
        trained = run.is_trained(trial.cell, data.digest, options.threads)
        if trained and starts.is_current(trial.cell, run, runs_of(options, settings)):
            run.name_other_code(trial.cell)
            return 0
        with computing(options, settings) as device:
            runs = runs_of(options, settings)
            stopped = _train_model(trial.cell, data, run, device, runs, [runs / trial.cell.path], again=True)
            if not stopped and LENGTH in trial.values and run.status()["status"] in HAVE_MODEL:
                # here, where several trials are at it, rather than when all are gathered
                validation_scores(trial.cell, lambda: data, run, device, settings["budget_trials"]["rows"])
            return stopped


def _data_to_train_on(
    options: argparse.Namespace, settings: dict[str, Any], cell: Cell, run: RunFolder
) -> Dataset | None:
    """The cell's data set; None, with a status that says so, where its record says that it cannot be obtained.

    As well where the cell that it starts from has ended without a model: it ends as that one did.
    """
    from harness.data import obtain
    from harness.settings.config import data_settings
    from harness.storage.records import read_json
    from harness.storage.runs import UNAVAILABLE
    from harness.storage.starts import end_of_source

    record = read_json(options.data_record) if options.data_record else {"available": True}
    lacking = (UNAVAILABLE, record["message"]) if not record["available"] else None
    lacking = lacking or end_of_source(cell, runs_of(options, settings))
    if lacking is not None:
        run.write_config(cell)
        run.write_status(*lacking)
        print(f"harness: {cell.path}: {': '.join(lacking)}", file=sys.stderr)
        return None
    return obtain(cell.dataset, data_settings(settings), record.get("digest"), options.data_record)


def _check_threads(options: argparse.Namespace, cell: Cell, data: Dataset | None, run: RunFolder) -> None:
    """By hand, a finished training is not replaced by one on other threads; the workflow says what lies where."""
    if options.data_record is None and data is not None:
        run.check_threads(cell, data.digest, options.threads)


def _train_model(
    cell: Cell,
    data: Dataset,
    run: RunFolder,
    device: torch.device,
    runs: Path,
    elsewhere: Sequence[Path] = (),
    again: bool = False,
    company: Company | None = None,
) -> int | None:
    """The exit code: training that was asked to end is no error of the settings or the model.

    None where company was lost on the way, and a place on the device with it.
    """
    from harness.api.experiment import train_unless_done
    from harness.training.train import InterruptedRunError

    try:
        if company is None:
            train_unless_done(cell, data, run, device, elsewhere, again, runs=runs)
            return 0
        from harness.worker.company import PlaceLostError

        with contextlib.suppress(PlaceLostError):
            train_unless_done(cell, data, run, device, elsewhere, again, how=company.train, runs=runs)
            return 0
        return None
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
