"""The measured numbers as tables and figures of users get them: seeds pooled as in all tables, one row per number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.reporting.tables.build import check_complete
from harness.reporting.tables.pooling import pool, rows_by_cell
from harness.reporting.tables.reported import PlannedCell

COLUMNS = (
    *("dataset", "method", "variant", "title", "kind", "layers", "metric", "value", "sem", "mc_error", "bias"),
    *("n_seeds", "n_updates", "k", "seconds", "status", "message"),
)


def measured_frame(metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str) -> pd.DataFrame:
    """One row per model and metric, columns ``COLUMNS``, in the order of ``planned``.

    metrics: the measurements, as ``harness.storage.collect`` gathers them. A model without any number has one row with
    the metric '', whose ``status`` and ``message`` say why. Raises HarnessError for a cell without a row.
    """
    rows = rows_by_cell(metrics, preset)
    check_complete(rows, planned)
    records = []
    for cell in planned:
        of_cell = rows[cell]
        title, kind, layers = (
            next((row[key] for row in of_cell if row[key]), default)
            for key, default in (("title", cell.method), ("kind", ""), ("layers", ""))
        )
        names = list(dict.fromkeys(row["metric"] for row in of_cell if row["metric"])) or [""]
        for name in names:
            m = pool(of_cell, name)
            if m is not None:
                numbers = (m.value, m.sem, m.mc_error, m.bias, m.n_seeds, m.n_updates, m.k, m.seconds)
                records.append((*cell, title, kind, layers, name, *numbers, m.status, m.message))
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    return frame.astype({"value": float, "n_seeds": int})
