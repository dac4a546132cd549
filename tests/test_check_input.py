"""What the check reads: any way to store a table, one line on what is wrong, per-row values that fit their numbers."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.check.read import read_summary
from harness.comparison.rows import RowKey
from harness.errors import DataError
from harness.reporting.tables.reported import Key

KEY = Key("adult", "nade", "", "-log p")


def metrics(n_seeds=2, n_rows=50, **changes):
    facts = {**{"sem": 0.1, "mc_error": 0.0, "k": 0, "n_rows": n_rows, "status": "ok", "message": ""},
             **{"data_official": True, "data_digest": "d", "preset": "quick", "n_updates": 10}}  # fmt: skip
    rows = [
        {**KEY._asdict(), "seed": seed, "value": values(seed, n_rows).mean(), **facts, **changes}
        for seed in range(n_seeds)
    ]
    return pd.DataFrame(rows)


def values(seed, n_rows=50):
    return 13.0 + np.random.default_rng(seed).standard_normal(n_rows)


def rows(seed=0, part=slice(None), n_rows=50, **changes):
    of = {"dataset": "adult", "method": "nade", "variant": "", "seed": seed, "metric": "-log p"}
    index = np.arange(n_rows)[part].astype(np.int32)
    return pd.DataFrame({**of, "row": index, "value": values(seed, n_rows)[part], **changes})


def written(folder, frame, row_values=None, listed=None):
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / "metrics.parquet")
    if row_values is not None:
        row_values.to_parquet(folder / "rows.parquet")
    if listed is not None:
        (folder / "runs.csv").write_text(listed, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "stored",
    [
        lambda f: f.assign(value=f["value"].astype(str), seed=f["seed"].astype(str), k="0"),
        lambda f: f.astype(dict.fromkeys(("dataset", "metric", "status", "preset", "data_digest"), "category")),
        lambda f: f.astype({"value": "Float64", "k": "Int64", "status": "string", "data_official": "boolean"}),
        lambda f: f.assign(message=None, n_updates=None, variant=None),
        lambda f: f.drop(columns=["message", "n_updates"]),
        lambda f: f.assign(bias=None, model_sha256=None, kind=None, n_test=None, added_later=[[1], [2, 3]]),
        lambda f: f.assign(data_official="True"),
        lambda f: f.assign(data_official=1),
    ],
    ids=["text", "categories", "nullable", "nulls", "absent", "other versions", "text bool", "number bool"],
)
def test_any_way_to_store_a_table_reads_the_same(stored, tmp_path):
    expected = read_summary(written(tmp_path / "a", metrics())).numbers[KEY]
    found = read_summary(written(tmp_path / "b", stored(metrics()))).numbers[KEY]
    assert found.values == pytest.approx(expected.values)
    assert (found.seeds, found.official, found.k, found.data_digest) == ((0, 1), True, 0, "d")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.drop(columns="sem"), "none named sem"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "several for adult/nade//-log p/0"),
        (lambda f: pd.concat([f, f.assign(preset="full")]), "found full, quick"),
        (lambda f: f.assign(value="much"), "expected numbers in column value, found 'much'"),
        (lambda f: f.assign(seed=[0, None]), "expected whole numbers in column seed, found nan"),
        (lambda f: f.assign(seed=[0.0, 0.5]), "expected whole numbers in column seed, found 0.5"),
        (lambda f: f.assign(dataset=3), "expected text in column dataset, found 3"),
        (lambda f: f.assign(data_official="perhaps"), "expected true or false in column data_official"),
        (lambda f: f.iloc[:0], "measurements of one preset, found none"),
    ],
    ids=["column", "twice", "presets", "word", "null seed", "half a seed", "number", "perhaps", "empty"],
)
def test_bad_input_is_an_error_that_names_the_file(damage, message, tmp_path):
    with pytest.raises(DataError, match=rf"metrics.parquet: .*{message}"):
        read_summary(written(tmp_path / "a", damage(metrics())))


def test_no_file_and_no_parquet(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: .*no such file"):
        read_summary(tmp_path / "nowhere")
    (tmp_path / "metrics.parquet").write_text("value\n1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics.parquet: expected a parquet file, found [^\n]*$"):
        read_summary(tmp_path)


@pytest.mark.parametrize("value", [None, np.inf, -np.inf, np.nan])
def test_a_value_that_is_no_number_is_left_out(value, tmp_path):
    frame = metrics()
    frame["value"] = [frame["value"][0], value]
    assert read_summary(written(tmp_path / "a", frame)).numbers[KEY].seeds == (0,)


def test_weights_are_those_of_the_measurements_or_of_the_published_list(tmp_path):
    listed = "dataset,method,variant,seed,model_sha256\nadult,nade,,0,aa\nadult,nade,,1,bb\n"
    assert read_summary(written(tmp_path / "a", metrics(), listed=listed)).numbers[KEY].models == ("aa", "bb")
    own = metrics().assign(model_sha256=["cc", None])
    assert read_summary(written(tmp_path / "a", own, listed=listed)).numbers[KEY].models == ("cc", "bb")
    with pytest.raises(DataError, match=r"runs.csv: .*none named model_sha256"):
        read_summary(written(tmp_path / "a", metrics(), listed="dataset,method,variant,seed\n"))


def test_rows_go_to_their_seed_and_a_shifted_metric_takes_those_of_the_other(tmp_path):
    both = pd.concat([metrics(), metrics(metric="-log p~", value=20.0)])
    found = read_summary(written(tmp_path / "a", both, pd.concat([rows(1).iloc[::-1], rows(0)]))).numbers
    assert np.array_equal(found[KEY].rows[1].value, values(1))
    assert np.array_equal(found[KEY._replace(metric="-log p~")].rows[0].value, values(0))


def test_a_random_part_of_the_rows_may_be_off_by_its_error(tmp_path):
    part = np.random.default_rng(9).permutation(1000)[:300]
    read_summary(written(tmp_path / "a", metrics(1, 1000), rows(0, np.sort(part), 1000)))
    low = np.sort(np.argsort(values(0, 1000))[:300])
    with pytest.raises(DataError, match=r"rows.parquet: expected rows of adult/nade/0 -log p with a mean of 1\d"):
        read_summary(written(tmp_path / "a", metrics(1, 1000), rows(0, low, 1000)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.assign(value=f["value"] + 0.001), "with a mean of"),
        (lambda f: f.assign(value=f["value"].where(f["row"] > 0)), "expected finite values of adult/nade/0 -log p"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "expected every row once for adult/nade/0 -log p"),
        (lambda f: f.drop(columns="row"), "none named row"),
        (lambda f: f.assign(row="first"), "expected whole numbers|expected numbers in column row"),
        (lambda f: pd.concat([f, f.assign(row=f["row"] + 50)]), "expected at most 50 rows"),
    ],
    ids=["shifted", "null", "twice", "column", "word", "too many"],
)
def test_rows_that_contradict_their_number_are_an_error_of_the_file(damage, message, tmp_path):
    with pytest.raises(DataError, match=rf"rows.parquet: .*({message})"):
        read_summary(written(tmp_path / "a", metrics(1), damage(rows(0))))


def test_rows_stored_in_single_precision_and_as_categories(tmp_path):
    stored = rows(0).astype({"value": "float32", "dataset": "category", "metric": "category"})
    found = read_summary(written(tmp_path / "a", metrics(1), stored)).numbers[KEY]
    assert found.rows[0].value == pytest.approx(values(0), rel=1e-6)


def test_row_keys_are_told_apart_by_all_of_their_parts(tmp_path):
    from harness.comparison.rows import read_rows

    parts = [rows(0), rows(1), rows(0, metric="bound -log p"), rows(0, dataset="dna"), rows(0, variant="b")]
    folder = written(tmp_path / "a", metrics(), pd.concat(parts))
    found = read_rows(folder / "rows.parquet")
    assert set(found) == {
        RowKey("adult", "nade", "", 0, "-log p"),
        RowKey("adult", "nade", "", 1, "-log p"),
        RowKey("adult", "nade", "", 0, "bound -log p"),
        RowKey("dna", "nade", "", 0, "-log p"),
        RowKey("adult", "nade", "b", 0, "-log p"),
    }


@pytest.mark.parametrize("backend", ["nonsense", "TkAgg"])
def test_plots_do_not_depend_on_the_backend_of_the_environment(backend):
    code = "from harness.reporting.figures import style; style.use_theme()"
    code += "; import matplotlib; print(matplotlib.get_backend())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "MPLBACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().lower() == "agg"
