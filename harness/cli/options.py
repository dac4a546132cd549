"""The part that verbs have in common: options, the settings and the cell that they name, and the device."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.compute.imports import without_looks_for_garbage
from harness.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from harness.compute.gpu_slots import Company
    from harness.settings.config import Cell
    from harness.storage.runs import RunFolder


def add_verb(verbs: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=function)
    parser.add_argument("--preset", help="smoke, quick, long or full (default: that of the settings)")
    parser.add_argument(
        "--settings",
        default="{}",
        metavar="FILE|JSON",
        help="your settings, applied on top of workflows/config.yaml and the preset",
    )
    return parser


def add_cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--seed", type=int, default=0, help="repetition")
    parser.add_argument("--run", type=Path, help="folder of the run (default: results/PRESET/runs/...)")


def add_computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 ... (default: that of the settings)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number gives a different training")


def add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-record", type=Path, help="written by `datasets --record`; unavailable data end the run")
    parser.add_argument("--digest", help="stop unless the cell has this training digest (DIGEST-v2: by version 2)")


def load_settings(options: argparse.Namespace, further: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of the command line, with ``further`` ones on top."""
    from harness.settings.check import Source
    from harness.settings.config import read_settings
    from harness.settings.datasets import anchored
    from harness.settings.text import parse_settings, read_yaml

    text = options.settings
    if text.lstrip().startswith("{"):
        given = [Source("--settings", parse_settings(text, "--settings"))]
    else:
        given = [Source(text, anchored(read_yaml(Path(text)), Path(text).parent))]
    if options.preset:
        given.append(Source("--preset", {"preset": options.preset}))
    if further:
        given.append(Source("command line", further))
    return read_settings(given)


def cell_of(options: argparse.Namespace, settings: dict[str, Any]) -> tuple[Cell, RunFolder]:
    """The cell that the options name, and the folder of its run."""
    from harness.settings.config import resolve
    from harness.storage.method_code import training_key
    from harness.storage.runs import RunFolder

    cell = resolve(settings, options.dataset, options.method, options.variant, options.seed)
    digest = getattr(options, "digest", None)
    if digest and digest != (found := training_key(cell)):
        raise ConfigError(f"{cell.path}: expected training digest {digest}, found {found}")
    return cell, RunFolder(options.run or results_of(settings) / "runs" / cell.path)


def results_of(settings: dict[str, Any]) -> Path:
    """The folder of the results of a preset, or of the name that the settings give them."""
    from harness.compute.places import ROOT
    from harness.settings.asked import results_name

    return ROOT / "results" / results_name(settings)


def runs_of(options: argparse.Namespace, settings: dict[str, Any]) -> Path:
    """The folder with the runs of all cells: where ``--run`` says that this one lies, if it is among them."""
    run = options.run
    if run is not None and len(run.parents) > 4 and run.parents[3].name in ("runs", "searches"):
        return run.parents[4] / "runs"
    return results_of(settings) / "runs"


@contextlib.contextmanager
def computing(
    options: argparse.Namespace, settings: dict[str, Any], idle: bool = False, company: Company | None = None
) -> Iterator[torch.device]:
    """torch made ready, and the device to compute on, which is ours until the block ends; the CPU when ``idle``.

    company: of jobs that share a slot of a GPU.
    """
    with without_looks_for_garbage():
        importlib.import_module("harness.api.experiment")
        gc.freeze()

    from harness.compute.computing import on_device

    wanted = "cpu" if idle else options.device or settings["device"]
    with on_device(wanted, settings["gpu"]["slots_per_device"], options.threads, company) as device:
        yield device
