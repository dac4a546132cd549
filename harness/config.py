"""Configuration: read once at the edge, checked against a schema, resolved into frozen cells.

Settings are ``workflows/config.yaml``, overlaid by ``workflows/presets/PRESET.yaml``, overlaid by what the user gives
(Snakemake's ``--config`` and ``--configfile``, or ``harness --settings``). A *cell* is one model to train: a data set,
a method, a variant and a repetition. ``grid`` says which cells exist and their architectures, ``budgets`` what a
preset spends on them; both map a method to ``DATASET``, ``DATASET/VARIANT``, a group of data sets or ``*``, and the
more specific entry wins. ``ablations`` has further cells in the form of the grid, which are compared with each other
alone: they are in no table, only the analyses of ablations look at them (see ``harness.analyses``), and with a method
that is taken out of the grid they go as well. ``searches`` tries settings on the validation set (see
``harness.search``). Everything that is chosen about a trained model is in its :class:`Cell`, and nothing else is; how
it is computed, which decides its last bits, is in ``harness.computing``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from harness.cache_folder import cache_folder
from harness.data import CATALOGUE, DataSettings
from harness.errors import ConfigError
from harness.registry import method_names
from harness.schema import check

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows"
ANY = "*"


@dataclass(frozen=True)
class Phase:
    """``updates`` steps of Adam at one learning rate with ``n_samples`` importance samples a row."""

    updates: int
    learning_rate: float
    n_samples: int


@dataclass(frozen=True)
class Labels:
    """How many training rows keep their label (equally many a class), and how many of these a batch holds."""

    rows: int
    per_batch: int


@dataclass(frozen=True)
class Training:
    """The budget of a training run.

    l1: the thesis' lambda, for gradients *summed* over a batch of ``batch_size``. validate_every: updates between two
    looks at ``validation_rows`` rows with ``validation_samples`` samples. patience: looks without improvement that
    end a phase. precision: auto, float32 or bfloat16, of matrix products in training (see ``harness.precision``).
    snapshots: how many sets of weights to keep on the way (see ``harness.snapshots``).
    """

    batch_size: int
    l1: float
    phases: tuple[Phase, ...]
    validate_every: int
    validation_rows: int
    validation_samples: int
    patience: int
    checkpoint_every_s: float
    time_limit_s: float | None
    precision: str
    labels: Labels | None
    snapshots: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Training:
        labels = values["labels"]
        phases = tuple(Phase(**phase) for phase in values["phases"])
        return cls(**{**values, "phases": phases, "labels": None if labels is None else Labels(**labels)})


@dataclass(frozen=True)
class Evaluation:
    """What is measured: importance samples a row, test rows (None: all), draws for Z.

    z_outer: independent draws. z_inner: work on each, inner samples or the temperatures of an annealed chain.
    """

    n_samples: int
    rows: int | None
    z_outer: int
    z_inner: int


@dataclass(frozen=True)
class Cell:
    """One model to train and measure; ``model`` holds the hyperparameters of the method."""

    dataset: str
    method: str
    variant: str
    seed: int
    model: Mapping[str, Any]
    training: Training
    evaluation: Evaluation

    @property
    def path(self) -> str:
        """DATASET/METHOD/VARIANT/SEED, the folder of the run below ``runs/``."""
        return f"{self.dataset}/{self.method}/{variant_folder(self.variant)}/{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """From what ``to_dict`` gave; raises ConfigError for anything else."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(values) != fields:
            raise ConfigError(f"cell: expected keys {sorted(fields)}, found {sorted(values)}")
        schema = _schema()["$defs"]
        for part in ("training", "evaluation"):
            check(values[part], {**schema[part], "$defs": schema}, f"cell: {part}")
        training, evaluation = Training.from_dict(values["training"]), Evaluation(**values["evaluation"])
        return cls(**{**values, "training": training, "evaluation": evaluation})

    @property
    def training_digest(self) -> str:
        """sha256 of all that decides the trained weights; two cells of one digest train the same model."""
        values = self.to_dict()
        del values["evaluation"], values["training"]["checkpoint_every_s"], values["training"]["snapshots"]
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """One line, sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def variant_folder(variant: str) -> str:
    """A variant's name in paths: ``default`` for '', blanks as underscores."""
    return variant.replace(" ", "_") or "default"


@cache
def _schema() -> dict[str, Any]:
    return json.loads(files("harness").joinpath("schemas/settings.json").read_text(encoding="utf-8"))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, mappings merged key by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


class _Loader(yaml.SafeLoader):
    """YAML in which 4e-05, as JSON writes it, is a number; YAML 1.1 wants a point as well, and takes it for a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML (or JSON) text. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; raises ConfigError that names the file."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML file, found {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping, found {type(value).__name__}")
    return value


def presets() -> list[str]:
    """Names of the presets that exist."""
    return sorted(path.stem for path in (WORKFLOWS / "presets").glob("*.yaml"))


def load_settings(overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The merged settings, checked against the schema.

    ``overrides`` is the user's part; its ``preset`` chooses the preset. Raises ConfigError that names the key.
    """
    overrides = overrides or {}
    base = read_yaml(WORKFLOWS / "config.yaml")
    preset = overrides.get("preset", base.get("preset"))
    if preset not in presets():
        raise ConfigError(f"preset: expected one of {', '.join(presets())}, found {preset!r}")
    settings = merged(merged(base, read_yaml(WORKFLOWS / "presets" / f"{preset}.yaml")), overrides)
    check(settings, _schema(), f"settings (preset {preset})")
    return settings


def data_settings(settings: Mapping[str, Any]) -> DataSettings:
    """Where data are looked for; relative folders count from the repository's root."""
    data = settings["data"]
    return DataSettings(
        cache=ROOT / Path(data["cache"]).expanduser() if data["cache"] else cache_folder(),
        mirrors=tuple(ROOT / Path(mirror).expanduser() for mirror in data["mirrors"]),
        download=data["download"],
        paths={name: ROOT / Path(path).expanduser() for name, path in data["paths"].items()},
        timeout_s=data["timeout_s"],
    )


def method_files(settings: Mapping[str, Any]) -> tuple[Path, ...]:
    """Files with methods that the settings name; relative ones count from the repository's root."""
    return tuple(ROOT / Path(path).expanduser() for path in settings["methods"])


def cells(settings: Mapping[str, Any]) -> list[Cell]:
    """All cells of the grid and of the ablations, every repetition, in the order of the configuration.

    Raises ConfigError for a key that names neither a data set nor a group, a method that does not exist, a cell that is
    both of the grid and of the ablations, or one without a complete budget.
    """
    _check_keys(settings)
    grid, ablations = cells_named(settings, "grid"), cells_named(settings, "ablations")
    _check_methods(settings)
    for method, dataset, variant in ablations:
        if (method, dataset, variant) in grid:
            raise ConfigError(f"ablations.{method}.{dataset}: expected a variant of its own, found {variant!r}")
    return [
        resolve(settings, dataset, method, variant, seed)
        for method, dataset, variant in [*grid, *ablations]
        for seed in range(_repetitions(settings, dataset, method, variant))
    ]


def is_ablation(settings: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a cell is one of the ablations."""
    return (cell.method, cell.dataset, cell.variant) in cells_named(settings, "ablations")


def chosen_analyses(settings: Mapping[str, Any], cell: Cell) -> list[str] | None:
    """Names of the analyses that entries of the cell ask for; None for all that there are."""
    return _merged_entries(settings, cell.dataset, cell.method, cell.variant).get("analyses")


def _repetitions(settings: Mapping[str, Any], dataset: str, method: str, variant: str) -> int:
    """How often a cell is trained: what its entries say, else ``repetitions`` of the settings."""
    return _merged_entries(settings, dataset, method, variant).get("repetitions", settings["repetitions"])


def cells_named(settings: Mapping[str, Any], section: str) -> dict[tuple[str, str, str], None]:
    """(method, data set, variant) of all cells that a section in the form of the grid has, in their order."""
    groups = settings["groups"]
    seen = {}
    for method, entries in settings[section].items():
        if not settings["grid"].get(method):
            continue
        # null takes out what an earlier file put in, and a data set from its group
        given = {key: entry for key, entry in (entries or {}).items() if entry is not None}
        for name in itertools.chain.from_iterable(groups.get(key, [key]) for key in given):
            if name in given or name not in (entries or {}):
                dataset, _, variant = name.partition("/")
                seen[method, dataset, variant] = None
    return seen


def _check_keys(settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for a key that names neither a data set nor a group."""
    groups = settings["groups"]
    for section in ("grid", "ablations", "searches", "budgets"):
        for method, entries in settings[section].items():
            for key in entries or {}:
                name = key.partition("/")[0]
                if name not in CATALOGUE and key not in groups and not (section == "budgets" and key == ANY):
                    known = ", ".join([*CATALOGUE, *groups])
                    raise ConfigError(f"{section}.{method}.{key}: expected a data set or group ({known})")


def _check_methods(settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for cells of a method that does not exist."""
    known = method_names()
    for section in ("grid", "ablations"):
        for method, entries in settings[section].items():
            if method not in known and any(entry is not None for entry in (entries or {}).values()):
                raise ConfigError(f"{section}.{method}: expected one of {', '.join(known)}, found {method!r}")


def _merged_entries(settings: Mapping[str, Any], dataset: str, method: str, variant: str) -> dict[str, Any]:
    """Everything that applies to a cell, general to specific: defaults, then grid, then ablations, then budgets."""
    of_ablations = (method, dataset, variant) in cells_named(settings, "ablations")
    values = settings["defaults"]
    for section in ("grid", *(["ablations"] if of_ablations else []), "budgets"):
        values = merged(values, specific_entries(settings, section, dataset, method, variant))
    return values


def specific_entries(
    settings: Mapping[str, Any], section: str, dataset: str, method: str, variant: str
) -> dict[str, Any]:
    """What one section says of a cell, general to specific."""
    key = f"{dataset}/{variant}" if variant else dataset
    names = [ANY, *(group for group, members in settings["groups"].items() if dataset in members), dataset, key]
    values: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        values = merged(values, (settings[section].get(method) or {}).get(name) or {})
    return values


def resolve(settings: Mapping[str, Any], dataset: str, method: str, variant: str = "", seed: int = 0) -> Cell:
    """The cell of this name, with everything that applies to it.

    ``variant`` may be its name or that of its folder. Raises ConfigError for a cell that the settings do not have.
    """
    _check_keys(settings)
    known = [*cells_named(settings, "grid"), *cells_named(settings, "ablations")]
    chosen = [v for m, d, v in known if (m, d, variant_folder(v)) == (method, dataset, variant_folder(variant))]
    if not chosen:
        existing = ", ".join(f"{m}/{d}/{variant_folder(v)}" for m, d, v in known)
        asked = f"{method}/{dataset}/{variant_folder(variant)}"
        raise ConfigError(f"cell {asked}: expected method/data set/variant out of {existing}")
    variant = chosen[0]
    values = _merged_entries(settings, dataset, method, variant)
    where = f"cell {method}:{dataset}/{variant}" if variant else f"cell {method}:{dataset}"
    required = _schema()["$defs"]
    for part in ("training", "evaluation"):
        missing = sorted(set(required[part]["properties"]) - set(values.get(part, {})))
        if missing:
            raise ConfigError(f"{where}: {part}: expected {', '.join(missing)}, found none")
    return Cell(
        dataset=dataset,
        method=method,
        variant=variant,
        seed=seed,
        model=values.get("model", {}),
        training=Training.from_dict(values["training"]),
        evaluation=Evaluation(**values["evaluation"]),
    )
