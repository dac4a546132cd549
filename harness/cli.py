"""The ``harness`` command line: every rule of the workflow calls one of these verbs, so each step can be run by hand.

Errors that a user can mend are one line on standard error and exit code 1, or 3 where settings or arguments are wrong;
a run that ends in an expected way (unavailable data, divergence, time limit) exits 0 and says so in its
``status.json``. Imports that cost time happen in the verb that needs them.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import ConfigError, HarnessError, InterruptedMeasuringError
from harness.run_lock import alone_in

if TYPE_CHECKING:
    import torch

    from harness.config import Cell
    from harness.data import Dataset
    from harness.tables import PlannedCell

UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # of a folder, not of the program
STOPPED_BY_USER = (130, 143)  # shells' codes for SIGINT and SIGTERM
KILLED = 137  # that for SIGKILL, which the kernel sends when memory is at an end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code = options.verb(options) or 0
        sys.stdout.flush()
        return code
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SystemExit as error:  # of a method's code: no verb of ours ends like this
        found = f"sys.exit({error.code!r})"
        print(f"harness: expected a method that returns or raises an error, found {found}", file=sys.stderr)
        return 1
    except InterruptedMeasuringError as error:
        print(f"harness: {error}", file=sys.stderr)
        return STOPPED_BY_USER[1]
    except OSError as error:
        if error.errno not in UNUSABLE or not error.filename:
            raise
        print(f"harness: {error.filename}: expected a place to write to, found {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    datasets = _verb(verbs, "datasets", _datasets, "list the data sets, or fetch some into the cache")
    datasets.add_argument("--fetch", nargs="+", metavar="NAME", help="data sets to find, verify and cache")
    datasets.add_argument(
        "--record", type=Path, help="write what was found (one data set) to this file; not to find it is then no error"
    )
    datasets.add_argument("--attempt", default="0", help="word kept beside the record; a new one is a new try")

    _verb(verbs, "methods", _methods, "list the methods")

    verify = _verb(verbs, "verify", _verify, "compare a method with exact sums on small models")
    verify.add_argument("method", metavar="METHOD")
    verify.add_argument(
        "--allow-unchecked", action="store_true", help="exit with 0 although a capability could NOT be CHECKED"
    )

    new = _verb(verbs, "new-method", _new_method, "write a working method to start from, and its configuration")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--folder", type=Path, help="where to write (default: methods/ in a checkout, else here)")

    forget = _verb(verbs, "forget", _forget, "remove what other code of a method has trained, search trials as well")
    forget.add_argument("method", metavar="METHOD")
    forget.add_argument("--results", type=Path, help="folder of the run's results (default: results/PRESET)")
    forget.add_argument("--all", action="store_true", help="remove everything of the method, whichever code trained it")

    _verb(verbs, "settings", _settings, "print the merged settings as JSON")

    _verb(verbs, "snakefile", _snakefile, "print the path of the workflow, for `snakemake -s`")

    run = _verb(verbs, "run", _run_cell, "train one model, unless that is done, and measure it on the test set")
    _add_cell(run)
    _add_computing(run)
    _add_training(run)
    run.add_argument("--attempt", type=int, default=1, help="number of this try of one call, of several on a cluster")

    train = _verb(verbs, "train", _train, "train one model")
    _add_cell(train)
    _add_computing(train)
    _add_training(train)

    trial = _verb(verbs, "trial", _trial, "train one cell with settings that a search tries, for the validation set")
    _add_cell(trial)
    _add_computing(trial)
    _add_training(trial)
    trial.add_argument("--trial", required=True, metavar="NAME", help="such as learning_rate=0.01,training.l1=0")

    evaluate = _verb(verbs, "evaluate", _evaluate, "measure one trained model on the test set")
    _add_cell(evaluate)
    _add_computing(evaluate)

    failure = _verb(verbs, "record-failure", _record_failure, "note that a run crashed, in training or evaluation")
    _add_cell(failure)
    failure.add_argument("--data-record", type=Path, required=True, help="as for run")
    failure.add_argument("--exit-code", type=int, required=True)
    failure.add_argument("--attempt", type=int, default=1, help="as for run")
    failure.add_argument("--log", type=Path, help="where the crash is told")

    _add_results(verbs)

    return parser


def _add_results(verbs: Any) -> None:
    """Verbs that make something of what was trained."""
    tables = _verb(verbs, "tables", _tables, "gather all measurements and render Tables 3.1, 3.2, 3.3 and 4.1")
    tables.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    tables.add_argument("--metrics", type=Path, required=True, help="metrics.parquet to write")
    tables.add_argument("--output", type=Path, required=True, help="folder for the tables")

    searches = _verb(verbs, "searches", _searches, "gather what the trials of all searches came to")
    searches.add_argument("--trials", type=Path, required=True, help="folder with the trials")
    searches.add_argument("--output", type=Path, required=True, help="csv to write")

    analyse = _verb(verbs, "analyse", _analyse, "do the analyses that the settings ask of one trained model")
    _add_cell(analyse)
    _add_computing(analyse)

    figure = _verb(verbs, "figure", _figure, "draw one figure from the analyses of all runs")
    figure.add_argument("figure", metavar="FIGURE", help="figure_3_3 or the like")
    figure.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    figure.add_argument("--output", type=Path, required=True, help="folder for the figure")

    report = _verb(verbs, "report", _report, "gather all tables and figures in one HTML file")
    report.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    report.add_argument("--figures", type=Path, required=True, nargs="*", help="PNG files; captions lie beside them")
    report.add_argument("--output", type=Path, required=True, help="report.html to write")

    check = _verb(verbs, "check", _check, "compare a run with the thesis and with an earlier run, number by number")
    check.add_argument("run", type=Path, metavar="A", help="folder of a run's results, or its metrics.parquet")
    check.add_argument(
        "earlier", type=Path, nargs="?", metavar="B", help="an earlier run (default: the published one of this preset)"
    )
    check.add_argument("--strict", action="store_true", help="an error too where ours is worse than the thesis")
    check.add_argument("--output", type=Path, help="folder for the tables and the plot (default: A/check)")

    publish = _verb(verbs, "publish", _publish, "copy what is kept in git of a run to results/published/PRESET")
    publish.add_argument("--results", type=Path, help="folder of the run's results (default: results/PRESET)")
    publish.add_argument("--output", type=Path, help="folder to fill (default: results/published/PRESET)")
    publish.add_argument("--add", action="store_true", help="keep published cells that this run has not")

    bench = _verb(verbs, "bench", _bench, "measure speed and memory beside other implementations")
    bench.add_argument("--cases", nargs="+", metavar="CASE", help="some of harness/bench/cases.py, or scaling")
    bench.add_argument("--long", action="store_true", help="with the cases that take minutes")
    bench.add_argument("--quick", action="store_true", help="a few calls each: does it work?")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    bench.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    bench.add_argument("--output", type=Path, help="folder for the results (default: results/bench)")


def _verb(verbs: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=function)
    parser.add_argument("--preset", help="smoke, quick, long or full (default: that of the settings)")
    parser.add_argument(
        "--settings",
        default="{}",
        metavar="FILE|JSON",
        help="your settings, laid over workflows/config.yaml and the preset",
    )
    return parser


def _add_cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--seed", type=int, default=0, help="repetition")
    parser.add_argument("--run", type=Path, help="folder of the run (default: results/PRESET/runs/...)")


def _add_computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 ... (default: that of the settings)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number is another training")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-record", type=Path, help="what `datasets --record` wrote; unavailable data end the run")
    parser.add_argument("--digest", help="stop unless the cell has this training digest (digest-v2: and version 2)")


def _load_settings(options: argparse.Namespace) -> dict[str, Any]:
    from harness.config import read_settings
    from harness.settings_check import Source
    from harness.settings_text import parse_settings, read_yaml

    text = options.settings
    if text.lstrip().startswith("{"):
        given = [Source("--settings", parse_settings(text, "--settings"))]
    else:
        given = [Source(text, read_yaml(Path(text)))]
    if options.preset:
        given.append(Source("--preset", {"preset": options.preset}))
    return read_settings(given)


def _cell(options: argparse.Namespace, settings: dict[str, Any]) -> tuple[Cell, Path]:
    from harness.config import resolve
    from harness.method_code import training_key

    cell = resolve(settings, options.dataset, options.method, options.variant, options.seed)
    digest = getattr(options, "digest", None)
    if digest and digest != (found := training_key(cell)):
        raise ConfigError(f"{cell.path}: expected training digest {digest}, found {found}")
    return cell, options.run or _results(settings) / "runs" / cell.path


def _results(settings: dict[str, Any]) -> Path:
    """Where the results of a preset lie."""
    from harness.places import ROOT

    return ROOT / "results" / settings["preset"]


def _datasets(options: argparse.Namespace) -> int:
    from harness.config import data_settings
    from harness.data import describe

    settings = _load_settings(options)
    if not options.fetch:
        from tabulate import tabulate

        print(tabulate(describe(data_settings(settings)), headers="keys", maxcolwidths=40))
        return 0
    if options.record and len(options.fetch) > 1:
        raise ConfigError(f"--record: expected one data set, found {len(options.fetch)}")
    for name in options.fetch:
        try:
            record = _fetch(name, settings)
        except HarnessError as error:
            if settings["strict"] or not options.record:
                raise
            print(f"harness: {name}: unavailable: {error}", file=sys.stderr)
            record = {"name": name, "available": False, "message": str(error)}
        if options.record:
            from harness.records import write_json
            from harness.workflow import attempts_file

            write_json(attempts_file(options.record), {"attempt": options.attempt})
            write_json(options.record, record)
    return 0


def _fetch(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Fetch one data set; what is known of it."""
    from harness.config import data_settings
    from harness.data import fetch

    data = fetch(name, data_settings(settings))
    rows = {split: len(getattr(data, split)) for split in ("train", "valid", "test")}
    status = "official" if data.status.official else f"stand-in: {data.status.note}"
    print(f"{name}: {rows}, {data.n_features} columns, {status} (from {data.origin})", file=sys.stderr)
    return {
        "name": name,
        "available": True,
        "digest": data.digest,
        "n_features": data.n_features,
        "rows": rows,
        "official": data.status.official,
        "note": data.status.note,
    }


def _methods(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    from harness.listing import listed
    from harness.registry import method_names, origin

    _load_settings(options)
    rows, broken = [], []
    for name in method_names():
        try:
            found = listed(name)
        except HarnessError as error:
            broken.append(f"{name} ({origin(name)}): {error}")
        else:
            rows.append((name, found.title, found.kind, ", ".join(found.capabilities), found.source, origin(name)))
    headers = ("name", "title", "kind", "capabilities", "source", "found")
    print(tabulate(rows, headers, maxcolwidths=[None, None, None, 40, 50, None]))
    for text in broken:
        print(f"harness: method {text}", file=sys.stderr)
    return int(bool(broken))


def _verify(options: argparse.Namespace) -> int:
    import torch
    from tabulate import tabulate

    from harness.verify import summary, verify

    _load_settings(options)
    torch.set_num_threads(1)
    results = list(verify(options.method))
    rows = [(result.check, result.verdict, result.detail) for result in results]
    print(tabulate(rows, headers=("check", "verdict", "found"), maxcolwidths=(None, None, 90)))
    print(f"\n{options.method}: {summary(results)}")
    bad = {"failed"} if options.allow_unchecked else {"failed", "NOT CHECKED"}
    return int(any(result.verdict in bad for result in results))


def _new_method(options: argparse.Namespace) -> int:
    from harness.new_method import METHODS, write_new_method
    from harness.places import CHECKOUT

    _load_settings(options)
    written = write_new_method(options.name, options.folder)
    here, built_in = Path.cwd(), written[0].parent == METHODS
    code, settings = (path.relative_to(here) if path.is_relative_to(here) else path for path in written)
    print(f"wrote {code}, a small method that works, and {settings}, its configuration; next:")
    print(f"  harness verify {options.name}" + ("" if built_in else f" --settings {settings}"))
    snakemake = "snakemake" if CHECKOUT else 'snakemake -s "$(harness snakefile)"'
    print(f"  {snakemake} --cores 8 tables figures --configfile {settings}")
    return 0


def _forget(options: argparse.Namespace) -> int:
    from harness.forget import forget

    settings = _load_settings(options)
    results = options.results or _results(settings)
    removed = forget(results, options.method, options.all)
    for folder in removed:
        print(f"removed {folder}")
    if not removed:
        print(f"{results}: nothing of {options.method}" + " by other code" * (not options.all))
    return 0


def _settings(options: argparse.Namespace) -> int:
    print(json.dumps(_load_settings(options), indent=2))
    return 0


def _snakefile(options: argparse.Namespace) -> int:
    from harness.places import SNAKEFILE

    print(SNAKEFILE)
    return 0


@contextlib.contextmanager
def _computing(options: argparse.Namespace, settings: dict[str, Any], idle: bool = False) -> Iterator[torch.device]:
    """torch made ready, and the device to compute on, which is ours until the block ends; the CPU when ``idle``."""
    gc.disable()  # most of torch's million objects stay: looking for garbage among them takes longer than it saves
    import torch

    gc.freeze()
    gc.enable()

    from harness import gpu_slots
    from harness.precision import choose_float32_products

    torch.set_num_threads(options.threads)
    choose_float32_products()
    wanted = "cpu" if idle else options.device or settings["device"]
    with gpu_slots.acquire(wanted, settings["gpu"]["slots_per_device"]) as name:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device: expected auto, cpu, cuda, cuda:1 ..., found {name!r}") from error
        if device.type == "cuda":
            torch.cuda.set_device(device)
        yield device


def _run_cell(options: argparse.Namespace) -> int:
    """Train and measure in one process: importing torch takes longer than the work of a small cell."""
    from harness import runs

    settings = _load_settings(options)
    cell, run = _cell(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    if runs.killed_at_last(run, options.attempt) and not settings["strict"]:
        trained = data is not None and runs.is_trained(run, cell, data.digest, options.threads)
        _fail(cell, run, settings, f"killed in {options.attempt - 1} tries, as for want of memory", trained)
        return 0
    runs.forget_crashes(run, options.attempt, succeeded=False)
    with alone_in(run), _computing(options, settings, idle=data is None) as device:
        if data is not None and runs.is_trained(run, cell, data.digest, options.threads):
            print(f"{cell.path}: was trained before", file=sys.stderr)
            _tell_of_other_code(cell, run)
        elif data is not None:
            trials = _results(settings) / "searches" / Path(cell.path).parent
            stopped = _train_model(cell, data, run, device, sorted(trials.glob("*")))
            if stopped:
                return stopped
        _measure_model(cell, data, run, device, settings["preset"])
    runs.forget_crashes(run, options.attempt, succeeded=True)
    return 0


def _train(options: argparse.Namespace) -> int:
    settings = _load_settings(options)
    cell, run = _cell(options, settings)
    data = _data_to_train_on(options, settings, cell, run)
    if data is None:
        return 0
    with alone_in(run), _computing(options, settings) as device:
        return _train_model(cell, data, run, device)


def _trial(options: argparse.Namespace) -> int:
    from harness import runs
    from harness.search import find_trial

    settings = _load_settings(options)
    trial = find_trial(settings, options.dataset, options.method, options.variant, options.trial)
    run = options.run or _results(settings) / "searches" / trial.path
    data = _data_to_train_on(options, settings, trial.cell, run)
    if data is None:
        return 0
    with alone_in(run):
        if runs.is_trained(run, trial.cell, data.digest, options.threads):
            _tell_of_other_code(trial.cell, run)
            return 0
        with _computing(options, settings) as device:
            return _train_model(trial.cell, data, run, device, [_results(settings) / "runs" / trial.cell.path])


def _data_to_train_on(options: argparse.Namespace, settings: dict[str, Any], cell: Cell, run: Path) -> Dataset | None:
    """The cell's data set; None, with a status that says so, where its record says that it cannot be had."""
    from harness import runs
    from harness.config import data_settings
    from harness.data import obtain

    record = runs.read_json(options.data_record) if options.data_record else {"available": True}
    if not record["available"]:
        runs.write_config(run, cell)
        runs.write_status(run, runs.UNAVAILABLE, record["message"])
        print(f"harness: {cell.path}: unavailable: {record['message']}", file=sys.stderr)
        return None
    return obtain(cell.dataset, data_settings(settings), record.get("digest"), options.data_record)


def _train_model(cell: Cell, data: Dataset, run: Path, device: torch.device, elsewhere: Sequence[Path] = ()) -> int:
    """Train, unless one of the folders ``elsewhere`` holds the same training: a trial may be what the grid has."""
    import torch

    from harness import runs
    from harness.training import InterruptedRunError, train

    threads = torch.get_num_threads()
    source = runs.training_to_copy(elsewhere, cell, data.digest, threads)
    if source:
        runs.copy_training(source, run, cell)
        print(f"{cell.path}: was trained before, in {source}", file=sys.stderr)
        return 0
    try:
        status = train(cell, data, run, device)
    except InterruptedRunError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 143
    print(f"{cell.path}: {status}", file=sys.stderr)
    return 0


def _tell_of_other_code(cell: Cell, run: Path) -> None:
    """Name a finished training that other code of the method made."""
    from harness import runs
    from harness.method_code import code_of

    if runs.is_by_other_code(runs.read_status(run), code_of(cell.method)):
        remedy = f"`harness forget {cell.method}` removes it"
        print(f"harness: {cell.path}: was trained by other code of {cell.method}; {remedy}", file=sys.stderr)


def _evaluate(options: argparse.Namespace) -> int:
    from harness import runs
    from harness.config import data_settings
    from harness.data import obtain

    settings = _load_settings(options)
    cell, run = _cell(options, settings)
    data, status = None, runs.status_of(run, cell)
    if status["status"] in runs.HAVE_MODEL:
        data = obtain(cell.dataset, data_settings(settings), status.get("data_digest"), run / "status.json")
        _tell_of_other_code(cell, run)
    with alone_in(run), _computing(options, settings, idle=data is None) as device:
        _measure_model(cell, data, run, device, settings["preset"])
    return 0


def _measure_model(cell: Cell, data: Dataset | None, run: Path, device: torch.device, preset: str) -> None:
    from harness.evaluation import evaluate

    for row in evaluate(run, cell, data, device, preset):
        if row["value"] is not None:
            sem = "" if row["sem"] is None else f" +- {row['sem']:.4f}"
            print(f"{cell.path}: {row['metric']} = {row['value']:.4f}{sem}", file=sys.stderr)
        elif row["metric"]:
            print(f"{cell.path}: {row['metric']}: {row['status']}: {row['message']}", file=sys.stderr)


def _record_failure(options: argparse.Namespace) -> int:
    """Make a crash a status that the tables render; a stop that the user asked for, or has to act on, stays a stop."""
    if options.exit_code in STOPPED_BY_USER:
        return options.exit_code
    if options.exit_code == ConfigError.exit_code:
        print(f"{options.dataset}/{options.method}: {_last_error(options.log) or 'wrong settings'}")
        return options.exit_code
    from harness import runs

    settings = _load_settings(options)
    if settings["strict"]:
        return options.exit_code
    cell, run = _cell(options, settings)
    trained = runs.is_trained(run, cell, runs.read_json(options.data_record).get("digest"))
    message = f"{'evaluation' if trained else 'training'} ended with exit code {options.exit_code}" + (
        f", see {options.log}" if options.log else ""
    )
    runs.count_crash(run, message, options.attempt if options.exit_code == KILLED else None)
    _fail(cell, run, settings, message, trained)
    return 0


def _fail(cell: Cell, run: Path, settings: dict[str, Any], message: str, trained: bool) -> None:
    """Make the run one that failed, in training or, where that is done, in the evaluation."""
    from harness import runs
    from harness.evaluation import record_failure

    print(f"harness: {cell.path}: failed: {message}", file=sys.stderr)
    if not trained:
        runs.write_config(run, cell)
        runs.write_status(run, runs.FAILED, message)
    record_failure(run, cell, settings["preset"], message)


def _last_error(log: Path | None) -> str:
    """The last line in which this program told of an error; '' without one."""
    if log is None or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("harness: ")), "")


def _tables(options: argparse.Namespace) -> int:
    from harness import per_row
    from harness.collect import read_metrics, write_metrics
    from harness.config import cells
    from harness.seals import seal
    from harness.tables import write_tables

    settings = _load_settings(options)
    planned = cells(settings)
    metrics = read_metrics(planned, options.runs)
    rows = options.metrics.with_name(per_row.FILE)
    per_row.gather(planned, options.runs, rows)
    write_metrics(metrics, options.metrics)
    written = write_tables(metrics, _models(planned, settings), settings["preset"], options.output)
    seal("tables", [options.metrics, *([rows] if rows.is_file() else []), *written])
    print(*written, sep="\n")
    return 0


def _models(planned: Sequence[Cell], settings: dict[str, Any]) -> list[PlannedCell]:
    """What tables have cells for: repetitions of a cell are one model, and ablations are in figures alone."""
    from harness.config import is_ablation
    from harness.tables import PlannedCell

    of_tables = (cell for cell in planned if not is_ablation(settings, cell))
    return list(dict.fromkeys(PlannedCell(cell.dataset, cell.method, cell.variant) for cell in of_tables))


def _searches(options: argparse.Namespace) -> int:
    from harness.seals import seal
    from harness.search import trials, write_findings

    settings = _load_settings(options)
    found = write_findings(trials(settings), options.trials, options.output)
    seal("searches", [options.output])
    print(f"{options.output}: {len(found)} trials")
    return 0


def _analyse(options: argparse.Namespace) -> int:
    from harness import runs
    from harness.analyses.perform import analyse_cell
    from harness.analyses.plan import analyses_of
    from harness.config import data_settings
    from harness.data import obtain

    settings = _load_settings(options)
    cell, run = _cell(options, settings)
    planned = analyses_of(settings, cell)
    status = runs.status_of(run, cell)

    def load() -> Dataset:
        return obtain(cell.dataset, data_settings(settings), status.get("data_digest"), run / "status.json")

    with alone_in(run), _computing(options, settings, idle=status["status"] not in runs.HAVE_MODEL) as device:
        found = analyse_cell(run, cell, planned, load, device, settings["strict"])
    for name, how in found.items():
        print(f"{cell.path}: {name}: {how['status']} {how['message']}".rstrip(), file=sys.stderr)
    return 0


def _figure(options: argparse.Namespace) -> int:
    from harness.config import cells
    from harness.figures.write import write_figure
    from harness.seals import seal

    settings = _load_settings(options)
    written = write_figure(options.figure, settings, cells(settings), options.runs, options.output)
    seal(options.figure, written)
    print(*written, sep="\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from harness.collect import read_metrics
    from harness.config import cells
    from harness.report import write_report
    from harness.seals import check_seal, seal

    settings = _load_settings(options)
    planned = cells(settings)
    metrics = read_metrics(planned, options.runs)
    for path in options.figures:
        for part in (path, path.with_suffix(".rst"), path.with_suffix(".csv")):
            check_seal(part)
    write_report(metrics, _models(planned, settings), settings["preset"], options.figures, options.output)
    seal("report", [options.output])
    print(options.output)
    return 0


def _check(options: argparse.Namespace) -> int:
    from harness.check import write_check
    from harness.check.rules import Rules

    rules = Rules.from_settings(_load_settings(options))
    home = options.run if options.run.is_dir() else options.run.parent
    outcome = write_check(options.run, options.earlier, options.output or home / "check", rules)
    print("\n".join(outcome.lines()))
    return int(outcome.regressions > 0 or (options.strict and outcome.worse_than_thesis > 0))


def _publish(options: argparse.Namespace) -> int:
    from harness.config import cells
    from harness.places import ROOT
    from harness.publish import publish

    settings = _load_settings(options)
    results = options.results or _results(settings)
    folder = options.output or ROOT / "results" / "published" / settings["preset"]
    planned = cells(settings)
    for path in publish(planned, _models(planned, settings), settings, results, folder, options.add):
        print(path)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from harness.bench import run
    from harness.config import data_settings
    from harness.places import ROOT

    plan = run.plan(options.cases, options.long, options.quick, options.device, options.threads)
    agree = run.bench(plan, data_settings(_load_settings(options)), options.output or ROOT / "results" / "bench")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
