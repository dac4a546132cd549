"""The cases that are measured, as data, with the contenders of each.

Architectures and the strength of the L1 penalty are those of the tables (``workflows/config.yaml``), batch sizes and
samples the thesis'. A preset's smaller budgets do not count here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from harness.data import CATALOGUE
from harness.errors import ConfigError
from harness.settings.config import WORKFLOWS, canonical_json, read_yaml

OURS, OURS_FLOAT32 = "ours", "ours, float32"
TEXTBOOK, TEXTBOOK_FASTER, TEXTBOOK_BFLOAT16 = "textbook", "textbook, faster float32", "textbook, bfloat16"
PYRO_RWS, PYRO_TRACE_GRAPH = "Pyro ReweightedWakeSleep", "Pyro TraceGraph_ELBO"
PYRO_MEAN_FIELD, PYRO_RENYI = "Pyro TraceMeanField_ELBO", "Pyro RenyiELBO"
PYTHAE = "pythae"
N_TOGETHER = 4
OURS_TOGETHER = f"ours, {N_TOGETHER} models at once"  # on a GPU, by one program

UPDATE, EVALUATION, LOG_Z2 = "update", "evaluation", "2 log Z"
# what one measured time is of, where the title does not say it
UNITS = {UPDATE: "", EVALUATION: ", a test row", LOG_Z2: ""}


@dataclass(frozen=True)
class Case:
    """One job that contenders do in turns.

    key: its word on the command line. title: its name in the files. job: ``update`` (one whole update: gradients, L1
    penalty, Adam), ``evaluation`` (log p~ of test rows, K samples per row) or ``2 log Z`` (from n_samples draws), the
    latter two by trained weights. rows: of a batch, or test rows. n_samples: K, or the draws of Z. only_long: takes
    minutes, measured when asked for.
    """

    key: str
    title: str
    job: str
    dataset: str
    method: str
    model: Mapping[str, Any]
    n_visible: int
    rows: int
    n_samples: int
    contenders: tuple[str, ...]
    learning_rate: float = 1e-3
    l1: float = 1e-3  # the thesis' lambda, for gradients summed over the batch
    only_long: bool = False

    @property
    def mean_l1(self) -> float:
        """Strength of the penalty beside a mean loss."""
        return self.l1 / self.rows

    @property
    def model_digest(self) -> str:
        """Short digest of the network."""
        return hashlib.sha256(canonical_json(self.model).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Case:
        """From what ``to_dict`` gave, also after a way through JSON."""
        return cls(**{**values, "contenders": tuple(values["contenders"])})


@cache
def _config() -> dict[str, Any]:
    return read_yaml(WORKFLOWS / "config.yaml")


def _case(key: str, title: str, job: str, cell: str, rows: int, n_samples: int, *contenders: str, **more: Any) -> Case:
    """A case on the network of ``cell``, METHOD:DATASET or METHOD:DATASET/VARIANT of the grid, or on another model."""
    method, _, place = cell.partition(":")
    dataset = place.partition("/")[0]
    return Case(
        key=key,
        title=title,
        job=job,
        dataset=dataset,
        method=method,
        model=more.pop("model", None) or _config()["grid"][method][place]["model"],
        n_visible=CATALOGUE[dataset].columns,
        rows=rows,
        n_samples=n_samples,
        contenders=(OURS, *((OURS_TOGETHER,) if job == UPDATE else ()), *contenders),
        l1=more.pop("l1", _config()["defaults"]["training"]["l1"]),
        **more,
    )


_BIHM12 = "bihm:binarized_mnist/12 layers"
_IWAE1 = {"layers": [100], "hidden": [[200, 200]]}  # the lower half of IWAE-2: pythae has one stochastic layer
_TEXTBOOKS = (TEXTBOOK, TEXTBOOK_FASTER)
_PRECISIONS = (OURS_FLOAT32, *_TEXTBOOKS, TEXTBOOK_BFLOAT16)


def cases() -> tuple[Case, ...]:
    """All cases, in the order of the tables."""
    mnist = "binarized_mnist"
    return (
        _case("bihm12", "BiHM-12 update", UPDATE, _BIHM12, 100, 10, *_PRECISIONS, PYRO_RWS, PYRO_TRACE_GRAPH),
        _case("bihm4", "adult BiHM-4 update", UPDATE, "bihm:adult", 100, 10, *_PRECISIONS, PYRO_RWS, PYRO_TRACE_GRAPH),
        _case("rws5", "RWS-5 update", UPDATE, f"rws:{mnist}/5 layers", 100, 10, *_PRECISIONS, PYRO_RWS),
        _case("nade", "NADE update", UPDATE, f"nade:{mnist}", 100, 1, TEXTBOOK),
        _case("vae", "VAE update", UPDATE, f"vae:{mnist}", 100, 1, *_TEXTBOOKS, PYRO_MEAN_FIELD, PYTHAE),
        _case("iwae1", "IWAE-1 update", UPDATE, f"iwae:{mnist}", 20, 5, *_TEXTBOOKS, PYRO_RENYI, PYTHAE, model=_IWAE1),
        _case("iwae2", "IWAE-2 update", UPDATE, f"iwae:{mnist}/2 layers", 20, 5, *_TEXTBOOKS, PYRO_RENYI),
        _case("vae_hmc", "VAE + HMC update", UPDATE, f"vae_hmc:{mnist}/8 iterations", 100, 1, *_TEXTBOOKS),
        _case(
            "label_mlp",
            "label MLP update",
            UPDATE,
            f"label_mlp:{mnist}/500 units noisy pixels",
            100,
            1,
            *_TEXTBOOKS,
            l1=0.0,
        ),
        _case("evaluation", "BiHM-12 evaluation K=1000", EVALUATION, _BIHM12, 96, 1000, *_TEXTBOOKS),
        _case("evaluation-100k", "BiHM-12 evaluation K=100,000", EVALUATION, _BIHM12, 4, 100_000),
        _case("logz", "BiHM-12 2 log Z, 10^5 draws", LOG_Z2, _BIHM12, 0, 100_000, TEXTBOOK),
        _case("logz-10m", "BiHM-12 2 log Z, 10^7 draws", LOG_Z2, _BIHM12, 0, 10_000_000, only_long=True),
    )


def chosen(keys: list[str] | None, long: bool) -> list[Case]:
    """The cases of these keys; without keys all, those of minutes only when ``long``.

    Raises ConfigError that names an unknown key.
    """
    known = {case.key: case for case in cases()}
    if not keys:
        return [case for case in known.values() if long or not case.only_long]
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(known)} or scaling, found {', '.join(unknown)}")
    return [known[key] for key in dict.fromkeys(keys)]
