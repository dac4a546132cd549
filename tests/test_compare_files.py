"""What `harness compare` and `harness overview` write: marks that follow from the test, files of published runs."""

import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import harness
from harness.check.write import PUBLISHED
from harness.cli import main
from harness.comparison.pairs import CANNOT_TELL
from harness.comparison.read import read_measured
from harness.comparison.statistics import holm
from harness.errors import ConfigError, DataError
from harness.reporting.tables import best_published, overview
from harness.reporting.tables.layout import UCI
from harness.reporting.tables.reported import reported
from harness.settings.config import cells_named, load_settings

QUICK, LONG = PUBLISHED / "quick", PUBLISHED / "long"
ABLATIONS = {(d, m, v) for m, d, v in cells_named(load_settings({"preset": "quick"}), "ablations")}


@pytest.fixture(name="written", scope="module")
def files_of_the_quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    assert main(["compare", str(QUICK), "--output", str(folder)]) == 0
    assert main(["overview", str(QUICK), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(name="found", scope="module")
def overview_of_the_quick_run():
    return overview.overview(read_measured(QUICK, ABLATIONS), 0.05, 0.8)


def rows_of(text):
    """Label, or '' for the second line of a row, and cells of a Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def test_bold_is_the_best_and_what_the_test_cannot_tell_from_it(written):
    frame = pd.read_csv(written / "overview.csv", keep_default_na=False)
    pairs = pd.read_csv(written / "compare.csv", keep_default_na=False)
    header, *rows = rows_of((written / "overview.md").read_text())
    frame = frame[frame["metric"] == "-log p"]
    shown = {row[0]: row for row in reversed(rows) if row[1] == "value"}
    titles = {"rws_nade": "RWS - NADE", "bihm_nade": "BiHM - NADE", "nade": "NADE", "rws": "RWS - SBN", "bihm": "BiHM"}
    for place, dataset in enumerate(UCI, start=2):
        assert header[place].startswith(dataset)
        column = frame[frame["dataset"] == dataset].set_index("method")
        best = column["adjusted_value"].astype(float).idxmin()
        for method, title in titles.items():
            pair = pairs[(pairs["dataset"] == dataset) & pairs["method_a"].isin((best, method))]
            pair = pair[pair["method_b"].isin((best, method))]
            bold = method == best or set(pair["verdict"]) == {CANNOT_TELL}
            assert shown[title][place].startswith("**") == bold
            assert column.loc[method, "as_good_as_best"] == bold
            assert float(shown[title][place].strip("*")) == round(float(column.loc[method, "adjusted_value"]), 2)


def test_adjusted_p_values_are_those_of_all_pairs_together(written):
    pairs = pd.read_csv(written / "compare.csv", keep_default_na=False)
    assert len(pairs) > 700
    assert pairs["adjusted_p"].to_numpy() == pytest.approx(holm(pairs["p_value"].tolist()))
    by_hand = pairs.set_index(["dataset", "method_a", "method_b"]).loc[("adult", "nade", "fvsbn")]
    rows = pd.read_parquet(QUICK / "rows.parquet")
    rows = rows[(rows["dataset"] == "adult") & (rows["metric"] == "-log p")]
    values = rows[rows["method"].isin(("nade", "fvsbn"))].pivot(index="row", columns="method", values="value")
    difference = (values["nade"] - values["fvsbn"]).astype(float)
    assert by_hand["difference"] == pytest.approx(difference.mean(), abs=1e-6)
    assert by_hand["error"] == pytest.approx(difference.std(ddof=1) / math.sqrt(len(difference)), rel=1e-5)


def test_where_all_rows_are_there_the_overview_has_the_numbers_of_the_other_tables(found):
    """nade on dna was measured on all rows; estimates have a part of them and are adjusted."""
    frame = overview.tidy(found).set_index(["dataset", "method", "metric"])
    exact, estimate = (frame.loc["dna", method, "-log p"] for method in ("nade", "bihm"))
    assert exact["adjusted_value"] == pytest.approx(exact["value"], abs=1e-3)
    assert estimate["n_rows"] < exact["n_rows"]
    assert 0 < abs(estimate["adjusted_value"] - estimate["value"]) < 0.2


def test_the_page_says_what_its_marks_mean(written):
    text = (written / "overview.md").read_text()
    assert re.search(r"Mean ranks in `-log p` are over 8 data sets .* 7\.01 or more apart", text)
    assert "† rcv1 is a stand-in" in text
    assert "not all models were measured on the same rows" in text
    assert "one of these trained models" in text
    assert "Variants on binarized_mnist: BiHM (12 layers)" in text
    assert "Not in the table, unavailable: tfd/bihm." in text
    assert "all layers" not in text  # an ablation
    tex = (written / "overview.tex").read_text()
    assert r"\textbf{" in tex
    assert tex.count("\\begin{tabular}") == tex.count("\\end{tabular}") == 1


def test_without_values_per_row_nothing_is_paired_and_the_page_says_so(tmp_path):
    shutil.copy(LONG / "metrics.parquet", tmp_path)
    assert main(["overview", str(tmp_path)]) == 0
    text = (tmp_path / "tables" / "overview.md").read_text()
    assert "¤ unpaired: values per row are lacking for models of adult" in text
    frame = pd.read_csv(tmp_path / "tables" / "overview.csv")
    assert frame["adjusted_value"].isna().all()


def test_ranks_and_their_diagram(written):
    ranks = pd.read_csv(written / "ranks.csv")
    assert ranks.groupby("dataset")["rank"].sum().eq(14 * 15 / 2).all()
    assert set(ranks["critical_difference"].round(2)) == {7.01}
    for form, head in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert (written / f"critical_difference.{form}").read_bytes().startswith(head)


def test_the_diagram_has_every_method_at_its_mean_rank(found):
    from harness.reporting.comparison.draw import diagram
    from harness.reporting.figures import style

    ranks = found.comparisons[0].ranks
    style.use_theme()
    figure = diagram(ranks)
    texts = {text.get_text() for text in figure.axes[0].texts}
    for i, (name, mean) in enumerate(zip(ranks.methods, ranks.means, strict=True)):
        assert (f"{name}  {mean:.2f}" if i < 7 else f"{mean:.2f}  {name}") in texts
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 3.0]
    assert len(bars) == len(ranks.groups())
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    style.close(figure)


def test_a_failed_cell_is_named_in_its_place(tmp_path):
    metrics = pd.read_parquet(QUICK / "metrics.parquet")
    at = (metrics["dataset"] == "dna") & (metrics["method"] == "nade")
    failed = metrics[at].assign(metric="", value=np.nan, status="diverged")
    pd.concat([metrics[~at], failed]).to_parquet(tmp_path / "metrics.parquet")
    page = overview.overview_page(overview.overview(read_measured(tmp_path, ABLATIONS), 0.05, 0.8))
    (row,) = [line for line in page.blocks[0][1] if line.cells[:2] == ("NADE", "value")]
    assert row.cells[page.header.index("dna")] == "diverged"
    assert any("Not in the table, diverged: dna/nade" in note for note in page.notes)


def test_errors_at_chance_are_marked_and_told(tmp_path, found):
    """By what measurements say; by those of earlier versions, which say nothing, by equally frequent classes."""
    (note,) = (note for note in overview.overview_page(found).notes if note.startswith("∘"))
    metrics = pd.read_parquet(QUICK / "metrics.parquet")
    at_chance = metrics[(metrics["metric"] == "error") & (metrics["value"] > metrics["chance"] - 2 * metrics["sem"])]
    (share,) = at_chance["chance"].unique()  # of the 1,000 test rows that these models were measured on
    assert note.endswith(f"guessing has {share:.3f} as `error` on binarized_mnist.")

    metrics.drop(columns="chance").to_parquet(tmp_path / "metrics.parquet")
    page = overview.overview_page(overview.overview(read_measured(tmp_path, ABLATIONS), 0.05, 0.8))
    errors = metrics[metrics["metric"] == "error"].groupby(["method", "variant"])[["value", "sem"]].mean()
    place = page.header.index("binarized_mnist")
    shown = {line.cells[0]: line.cells[place] for line in page.blocks[1][1] if line.cells[1] == "value"}
    for gamma in ("-0.001", "0", "0.001", "-0.01", "0.1", "0.01", "0 two layers"):
        value, sem = errors.loc[("ssl_bihm", f"gamma={gamma}")]
        assert shown[f"semi-supervised BiHM (gamma={gamma})"].endswith("∘") == (value > 0.9 - 2 * sem)
    assert not any("∘" in cell for line in page.blocks[0][1] for cell in line.cells)
    (note,) = (note for note in page.notes if note.startswith("∘"))
    assert note.endswith("guessing has 0.900 as `error` on binarized_mnist.")

    metrics.assign(chance=metrics["metric"].eq("error").map({True: 0.99, False: np.nan})).to_parquet(
        tmp_path / "metrics.parquet"
    )
    page = overview.overview_page(overview.overview(read_measured(tmp_path, ABLATIONS), 0.05, 0.8))
    assert not any("∘" in cell for block in page.blocks for line in block[1] for cell in line.cells)


def test_best_published_values_are_the_lowest_that_the_thesis_prints():
    """Every one of them was checked in its Table 3.1, whose rows of likelihoods are those of `-log p`."""
    printed = {}
    for key, value in reported()["3.1"].items():
        if key.metric == "-log p":
            printed.setdefault(key.dataset, []).append(value)
    found = best_published.best_published()
    assert {dataset for dataset, _ in found} == set(UCI)
    for (dataset, metric), known in found.items():
        assert metric == "-log p"
        assert known.value == min(printed[dataset], key=float)
        assert known.source
        assert "Table 3.1" in known.checked
    assert found["dna", "-log p"].split == "1400/600/1186"
    assert "dna 1400/600/1186: DARN in Gregor" in best_published.sources(["dna"], "-log p")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "no/such/folder"], "no/such/folder"),
        (["compare", str(QUICK), "--metric", "loss"], "expected measurements of loss, found -2 log Z, -log p"),
        (["overview", str(QUICK / "runs.csv")], "expected a parquet file of measurements"),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_damaged_rows_are_refused(tmp_path):
    for name in ("metrics.parquet", "rows.parquet"):
        shutil.copy(QUICK / name, tmp_path)
    path = tmp_path / "rows.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"rows\.parquet"):
        read_measured(tmp_path)


# -- from Python -------------------------------------------------------------------------------------------------------


def test_methods_of_a_folder_are_compared_from_python(written):
    found = harness.compare(QUICK, settings={"preset": "quick"})
    pd.testing.assert_frame_equal(found.frame, pd.read_csv(written / "compare.csv", keep_default_na=False).astype(
        found.frame.dtypes.to_dict() | {"df": float}), check_exact=False)  # fmt: skip
    assert harness.compare(harness.results(QUICK), metric="error").metric == "error"


def test_runs_are_compared_from_python(tmp_path):
    """Two trainings of one method with other settings, and one of another, on real data."""
    given = {"model": {"hidden": 4}, "training": {"phases": [{"updates": 20, "learning_rate": 0.01, "n_samples": 1}]}}
    made = [
        harness.run("connect4", "nade", preset="smoke", folder=tmp_path / "a", **given),
        harness.run("connect4", "nade", preset="smoke", folder=tmp_path / "b", **{**given, "model": {"hidden": 8}}),
        harness.run("connect4", "factorised", preset="smoke", folder=tmp_path / "c"),
    ]
    found = harness.compare(made)
    assert len(found.pairs) == 3
    assert {contender.name for contender in found.contenders} == {"NADE", "NADE (2)", "independent Bernoullis"}
    direct = made[0].rows.set_index("row")["value"] - made[2].rows.set_index("row")["value"]
    pair = found.frame.set_index(["variant_a", "method_b"]).loc[("", "factorised")]
    assert pair["difference"] == pytest.approx(direct.mean())
    assert pair["n_rows"] == len(direct)


def test_anything_else_is_no_comparison():
    with pytest.raises(ConfigError, match="expected a folder of results, or two or more runs, found 0"):
        harness.compare([])
    with pytest.raises(ConfigError, match="expected a folder of results, or two or more runs, found str"):
        harness.compare(["quick", "long"])
    with pytest.raises(ConfigError, match="compare: expected a folder of results, found int"):
        harness.compare(QUICK, 3)
