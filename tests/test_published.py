"""What is published holds together: tables follow from measurements, measurements lead to cells, claims are as told."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from harness.check.audit import audit_run
from harness.check.read import read_summary
from harness.check.verdict import REPRODUCED
from harness.check.write import PUBLISHED, write_check
from harness.cli import main
from harness.comparison.read import read_measured
from harness.compute.places import ROOT
from harness.reporting.report.claims import claims_of
from harness.reporting.report.judging import FAILS, HOLDS, UNDECIDED, frame_of, markdown_of
from harness.reporting.tables import PlannedCell, write_tables
from harness.reporting.tables.overview import overview, write_overview
from harness.settings.config import Cell, cells_named
from harness.storage.runs import UNAVAILABLE

RUNS = sorted(path.parent for path in PUBLISHED.glob("*/metrics.parquet"))
CLAIMS = {  # judged from the csv data of the published quick figures; what does not hold there, the report says so
    "Estimates of BiHM's log p* depend less on K": HOLDS,
    "BiHM's log p* estimated with K = 10 is higher": UNDECIDED,
    "BiHM's effective sample size for p* is at least five times": HOLDS,
    "One inner sample makes the most": UNDECIDED,  # ten repeats know a spread to a quarter; the order is as claimed
    "2 log Z moves toward 0": HOLDS,
    "change of the squared maximum mean discrepancy": UNDECIDED,
    "change of the entropy of a classifier's labels": HOLDS,
    # thousands of updates hardly bring the upper layers into use
    "Removing any layer": UNDECIDED,
    "BiHM with twelve layers uses all of them": FAILS,
    "The lowest layer of BiHM tells more": HOLDS,
    "errs less than logistic regression": HOLDS,
    "errs less than a small network": UNDECIDED,
}


def runs(test):
    return pytest.mark.parametrize("run", RUNS, ids=[path.name for path in RUNS])(test)


def test_the_quick_preset_is_published():
    assert PUBLISHED / "quick" in RUNS


@runs
def test_checked_against_itself_everything_is_reproduced(run, tmp_path):
    outcome = write_check(run, run, tmp_path)
    assert set(outcome.counts["earlier run"]) == {REPRODUCED}
    assert outcome.regressions == 0


def test_the_summary_says_how_many_numbers_could_have_been_called_different(tmp_path, capsys):
    run = PUBLISHED / "long"
    assert main(["check", str(run), "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "check.csv", keep_default_na=False, na_values=[""])
    against_run = table[table["against"] == "earlier run"]
    able = int((against_run["smallest"] <= against_run["size"]).sum())
    assert f"against the earlier run: {len(against_run)} reproduced" in printed
    assert f"{able} of {len(against_run)} could have been called different" in printed
    assert len(against_run) * 0.8 < able < len(against_run)
    assert not table[table["verdict"].isin(["not comparable", "cannot tell"])]["reason"].isna().any()


@runs
def test_a_name_of_today_is_compared_with_the_one_that_was_published(run, tmp_path):
    for name in ("metrics.parquet", "rows.parquet"):
        frame = pd.read_parquet(run / name)
        text = frame["metric"].astype(str)
        exact = (text == "-log p~*(y|x)") & (frame["mc_error"] == 0)
        frame.assign(metric=text.mask(exact, "-log p(y|x)")).to_parquet(tmp_path / name)
    ours, theirs = read_summary(tmp_path), read_summary(run)
    assert ours.numbers.keys() == theirs.numbers.keys()
    assert any(key.metric == "-log p(y|x)" and key.method == "label_mlp" for key in theirs.numbers)
    assert {key: set(number.rows) for key, number in ours.numbers.items()} == {
        key: set(number.rows) for key, number in theirs.numbers.items()
    }


@runs
def test_no_number_contradicts_another(run):
    assert audit_run(read_summary(run)) == []


@runs
def test_every_number_is_of_a_cell_that_can_be_trained_again(run):
    listed = pd.read_csv(run / "runs.csv", keep_default_na=False)
    cells = {}
    for line in listed.itertuples():
        parts = {part: json.loads(getattr(line, part)) for part in ("model", "training", "evaluation")}
        cell = Cell(line.dataset, line.method, line.variant, line.seed, **_parsed(parts))
        assert line.training_digest == ("" if line.status == UNAVAILABLE else cell.training_digest)
        cells[line.dataset, line.method, line.variant, line.seed] = line
    for row in pd.read_parquet(run / "metrics.parquet").itertuples():
        line = cells[row.dataset, row.method, row.variant, row.seed]
        assert row.git_commit
        if row.status == "ok":
            assert (row.n_updates, row.data_digest) == (int(float(line.n_updates)), line.data_digest)


def _parsed(parts):
    values = {"dataset": "", "method": "", "variant": "", "seed": 0, **parts}
    cell = Cell.from_dict(values)
    return {part: getattr(cell, part) for part in parts}


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/searches.csv")), ids=lambda path: path.parent.name)
def test_what_was_chosen_is_what_ended_lowest_on_the_validation_set(path):
    found = pd.read_csv(path, keep_default_na=False)
    assert not found.empty
    for _, trials in found.groupby(["dataset", "method", "variant"]):
        assert (trials["status"] == "ok").all()
        best = trials.loc[trials["validation_loss"].idxmin()]
        assert best["chosen"]
        assert trials["chosen"].sum() == 1


@runs
def test_tables_follow_from_the_measurements(run, tmp_path):
    metrics = pd.read_parquet(run / "metrics.parquet")
    published = {path.name: path.read_text(encoding="utf-8") for path in (run / "tables").glob("table_*")}
    named = metrics[["dataset", "method", "variant"]].drop_duplicates()
    in_tables = pd.concat(
        pd.read_csv(run / "tables" / name, keep_default_na=False) for name in published if ".csv" in name
    )
    keys = set(in_tables[["dataset", "method", "variant"]].itertuples(index=False, name=None))
    planned = [PlannedCell(*each) for each in named.itertuples(index=False, name=None) if each in keys]
    write_tables(metrics, planned, run.name, tmp_path)
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in published} == published


@runs
def test_the_overview_follows_from_measurements_and_rows(run, tmp_path):
    settings = json.loads((run / "settings.json").read_text())
    ablations = {(dataset, method, variant) for method, dataset, variant in cells_named(settings, "ablations")}
    rules = settings["check"]
    written = write_overview(overview(read_measured(run, ablations), rules["level"], rules["power"]), tmp_path)
    assert len(written) == 3
    for path in written:
        published = run / "tables" / path.name
        if path.suffix == ".csv":  # other versions of libraries differ in the last digits
            pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(published), rtol=1e-9)
        else:
            assert path.read_text(encoding="utf-8") == published.read_text(encoding="utf-8")


@runs
def test_claims_follow_from_figures_and_tables(run):
    judged = claims_of(run / "figures")
    listed = pd.read_csv(run / "claims.csv", keep_default_na=False)
    assert listed.to_dict("records") == frame_of(judged).to_dict("records")
    assert {HOLDS, FAILS, UNDECIDED} <= set(listed["verdict"])
    assert (run / "claims.md").read_text(encoding="utf-8").endswith(f"\n\n{markdown_of(judged)}\n")


def test_what_the_quick_preset_says_to_the_claims_of_the_thesis():
    judged = claims_of(PUBLISHED / "quick" / "figures")
    assert len(judged) == len(CLAIMS)
    for text, verdict in CLAIMS.items():
        (claim,) = (claim for claim in judged if text in claim.text)
        assert claim.verdict == verdict, claim


def test_one_inner_sample_is_ahead_at_every_total_number():
    frame = pd.read_csv(PUBLISHED / "quick" / "figures" / "figure_3_6.csv")
    spread = frame.pivot(index="k_total", columns="k_inner", values="error").dropna()
    assert len(spread) >= 3
    assert (spread[1] < spread[10]).all()
    assert (spread[1] < spread[100]).all()


def test_the_tables_of_the_readme_are_the_published_ones():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sources = list(re.finditer(r"`(results/published/\w+/tables/table_\w+\.md)`", readme))
    assert [Path(source[1]).stem for source in sources] == ["table_3_1", "table_3_3", "table_4_1"]
    ends = [*(source.start() for source in sources[1:]), len(readme)]
    for source, end in zip(sources, ends, strict=True):
        lines = [line for line in (ROOT / source[1]).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        shown = [line for line in readme[source.end() : end].splitlines() if line.startswith("|")]
        assert set(shown) <= set(lines)
        assert len(shown) > 10
