"""Files of measurements from anywhere: what can be read is read, the rest is one line with file and column."""

import shutil

import numpy as np
import pandas as pd
import pytest

from harness.cli import main
from harness.compute.places import ROOT
from harness.errors import DataError
from harness.reporting.publish import _read_earlier
from harness.storage.measurements import read_csv, read_measurements, usable

PUBLISHED = sorted((ROOT / "results" / "published").glob("*/metrics.parquet"))
ROW = {"preset": "quick", "dataset": "adult", "method": "nade", "variant": "", "seed": 0, "metric": "-log p"}
ROW |= {"value": 13.2, "sem": 0.1, "status": "ok", "message": ""}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_what_is_published_is_read_as_it_is(path):
    """But for the name of the exact -log p(y|x), which has one of its own by now."""
    found, as_it_is = read_measurements(path), pd.read_parquet(path)
    exact = (as_it_is["metric"] == "-log p~*(y|x)") & (as_it_is["estimator"] == "exact")
    assert exact.any() or "-log p(y|x)" in set(as_it_is["metric"])  # published since
    as_it_is.loc[exact, "metric"] = "-log p(y|x)"
    pd.testing.assert_frame_equal(found[as_it_is.columns], as_it_is)
    assert found.drop(columns=as_it_is.columns).isna().all(axis=None)  # what an earlier version did not measure


def test_categories_gaps_and_missing_columns(tmp_path):
    rows = pd.DataFrame([ROW, {**ROW, "seed": 1, "variant": None, "message": None, "sem": None}])
    rows = rows.drop(columns="message").astype({"dataset": "category", "value": "category", "status": "category"})
    rows.to_parquet(tmp_path / "metrics.parquet")
    found = read_measurements(tmp_path / "metrics.parquet")
    assert found["variant"].tolist() == found["message"].tolist() == ["", ""]
    assert found["value"].mean() == 13.2
    assert np.isnan(found["sem"].iloc[1])
    assert found["n_updates"].isna().all()
    assert not any(isinstance(dtype, pd.CategoricalDtype) for dtype in found.dtypes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": None}, r"metrics\.parquet, row 2: expected a method, found none"),
        ({"value": "thirteen"}, r"metrics\.parquet, row 2: expected a number as value, found 'thirteen'"),
        ({"seed": None}, r"metrics\.parquet, row 2: expected a seed, found none"),
    ],
)
def test_a_row_that_is_of_no_use_is_named(tmp_path, change, message):
    first = {key: str(value) for key, value in ROW.items()} if "value" in change else ROW
    pd.DataFrame([first, {**first, **change}]).to_parquet(tmp_path / "metrics.parquet")
    with pytest.raises(DataError, match=message):
        read_measurements(tmp_path / "metrics.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"a,b\n1,2\n"])
def test_what_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "metrics.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.parquet: expected a parquet file of measurements"):
        read_measurements(tmp_path / "metrics.parquet")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b'a,"b\n1,2\n', b"a,b\n1,2,3,4\n1\n1,2,3,4,5\n"])
def test_a_csv_that_is_damaged_is_named(tmp_path, content):
    (tmp_path / "curve.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"curve\.csv: expected "):
        read_csv(tmp_path / "curve.csv", ("update", "best"))


def test_missing_columns_are_named():
    with pytest.raises(DataError, match=r"x: expected columns .* found none named method, seed"):
        usable(pd.DataFrame([ROW]).drop(columns=["method", "seed"]), "x")


@pytest.mark.parametrize("name", ["runs.csv", "metrics.parquet", "searches.csv"])
def test_a_publication_of_another_version_is_refused_in_one_line(tmp_path, name, capsys):
    folder = tmp_path / "p"
    shutil.copytree(ROOT / "results" / "published" / "long", folder)
    path = folder / name
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.drop(columns="training_digest").to_csv(path, index=False)
    else:
        pd.read_parquet(path).drop(columns="method").to_parquet(path)
    with pytest.raises(DataError, match=f"{name}: expected columns"):
        _read_earlier(folder)
    publish = ["publish", "--preset", "long", "--results", str(tmp_path / "none"), "--output", str(folder), "--add"]
    assert main(publish) == 1
    assert capsys.readouterr().err.count("\n") == 1
