"""``harness new metrics NAME``: a working metric to start from, made from ``templates/metric.py``, which is one."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from harness import atomic
from harness.cli.new_method import check_name
from harness.errors import ConfigError
from harness.plugins.metrics import BUILT_IN, RESERVED, metric, own_metrics


def write_new_metric(name: str, folder: Path | None = None) -> Path:
    """Write ``NAME.py`` to the folder (default: the current one); its path.

    Raises ConfigError for a name that is no Python identifier of ASCII letters or is taken, and for a file that exists.
    """
    check_name(name, "metric")
    if name in BUILT_IN or name in RESERVED:
        raise ConfigError(f"new metric: expected a name that the harness has no use for, found {name!r}")
    if name in own_metrics():
        raise ConfigError(f"new metric: expected an unused name, found {name!r}, that of {metric(name).origin}")
    path = Path(os.path.abspath(folder or ".")) / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path}: expected no such file, found one, which was not changed")
    text = files("harness.cli").joinpath("templates", "metric.py").read_text(encoding="utf-8")
    title = name.strip("_").replace("_", " ").capitalize() or name
    atomic.write_text(path, text.replace("new_metric", name).replace("New metric", title))
    return path


def new_metric(name: str, folder: Path | None) -> list[str]:
    """Write a metric; what to say of it and to do next."""
    path = write_new_metric(name, folder)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    settings = f'\'{{"metrics": ["{path}"]}}\''
    return [
        f"wrote {shown}, a small working metric; next:",
        f"  harness verify metrics {name} --settings {settings}",
        f"  metrics: [{path}]   # this line in your settings puts it in metrics.parquet, tables and check",
    ]
