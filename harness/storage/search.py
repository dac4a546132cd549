"""Hyperparameters, tried on the validation set: the trials that the settings ask for, and their results.

``searches`` of the settings maps a method to data sets, ``DATASET/VARIANT`` or groups, and these to axes, each with
the values of one setting: ``training.KEY`` or ``model.KEY``, or ``learning_rate``, the rate of the first phase, to
which the other phases keep their ratio. Values of ``training.schedule`` are whole ones (see
``harness.settings.schedule``), and trials are named by the phases that they stand for, as with ``training.phases``.
``finer`` holds further combinations, a list of axes that replace the values of the same name: those around the best so
far. ``updates``, a number, shortens all trials: the phases together have as many, in their proportion; as an axis of
``finer`` it does so to these alone. A trial is one combination of the values, laid over the cell of the grid. Trials
of a cell differ in these values alone: same rows, same order, same initial weights. Nothing of a trial is measured on
the test set. What won is for a person to write into the preset; the table of findings says whether that was done. A
trial that is what the grid has, at full length, is the same training: where the one was made, the other copies it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import atomic
from harness.errors import ConfigError
from harness.settings.check import BUDGET, FINER, LEARNING_RATE
from harness.settings.config import Cell, canonical_json, cells_named, resolve, specific_entries, variant_folder
from harness.settings.parts import Phase, Training
from harness.settings.schedule import axes_in_phases
from harness.storage.method_code import VERSION, MethodCode, key_of_version, training_key
from harness.storage.runs import RunFolder

if TYPE_CHECKING:  # the workflow plans trials without pandas
    import pandas as pd

LONGEST_NAME = 200  # bytes of a trial's folder; file systems take 255, with what temporary files add
COLUMNS = ("dataset", "method", "variant", "trial", "status", "validation_loss", "sem", "n_updates", "best_update")
FOUND = ("status", "validation_loss", "sem", "n_updates", "best_update", "train_seconds", "device", "git_commit")


@dataclass(frozen=True)
class Trial:
    """One combination of values (axis -> value), and the cell that has them.

    ``chosen``: so has the grid's; of several lengths of these, the grid's own, or the longest where none has that.
    """

    cell: Cell
    values: Mapping[str, Any]
    chosen: bool

    @property
    def name(self) -> str:
        """The values in the form of a file name: ``learning_rate=0.01,training.l1=0``."""
        parts = (f"{axis}={_word(value)}" for axis, value in self.values.items())
        return ",".join(parts)

    @property
    def path(self) -> str:
        """DATASET/METHOD/VARIANT/TRIAL, the folder of the trial below ``searches/``."""
        return f"{Path(self.cell.path).parent}/{self.name}"


def trials(settings: Mapping[str, Any]) -> list[Trial]:
    """All trials that the settings ask for, in the order of the configuration; repetition 0 of each cell.

    Raises ConfigError for a cell that is not in the grid, or a setting that does not exist.
    """
    found = []
    for method, dataset, variant in cells_named(settings, "searches"):
        if _is_taken_out(settings, dataset, method, variant):
            continue
        entry = specific_entries(settings, "searches", dataset, method, variant)
        found += _trials_of(resolve(settings, dataset, method, variant), entry)
    return found


def _is_taken_out(settings: Mapping[str, Any], dataset: str, method: str, variant: str) -> bool:
    """Whether a null in the grid says that there is no such cell, for which a preset may have a search."""
    entries, key = settings["grid"].get(method) or {}, f"{dataset}/{variant}" if variant else dataset
    groups = [group for group, members in settings["groups"].items() if key in members]
    named = next((name for name in (key, *groups) if name in entries), None)  # the most specific entry decides
    return named is not None and entries[named] is None


def _trials_of(cell: Cell, entry: Mapping[str, Any]) -> list[Trial]:
    axes = axes_in_phases({axis: values for axis, values in entry.items() if axis not in (BUDGET, FINER)})
    if not axes:
        raise ConfigError(f"searches: {cell.path}: expected axes besides {BUDGET} and {FINER}, found none")
    grids = [axes, *({**axes, **axes_in_phases(finer)} for finer in entry.get(FINER, ()))]
    found: dict[str, Trial] = {}
    for values in itertools.chain.from_iterable(map(_combinations, grids)):
        changed = cell
        for axis, value in values.items():
            changed = changed if axis == BUDGET else _changed(changed, axis, value)
        updates = values.get(BUDGET, entry.get(BUDGET))
        trial = Trial(_shortened(changed, updates) if updates else changed, values, chosen=changed == cell)
        found.setdefault(trial.name, trial)
    for name in found:
        if len(name.encode()) > LONGEST_NAME:
            raise ConfigError(f"searches: {cell.path}: expected values that make a shorter name, found {name}")
    lengths = [_length(trial.cell) for trial in found.values() if trial.chosen]
    chosen = _length(cell) if _length(cell) in lengths else max(lengths, default=0)
    return [replace(trial, chosen=trial.chosen and _length(trial.cell) == chosen) for trial in found.values()]


def _combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _changed(cell: Cell, axis: str, value: Any) -> Cell:
    part, _, key = axis.partition(".")
    if axis == LEARNING_RATE and cell.training.phases:
        first = cell.training.phases[0].learning_rate
        phases = tuple(
            replace(phase, learning_rate=float(f"{phase.learning_rate * value / first:.6g}"))
            for phase in cell.training.phases
        )
        return replace(cell, training=replace(cell.training, phases=phases))
    values = cell.to_dict()
    of_training = [field.name for field in fields(Training)]
    if part == "training" and key in of_training:
        return replace(cell, training=Training.from_dict({**values["training"], key: value}))
    if part == "model" and key in values["model"]:
        return replace(cell, model={**values["model"], key: value})
    known = [LEARNING_RATE, *(f"training.{name}" for name in of_training)]
    known += [f"model.{name}" for name in values["model"]]
    raise ConfigError(f"searches: {cell.path}: expected axes out of {', '.join(known)}, found {axis!r}")


def _length(cell: Cell) -> int:
    return sum(phase.updates for phase in cell.training.phases)


def _shortened(cell: Cell, updates: int) -> Cell:
    """``updates`` in all, as the phases of the cell share them."""
    total = _length(cell)
    phases = tuple(_of_length(phase, max(1, round(phase.updates * updates / total))) for phase in cell.training.phases)
    return replace(cell, training=replace(cell.training, phases=phases))


def _of_length(phase: Phase, updates: int) -> Phase:
    """The phase with other updates, of which as large a part is its warm-up."""
    return replace(phase, updates=updates, warm_up=phase.warm_up * updates // phase.updates)


def _word(value: Any) -> str:
    """A value as part of a file name; of a phase: 4000x0.01x10, its updates, learning rate, samples and what else."""
    if isinstance(value, Mapping):
        phase = [key for key in (field.name for field in fields(Phase)) if key in value]
        return "x".join(_word(value[key]) for key in (phase if value.keys() == set(phase) else sorted(value)))
    return "-".join(map(_word, value)) if isinstance(value, list | tuple) else f"{value}".replace("/", "_")


def find_trial(
    settings: Mapping[str, Any], dataset: str, method: str, variant: str, name: str, further: Iterable[Trial] = ()
) -> Trial:
    """The trial of this name among those of the searches and the ``further`` ones.

    Raises ConfigError for one that the settings do not ask for.
    """
    cell = f"{dataset}/{method}/{variant_folder(variant)}"
    planned = itertools.chain(trials(settings), further)
    found = {trial.name: trial for trial in planned if str(Path(trial.path).parent) == cell}
    if name not in found:
        raise ConfigError(f"trial: {cell}: expected one of {', '.join(found) or 'none at all'}, found {name}")
    return found[name]


def findings(planned: Iterable[Trial], folder: Path, earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per trial that lies below ``folder``: its best validation loss (nats per row), ranked within its cell.

    ``sem`` is over the validation rows, which all trials share: differences between trials are better known than that.
    ``chosen``: the grid has these values. ``earlier``: findings that have the trials that are not below ``folder``, by
    their digests and the versions of their methods; of several, the last. Where they have none of this version, one of
    another does.
    Raises DataError for a trial that is in neither, or is another's.
    """
    import pandas as pd

    former = [] if earlier is None else earlier.to_dict("records")
    known = {row["training_digest"]: row for row in former} | {_key_of(row): row for row in former}
    rows = []
    for trial in planned:
        run = RunFolder(folder / trial.path)
        kept = None if run.status_file.exists() else _known(known, trial.cell)
        row = {"dataset": trial.cell.dataset, "method": trial.cell.method, "variant": trial.cell.variant}
        row |= {"trial": trial.name, "chosen": trial.chosen}
        row |= {key: kept.get(key) for key in (*FOUND, VERSION)} if kept else _found(trial, run)
        row |= {
            "values": canonical_json(dict(trial.values)),
            "training": canonical_json(trial.cell.to_dict()["training"]),
            "training_digest": trial.cell.training_digest,
        }
        rows.append(row)
    frame = pd.DataFrame(rows)
    if frame.empty:
        return pd.DataFrame(columns=[*COLUMNS, "rank"])
    frame["rank"] = frame.groupby(["dataset", "method", "variant"])["validation_loss"].rank(method="first")
    return frame[[*COLUMNS, "rank", *(column for column in frame if column not in (*COLUMNS, "rank"))]]


def _known(known: Mapping[str, Any], cell: Cell) -> Any:
    return known.get(training_key(cell)) or known.get(cell.training_digest)


def _key_of(row: Mapping[str, Any]) -> str:
    """``training_key`` of an earlier finding."""
    return key_of_version(row["training_digest"], MethodCode.recorded_in(row).version)


def _found(trial: Trial, run: RunFolder) -> dict[str, Any]:
    """FOUND and the version of the method, of a trial in its folder."""
    status = run.status_of(trial.cell)
    loss = status.get("best_validation")
    found = {"validation_loss": math.nan if loss is None else loss, "sem": _sem(run, status)}
    return {key: found.get(key, status.get(key)) for key in (*FOUND, VERSION)}


def _sem(run: RunFolder, status: Mapping[str, Any]) -> float:
    if status.get("best_update") is None or not run.curve_file.exists():
        return math.nan
    import pandas as pd

    curve = pd.read_csv(run.checked(run.curve_file, status))
    at = curve[(curve["update"] == status["best_update"]) & curve["best"]]
    return math.nan if at.empty else float(at["valid_sem"].iloc[-1])


def write_findings(
    planned: Iterable[Trial], folder: Path, path: Path, earlier: pd.DataFrame | None = None
) -> pd.DataFrame:
    """``findings`` as csv."""
    frame = findings(planned, folder, earlier)
    atomic.write(path, lambda temporary: frame.to_csv(temporary, index=False))
    return frame
