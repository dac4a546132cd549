"""``rows.parquet``: the value of every test row, so that two models can be compared on the rows that they share.

In the folder of a run it lies beside ``metrics.json``, which is written after it and holds its digest; ``gather`` puts
those of all runs below each other, and ``keep_part`` takes from that what is published. Long form: ``row`` (its number
in the test split), ``metric``, ``value`` and ``mc_error``, the Monte-Carlo standard error of that row's value (0 for
exact ones, NaN where it is not known; of annealed importance sampling it is that of log Z, which all rows share).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import atomic
from harness.errors import DataError
from harness.settings.config import Cell
from harness.settings.seeds import seed_for
from harness.storage.records import file_digest
from harness.storage.runs import RunFolder
from harness.training.batches import random_rows

FILE = "rows.parquet"  # where the rows of all cells lie together, or what is published of them
PUBLISHED = ("-log p", "-log p~*", "bound -log p", "-log p~*(y|x)", "-log p(y|x)", "error")  # metrics
MOST_PUBLISHED = 2000  # rows of a cell
TEST_ROWS = "test rows"  # what the seed is for of those that estimates are made on

TEXT = pa.dictionary(pa.int32(), pa.string())
OF_RUN = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("metric", TEXT, nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("mc_error", pa.float32(), nullable=False),
    ]
)
CELL = ("dataset", "method", "variant", "seed")
OF_CELLS = pa.schema(
    [
        *(pa.field(name, TEXT, nullable=False) for name in CELL[:-1]),
        pa.field("seed", pa.int32(), nullable=False),
        *OF_RUN,
    ]
)
OF_PUBLICATION = pa.schema([field.with_type(pa.float32()) if field.name == "value" else field for field in OF_CELLS])


@dataclass(frozen=True)
class RowValues:
    """One metric of the test rows ``rows`` [B]: its values [B] and their Monte-Carlo errors, [B] or one for all."""

    metric: str
    rows: np.ndarray
    values: np.ndarray
    mc_errors: np.ndarray | float

    def table(self) -> pa.Table:
        """In the columns of ``OF_RUN``. A value that is not finite has no error."""
        errors = np.where(np.isfinite(self.values), self.mc_errors, np.nan)
        columns = [_array(self.rows, pa.int32()), _repeated(self.metric, len(self.rows))]
        columns += [_array(self.values, pa.float64()), _array(errors, pa.float32())]
        return pa.Table.from_arrays(columns, schema=OF_RUN)


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A column without gaps. (``pa.array`` imports pandas, which takes longer than measuring a small model.)"""
    plain = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])


def _repeated(word: str, n: int) -> pa.DictionaryArray:
    """A column with one word n times."""
    text = word.encode()
    ends = pa.py_buffer(np.array([0, len(text)], dtype=np.int32))
    words = pa.StringArray.from_buffers(1, ends, pa.py_buffer(text))
    return pa.DictionaryArray.from_arrays(_array(np.zeros(n), pa.int32()), words)


def write(path: Path, measured: Sequence[RowValues]) -> str:
    """Write the rows of a run, columns ``OF_RUN``, without rows where nothing was measured; its sha256."""
    table = pa.concat_tables(
        [pa.Table.from_batches([], schema=OF_RUN), *(each.table() for each in measured)]
    ).unify_dictionaries()
    with atomic.replacing(path) as temporary, _writer(temporary, OF_RUN) as writer:
        writer.write_table(table)
    return file_digest(path)


def read(run: RunFolder) -> pa.Table | None:
    """The rows of a run, columns ``OF_RUN``; None where an earlier version of the harness measured it, without them.

    Raises DataError where they are missing or are not those that the measurements in ``metrics.json`` came with.
    """
    if run.check_measurements() is None:
        return None
    return pq.read_table(run.rows_file, schema=OF_RUN)


def gather(cells: Sequence[Cell], runs_folder: Path, path: Path) -> None:
    """Write the rows of all cells to ``path``, columns ``OF_CELLS``, one cell in memory at a time.

    Cells that an earlier version of the harness measured have none. Raises DataError as ``read`` does.
    """
    with atomic.replacing(path) as temporary, _writer(temporary, OF_CELLS) as writer:
        for cell in cells:
            found = read(RunFolder(runs_folder / cell.path))
            if found is not None and len(found):
                writer.write_table(_named(found, cell))


def publish(cells: Sequence[Cell], runs_folder: Path, path: Path, kept: Set[str], earlier: Path) -> None:
    """Write what is published of the rows of all cells to ``path``, columns ``OF_PUBLICATION``.

    kept: paths of cells whose rows are taken over from the publication in the folder ``earlier``, where it has any.
    Raises DataError as ``read`` and ``read_published`` do.
    """
    before = read_published(earlier) if kept else None
    with atomic.replacing(path) as temporary, _writer(temporary, OF_PUBLICATION) as writer:
        for cell in cells:
            if cell.path in kept:
                part = None if before is None else _of_cell(before, cell)
            else:
                found = read(RunFolder(runs_folder / cell.path))
                part = None if found is None else _named(keep_part(found, cell), cell).cast(OF_PUBLICATION)
            if part is not None and len(part):
                writer.write_table(part)


def read_published(folder: Path) -> pa.Table | None:
    """The rows of a publication; None where it was made without any. Raises DataError for a file that is no such."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return pq.read_table(path, schema=OF_PUBLICATION)
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, f"columns {', '.join(OF_PUBLICATION.names)}", error) from error


def keep_part(table: pa.Table, cell: Cell) -> pa.Table:
    """The metrics in ``PUBLISHED`` of at most ``MOST_PUBLISHED`` rows of one cell.

    All methods and seeds keep the same rows of a data set: those that estimates are made on come first (exact values
    have all), in an order of chance that depends on the data set alone.
    """
    import pyarrow.compute as pc  # takes longer to import than a small cell to measure, which needs none of it

    table = table.filter(pc.is_in(pc.cast(table["metric"], pa.string()), value_set=pa.array(PUBLISHED)))
    present = np.unique(table["row"].to_numpy())
    if len(present) <= MOST_PUBLISHED:
        return table
    # the first numbers of a stream are the same whatever comes after: a row keeps its place among any others
    place = np.random.default_rng(seed_for(cell.dataset, "published rows")).random(present[-1] + 1)[present]
    estimated = random_rows(len(present), cell.evaluation.rows, seed_for(cell.dataset, TEST_ROWS))
    first = np.isin(present, estimated) if present[-1] + 1 == len(present) else np.ones(len(present), bool)
    wanted = present[np.lexsort((place, ~first))[:MOST_PUBLISHED]]
    return table.filter(pc.is_in(table["row"], value_set=pa.array(wanted, pa.int32())))


def _named(table: pa.Table, cell: Cell) -> pa.Table:
    """With the columns that say which cell it is in front."""
    names = [_repeated(getattr(cell, key), len(table)) for key in CELL[:-1]]
    seed = _array(np.full(len(table), cell.seed), pa.int32())
    return pa.Table.from_arrays([*names, seed, *table.columns], schema=OF_CELLS)


def _of_cell(table: pa.Table, cell: Cell) -> pa.Table:
    import pyarrow.compute as pc  # takes longer to import than a small cell to measure, which needs none of it

    for key in CELL:
        column = table[key] if key == "seed" else pc.cast(table[key], pa.string())
        table = table.filter(pc.equal(column, getattr(cell, key)))
    return table


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Names cost next to nothing, ascending row numbers little, and numbers what their digits take."""
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=[*CELL, "metric"],
        column_encoding={"row": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT", "mc_error": "BYTE_STREAM_SPLIT"},
    )
