"""Configuration: read once at the edge, checked against a schema, resolved into frozen cells.

Settings are ``workflows/config.yaml``, overlaid by ``workflows/presets/PRESET.yaml``, overlaid by what the user gives
(Snakemake's ``--config`` and ``--configfile``, or ``harness --settings``); ``harness.settings.text`` reads all, and
``harness.settings.check`` refuses what no cell could be trained with. A *cell* is one model to train: a data set, a
method, a variant and a repetition. ``grid`` says which cells exist and their architectures, ``budgets`` what a preset
spends on them; both map a method to ``DATASET``, ``DATASET/VARIANT``, a group of data sets or ``*``, and the more
specific entry wins, key by key. How long training takes, at which learning rates, is a list of ``phases`` or, in
short, a ``schedule`` (see ``harness.settings.schedule``): an entry has one of them, which replaces the other in more
general entries, in ``defaults`` and in what a preset says in the same place. ``ablations`` has further cells in the
form of the grid, which are compared with each other alone: they are in no table, only the analyses of ablations look
at them (see ``harness.evaluation.analyses``), and with a method that is taken out of the grid they go as well.
``searches`` tries settings on the validation set (see ``harness.storage.search``). Everything that is chosen about a
trained model is in its :class:`Cell`, and nothing else is; how it is computed, which decides its last bits, is in
``harness.compute.computing``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.compute.places import ROOT, WORKFLOWS
from harness.errors import ConfigError
from harness.plugins.analyses import use_analyses
from harness.plugins.claims import use_claims
from harness.plugins.datasets import use_dataset_files
from harness.plugins.figures import use_figures
from harness.plugins.metrics import codes as metric_codes
from harness.plugins.metrics import use_metrics
from harness.plugins.names import variant_folder
from harness.plugins.registry import use_files
from harness.plugins.tables import use_tables
from harness.plugins.versions import version_of
from harness.schema import check
from harness.settings.asked import NamedCell, check_name, chosen, with_updates
from harness.settings.check import (
    ANY,
    Checker,
    Source,
    cell_faults,
    cell_schema,
    depth,
    merged,
    merged_sources,
    source_of,
)
from harness.settings.datasets import (
    about_data,
    anchored,
    data_settings,  # noqa: F401 part of what this module offers
    dataset_files,
    spelt_out,
    with_cell_of_suite,
)
from harness.settings.parts import LATER, Evaluation, StartFrom, Training
from harness.settings.schedule import OPTIONS, in_phases, without_defaults
from harness.settings.start import START_FROM, in_words, named_cell, start_faults
from harness.settings.text import dotted, plain, read_yaml

# sections that name plugins, in an order in which each may be about those before it
PLUGINS: dict[str, Callable[[Iterable[str]], None]] = {
    "metrics": use_metrics,
    "analyses": use_analyses,
    "tables": use_tables,
    "figures": use_figures,
    "claims": use_claims,
}


@dataclass(frozen=True)
class Cell:
    """One model to train and measure; ``model`` holds the hyperparameters of the method.

    data_digest: of the content of a data set that is not in the catalogue; '' for one that is, or was never seen.
    """

    dataset: str
    method: str
    variant: str
    seed: int
    model: Mapping[str, Any]
    training: Training
    evaluation: Evaluation
    data_digest: str = ""

    @property
    def path(self) -> str:
        """DATASET/METHOD/VARIANT/SEED, the folder of the run below ``runs/``."""
        return f"{self.dataset}/{self.method}/{variant_folder(self.variant)}/{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        training = without_defaults(values["training"], LATER)
        training["phases"] = tuple(without_defaults(phase, OPTIONS) for phase in training["phases"])
        if not self.data_digest:  # cells of the catalogue's data sets are as they were before there were others
            del values["data_digest"]
        if not self.evaluation.metrics:  # as before users could have any
            del values["evaluation"]["metrics"]
        return {**values, "training": training}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """From what ``to_dict`` gave; raises ConfigError for anything else."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if {"data_digest", *values} != fields:
            raise ConfigError(f"cell: expected keys {sorted(fields)}, found {sorted(values)}")
        check(values["training"], cell_schema("training"), "cell: training")
        training, evaluation = Training.from_dict(values["training"]), Evaluation.from_dict(values["evaluation"])
        return cls(**{**values, "training": training, "evaluation": evaluation})

    @property
    def training_digest(self) -> str:
        """sha256 of all that decides the trained weights; two cells of one digest train the same model.

        With the same code of the method, that is: see ``harness.storage.method_code``.
        """
        return hashlib.sha256(canonical_json(self.training_values()).encode()).hexdigest()

    def training_values(self) -> dict[str, Any]:
        """What of ``to_dict`` decides the trained weights."""
        values = self.to_dict()
        del values["evaluation"], values["training"]["checkpoint_every_s"], values["training"]["snapshots"]
        return values


def canonical_json(value: Any) -> str:
    """One line, sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def presets() -> list[str]:
    """Names of the presets that exist."""
    return sorted(path.stem for path in (WORKFLOWS / "presets").glob("*.yaml"))


def load_settings(overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The merged settings, checked; from here on, the methods in the files that they name are known.

    ``overrides`` is the user's part; its ``preset`` chooses the preset. Raises ConfigError that names the key.
    """
    return read_settings([Source("settings", plain(overrides or {}, "settings"))])


def read_settings(given: Sequence[Source]) -> dict[str, Any]:
    """``load_settings`` for a user's part in several pieces, later ones on top of earlier ones.

    Raises ConfigError that names piece, key, what was expected and what was found.
    """
    base = Source("workflows/config.yaml", read_yaml(WORKFLOWS / "config.yaml"))
    asked = next(source for source in [*reversed(given), base] if "preset" in source.values)
    preset = asked.values["preset"]
    if preset not in presets():
        raise ConfigError(f"{asked.name}: preset: expected one of {', '.join(presets())}, found {preset!r}")
    path = f"presets/{preset}.yaml"
    here = [source._replace(values=anchored(source.values, Path())) for source in given]  # of no file, as --config
    sources = [base, Source(f"workflows/{path}", read_yaml(WORKFLOWS / path)), *here]
    about = Checker(about_data(sources), sources, whole=False).about_data()
    with _told_of("datasets", sources):
        use_dataset_files(dataset_files(about))
    sources = spelt_out(sources, about)
    checker = Checker(merged_sources(sources), sources)
    with _told_of("methods", sources):
        use_files(method_files(checker.settings))
    for key, use in PLUGINS.items():
        with _told_of(key, sources):
            use(checker.settings[key])
    settings = checker.entries()
    with _told_of("name", sources):
        check_name(settings.get("name"), presets())
    with _told_of("only", sources):
        chosen([*cells_named(settings, "grid"), *cells_named(settings, "ablations")], settings)
    _check_cells(settings, sources, checker.hyperparameters)
    return settings


@contextlib.contextmanager
def _told_of(key: str, sources: Sequence[Source]) -> Iterator[None]:
    """Errors in the block name the source that has the key."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{source_of((key,), sources)}: {error}") from error


def method_files(settings: Mapping[str, Any]) -> tuple[Path, ...]:
    """Files with methods that the settings name; relative ones count from ``harness.compute.places.ROOT``."""
    return tuple(ROOT / Path(path).expanduser() for path in settings["methods"])


def cells(settings: Mapping[str, Any]) -> list[Cell]:
    """The cells of grid and ablations that are asked for, every repetition, in the order of the configuration.

    With them, those that they start from.
    """
    ablations = cells_named(settings, "ablations")
    known = [*cells_named(settings, "grid"), *ablations]
    found: dict[NamedCell, list[Cell]] = {}
    due = list(filter(chosen(known, settings), known))
    while due:
        named = due.pop()
        if named in found:
            continue
        method, dataset, variant = named
        first, repetitions = _resolved(settings, dataset, method, variant, ablations)
        found[named] = [_repetition(settings, first, seed, ablations) for seed in range(repetitions)]
        sources = (cell.training.start_from for cell in found[named])
        due += [(each.method, each.dataset, each.variant) for each in sources if each is not None]
    return [cell for named in known for cell in found.get(named, ())]


def is_ablation(settings: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a cell is one of the ablations."""
    return (cell.method, cell.dataset, cell.variant) in cells_named(settings, "ablations")


def chosen_analyses(settings: Mapping[str, Any], cell: Cell) -> list[str] | None:
    """Names of the analyses that entries of the cell ask for; None for all that there are."""
    ablations = cells_named(settings, "ablations")
    return _merged_entries(settings, cell.dataset, cell.method, cell.variant, ablations).get("analyses")


def cells_named(settings: Mapping[str, Any], section: str) -> dict[tuple[str, str, str], str]:
    """(method, data set, variant) of all cells that a section in the form of the grid has -> the key that brings it."""
    groups = settings["groups"]
    seen: dict[tuple[str, str, str], str] = {}
    for method, entries in settings[section].items():
        if not settings["grid"].get(method):
            continue
        # null takes out what an earlier file put in, and a data set from its group
        given = {key: entry for key, entry in (entries or {}).items() if entry is not None}
        for key, name in itertools.chain.from_iterable(((k, n) for n in groups.get(k, [k])) for k in given):
            if name in given or name not in (entries or {}):
                dataset, _, variant = name.partition("/")
                seen.setdefault((method, dataset, variant), key)
    return seen


def _merged_entries(
    settings: Mapping[str, Any], dataset: str, method: str, variant: str, ablations: Iterable[tuple[str, str, str]]
) -> dict[str, Any]:
    """Everything that applies to a cell, general to specific: defaults, then grid, then ablations, then budgets."""
    of_ablations = (method, dataset, variant) in ablations
    values = settings["defaults"]
    for section in ("grid", *(["ablations"] if of_ablations else []), "budgets"):
        values = merged(values, specific_entries(settings, section, dataset, method, variant))
    return values


def specific_entries(
    settings: Mapping[str, Any], section: str, dataset: str, method: str, variant: str
) -> dict[str, Any]:
    """What one section says of a cell, general to specific."""
    entries = settings[section].get(method) or {}
    values: dict[str, Any] = {}
    for name in _names_of(settings, dataset, variant):
        values = merged(values, entries.get(name) or {})
    return values


def resolve(settings: Mapping[str, Any], dataset: str, method: str, variant: str = "", seed: int = 0) -> Cell:
    """The cell of this name, with everything that applies to it; one that the grid does not have may be in the suite.

    ``variant`` may be its name or that of its folder. Raises ConfigError for a cell that the settings do not have.
    """
    ablations = cells_named(settings, "ablations")
    known = [*cells_named(settings, "grid"), *ablations]
    chosen = [v for m, d, v in known if (m, d, variant_folder(v)) == (method, dataset, variant_folder(variant))]
    if not chosen and variant_folder(variant) == variant_folder(""):
        of_suite = with_cell_of_suite(settings, method, dataset)
        if of_suite is not None:
            return resolve(of_suite, dataset, method, variant, seed)
    if not chosen:
        existing = ", ".join(f"{m}/{d}/{variant_folder(v)}" for m, d, v in known)
        asked = f"{method}/{dataset}/{variant_folder(variant)}"
        raise ConfigError(f"cell {asked}: expected method/data set/variant out of {existing}")
    cell, _ = _resolved(settings, dataset, method, chosen[0], ablations)
    return _repetition(settings, cell, seed, ablations)


def _repetition(settings: Mapping[str, Any], first: Cell, seed: int, ablations: Iterable[tuple[str, str, str]]) -> Cell:
    """A repetition of a cell whose first one is given."""
    if first.training.start_from is None:
        return dataclasses.replace(first, seed=seed)
    return _resolved(settings, first.dataset, first.method, first.variant, ablations, seed)[0]


def _resolved(
    settings: Mapping[str, Any],
    dataset: str,
    method: str,
    variant: str,
    ablations: Iterable[tuple[str, str, str]],
    seed: int = 0,
) -> tuple[Cell, int]:
    """A cell, and how often it is trained: ``seeds``, else what its entries say, else ``repetitions``."""
    values = _merged_entries(settings, dataset, method, variant, ablations)
    training = with_updates(in_phases(values["training"]), settings.get("updates"))
    training[START_FROM] = start_of(settings, training.get(START_FROM), seed)
    cell = Cell(
        dataset=dataset,
        method=method,
        variant=variant,
        seed=seed,
        model=values.get("model", {}),
        training=Training.from_dict(training),
        evaluation=Evaluation(**values["evaluation"], metrics=metric_codes(settings["metrics"], method)),
        data_digest=(settings["data"]["known"].get(dataset) or {}).get("digest", ""),
    )
    return cell, _repetitions(settings, values)


def _repetitions(settings: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    return settings.get("seeds") or values.get("repetitions", settings["repetitions"])


def _entries_of(settings: Mapping[str, Any], cell: NamedCell, ablations: Iterable[NamedCell]) -> dict[str, Any]:
    """Everything that applies to a cell, with ``repetitions`` as often as it is trained."""
    method, dataset, variant = cell
    values = _merged_entries(settings, dataset, method, variant, ablations)
    return {**values, "repetitions": _repetitions(settings, values)}


def start_of(settings: Mapping[str, Any], word: str | None, seed: int) -> dict[str, Any] | None:
    """What a training of this repetition begins with: the cell that a word names, in the form of ``StartFrom``.

    The same repetition of it, or its first one where it has fewer. Raises ConfigError for a cell that the settings do
    not have.
    """
    if word is None:
        return None
    ablations = cells_named(settings, "ablations")
    method, dataset, variant = named_cell(word, [*cells_named(settings, "grid"), *ablations])
    first, repetitions = _resolved(settings, dataset, method, variant, ablations)
    source = _repetition(settings, first, seed if seed < repetitions else 0, ablations)
    found = StartFrom(method, dataset, variant, source.seed, source.training_digest, version_of(method))
    return dataclasses.asdict(found)


def _check_cells(
    settings: dict[str, Any], sources: Sequence[Source], schema_of: Callable[[str], dict[str, Any] | None]
) -> None:
    """Raises ConfigError for two cells with one folder, and for one that is incomplete or cannot be trained."""
    grid, ablations = cells_named(settings, "grid"), cells_named(settings, "ablations")
    folders: dict[tuple[str, str, str], str] = {}
    started: list[NamedCell] = []
    for section, found in (("grid", grid), ("ablations", ablations)):
        for (method, dataset, variant), key in found.items():
            where = f"{source_of((section, method, key), sources)}: {section}.{method}.{key}"
            if section == "ablations" and (method, dataset, variant) in grid:
                raise ConfigError(f"{where}: expected a variant of its own, found {variant!r} in the grid as well")
            # file systems that do not tell capitals apart have one folder for both
            folder = (method, dataset, variant_folder(variant).casefold())
            if folder in folders:
                other = f"{variant_folder(variant)}, that of {folders[folder]!r}"
                raise ConfigError(f"{where}: expected a folder of its own, found {other}")
            folders[folder] = variant
            values = _merged_entries(settings, dataset, method, variant, ablations)
            for keys, fault in cell_faults(values, schema_of(method), method, dataset, settings["data"]["paths"]):
                path = _origin(settings, dataset, method, variant, keys) or (section, method, key, *keys)
                cell = "" if dataset in path else f"{dataset}: "
                raise ConfigError(f"{source_of(path, sources)}: {dotted(path)}: {cell}{fault}")
            if values["training"].get(START_FROM) is not None:
                started.append((method, dataset, variant))
    for named in started:
        for fault in start_faults(named, [*grid, *ablations], lambda each: _entries_of(settings, each, ablations)):
            method, dataset, variant = named
            path = _origin(settings, dataset, method, variant, ("training", START_FROM))
            raise ConfigError(f"{source_of(path, sources)}: {dotted(path)}: {in_words(named)}: {fault}")


def _origin(
    settings: Mapping[str, Any], dataset: str, method: str, variant: str, keys: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Where settings say what a cell has at ``keys``; None where no entry goes that far."""
    for section in ("budgets", "ablations", "grid"):
        entries = settings[section].get(method) or {}
        for name in reversed(_names_of(settings, dataset, variant)):
            if depth(entries.get(name), keys) == len(keys):
                return (section, method, name, *keys)
    return ("defaults", *keys) if depth(settings["defaults"], keys) == len(keys) else None


def _names_of(settings: Mapping[str, Any], dataset: str, variant: str) -> list[str]:
    """Under which names sections can have entries for a cell, general to specific."""
    groups = [group for group, members in settings["groups"].items() if dataset in members]
    return list(dict.fromkeys([ANY, *groups, dataset, f"{dataset}/{variant}" if variant else dataset]))
