"""Tables, figures, analyses and claims of users in files: read without being run, and never in the way of others."""

import json

import pandas as pd
import pytest
import torch
from cells import cell, patterns
from own_kinds import NAMES, TEXTS, asking, write
from test_workflow import Workflow, only

import harness
from harness.cli import main
from harness.compute.places import ROOT, WORKFLOWS
from harness.errors import ConfigError, HarnessError
from harness.evaluation.evaluate import evaluate
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned, analyses_of
from harness.plugins import analyses, claims, figures, tables
from harness.plugins.tables import TARGETS
from harness.reporting.figures.write import figure_names, write_figure
from harness.reporting.report.judging import FAILS, HOLDS, NOT_MEASURED
from harness.reporting.report.own_claims import judge_own
from harness.reporting.tables.measured import measured_frame
from harness.reporting.tables.own_tables import render_own_table, write_own_table
from harness.reporting.tables.planned import NAMES as OF_THESIS
from harness.reporting.tables.planned import OWN, table_names
from harness.reporting.tables.reported import PlannedCell
from harness.settings.config import load_settings
from harness.storage.collect import read_metrics
from harness.storage.runs import RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
REGISTRIES = {
    "analyses": analyses.REGISTRY,
    "figures": figures.REGISTRY,
    "tables": tables.REGISTRY,
    "claims": claims.REGISTRY,
}


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    for registry in REGISTRIES.values():
        registry.use([])


@pytest.fixture(name="paths")
def _paths(tmp_path):
    """A file of each kind."""
    return write(tmp_path)


def test_each_is_known_by_its_text_alone(paths):
    for path in paths.values():
        path.write_text(path.read_text() + "\nraise RuntimeError('was run')\n")
    settings = load_settings(asking(paths))
    assert figure_names(settings)[-1] == "ones_by_nll"
    assert table_names(settings) == (*OF_THESIS, "behind")
    assert analyses.needs("ones") == ("sampling",)
    assert analyses.settings_schema("ones")["required"] == ["rows"]
    assert figures.figure("ones_by_nll").analyses == ("ones", "metrics")
    assert (tables.own_table("behind").decimals, tables.own_table("behind").metrics) == (3, ("-log p",))
    assert claims.own_claim("control_is_last").sources == ("behind",)
    for kind, name in NAMES.items():
        assert REGISTRIES[kind].place(name).origin == str(paths[kind])


@pytest.mark.parametrize("kind", NAMES)
def test_each_is_found_in_the_folder_of_its_kind(kind, tmp_path, monkeypatch, capsys):
    (tmp_path / f"{NAMES[kind]}.py").write_text(TEXTS[kind])
    (tmp_path / "another_script.py").write_text("raise RuntimeError('was run')")
    (tmp_path / "broken.py").write_text("def (")
    registry = REGISTRIES[kind]
    monkeypatch.setattr(registry, "folder", tmp_path)
    assert registry.names() == [NAMES[kind]]
    others = dict.fromkeys(NAMES, tmp_path)  # a figure is about an analysis, a claim about a table
    for other in others:
        monkeypatch.setattr(REGISTRIES[other], "folder", tmp_path)
        (tmp_path / f"{NAMES[other]}.py").write_text(TEXTS[other])
    settings = load_settings(asking(NAMES))
    assert registry.place(NAMES[kind]).file == tmp_path / f"{NAMES[kind]}.py"
    assert main(["list", kind, "--settings", json.dumps(asking(NAMES))]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{NAMES[kind]} "))
    assert line.split()[-1] == "yes"
    assert main(["list", kind]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{NAMES[kind]} "))
    assert line.endswith("not asked for")
    assert load_settings(settings) == settings  # as jobs read it again


@pytest.mark.parametrize(
    ("kind", "old", "new", "said"),
    [
        ("tables", '"Behind the best"', '""', "TITLE: expected a word or two, found ''"),
        ("tables", 'TITLE = "Behind the best"', "", "TITLE: expected a word or two, found none"),
        ("tables", '("-log p",)', '"-log p"', r"METRICS: expected \(metric, ...\), found '-log p'"),
        ("tables", "DECIMALS = 3", "DECIMALS = 1.5", "DECIMALS: expected a whole number from 0 to 10, found 1.5"),
        ("tables", "DECIMALS = 3", "DATASETS = ()", r"DATASETS: expected \(data set, ...\), found \(\)"),
        ("tables", '"a note of ours"', "note()", r"SOURCE: expected a constant, .*, found SOURCE = note\(\)"),
        ("tables", "def data", "def rows", r"expected one function data\(measured\), found none"),
        ("tables", "data(measured)", "data(a, b)", r"expected data\(measured\), found data\(a, b\)"),
        ("figures", "CAPTION = ", "NOTE = ", "CAPTION: expected sentences that say what is shown, found none"),
        ("figures", '("ones", "metrics")', "()", r"ANALYSES: expected \(name, ...\) of analyses, .*, found \(\)"),
        ("figures", '"ones", ', '"onse", ', "ANALYSES: expected some of metrics, .*k_sensitivity.*, found 'onse'"),
        ("figures", "data(ones, measured)", "data(ones)", r"expected data\(ones, metrics\), found data\(ones\)"),
        ("figures", "def draw", "def paint", r"expected one function draw\(data\), found none"),
        ("figures", "remarks(data)", "remarks()", r"expected remarks\(data\), found remarks\(\)"),
        ("analyses", '("sampling",)', '("samples",)', r"NEEDS: expected capabilities \(.*sampling.*\), found"),
        ("analyses", "NEEDS = ", "NEEDED = ", r"NEEDS: expected \(capability, ...\), or \(\) for none, found none"),
        ("analyses", "NEEDS = ", "ABLATIONS = 1; NEEDS = ", "ABLATIONS: expected True or False, found 1"),
        ("analyses", "def analyse", "def analysis", r"expected one function analyse\(subject\), found none"),
        ("claims", "TEXT = ", "WORDS = ", "TEXT: expected a sentence that says what is claimed, found none"),
        ("claims", '("behind",)', "()", r"FROM: expected \(name, ...\) of figures and tables, found \(\)"),
        ("claims", '("behind",)', '("before",)', "FROM: expected some of figure_3_1.*overview.*, found 'before'"),
        ("claims", "judge(behind)", "judge()", r"expected judge\(behind\), found judge\(\)"),
        *((kind, "def ", "def (", "expected Python, found") for kind in NAMES),
    ],
)
def test_what_is_wrong_with_a_file_is_said_when_settings_are_read(kind, old, new, said, paths):
    text = paths[kind].read_text()
    assert old in text
    paths[kind].write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=f"^settings: {paths[kind]}: {said}"):
        load_settings(asking(paths))


@pytest.mark.parametrize("kind", ["tables", "figures", "claims"])
def test_names_that_are_taken_or_unknown_are_refused(kind, paths, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = elsewhere / paths[kind].name
    again.write_text(TEXTS[kind])
    taken = {"tables": "overview", "figures": "figure_3_3"}.get(kind)
    for asked, said in (
        ([paths[kind], again], f"expected an unused name, found '{NAMES[kind]}' twice"),
        (["nothing"], r"expected a file \(\*.py\) or the name of a \w+ \(.*\), found 'nothing'"),
        ([tmp_path / "no.py"], "expected a Python file, found none"),
        ([taken], f"{kind}: {taken}: expected a name that the harness has no use for"),
    ):
        if asked != [None]:
            with pytest.raises(ConfigError, match=said):
                load_settings({**asking(paths), kind: list(map(str, asked))})


def test_settings_of_an_analysis_of_a_user_are_checked_like_those_of_others(paths):
    asked = str(paths["analyses"])
    for given, said in (
        ({"connect4": {"rows": 0}}, "connect4.rows: expected at least 1, found 0"),
        ({"connect4": {"rwos": 1}}, "connect4: unknown key 'rwos'; expected one of every, rows"),
        ({"connect4": {}}, "expected rows for connect4, found none"),
        ({"conect4": {"rows": 1}}, "conect4: expected a data set or group"),
    ):
        with pytest.raises(ConfigError, match=f"^settings: analyses.{asked}.*{said}"):
            load_settings({"analyses": {asked: given}})


def test_targets_of_the_workflow_are_no_names_of_tables():
    """Every table has a target of its own name."""
    texts = [
        path.read_text() for path in [ROOT / "Snakefile", WORKFLOWS / "Snakefile", *(WORKFLOWS / "rules").glob("*.smk")]
    ]
    rules = {line.split()[1].rstrip(":") for text in texts for line in text.splitlines() if line.startswith("rule ")}
    assert rules - {"overview"} == set(TARGETS)
    assert set(tables.BUILT_IN) == {*OF_THESIS, OWN, "overview"}


# -- analyses ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory):
    """A folder with runs of two models."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("factorised", "bihm"):
        of_model = cell(method)
        train(of_model, patterns(), folder / of_model.path, CPU)
        evaluate(folder / of_model.path, of_model, patterns(), CPU, "smoke")
    return folder


def analysed(trained, planned, strict=False):
    """How an analysis of the trained BiHM ended, and its file."""
    run = RunFolder(trained / cell("bihm").path)
    found = analyse_cell(run.path, cell("bihm"), [planned], patterns, CPU, strict)
    return found[planned.name], run.table_file(planned.name)


def of_file(path, **settings):
    analyses.use_analyses([str(path)])
    return Planned(path.stem, settings, (), analyses.code(path.stem))


def test_an_analysis_is_made_again_when_its_code_changes_and_only_then(trained, paths):
    first = of_file(paths["analyses"], rows=20)
    how, table = analysed(trained, first)
    assert how["status"] == "ok"
    assert list(pd.read_csv(table).columns) == ["rows", "value", "sem"]
    written = table.stat().st_mtime_ns
    assert analysed(trained, of_file(paths["analyses"], rows=20))[0] == how
    assert table.stat().st_mtime_ns == written
    paths["analyses"].write_text(TEXTS["analyses"].replace('"sem"]', '"error"]'))
    second = of_file(paths["analyses"], rows=20)
    assert second.digest != first.digest
    assert analysed(trained, second)[0]["status"] == "ok"
    assert list(pd.read_csv(table).columns) == ["rows", "value", "error"]


def test_digests_of_built_in_analyses_are_those_of_name_and_settings():
    assert Planned("k_sensitivity", {"rows": 3}, ()).digest == Planned("k_sensitivity", {"rows": 3}, (), "").digest
    assert Planned("k_sensitivity", {"rows": 3}, (), "a").digest != Planned("k_sensitivity", {"rows": 3}, ()).digest


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("[1, 2]", r"expected a DataFrame, found a list"),
        ("pd.DataFrame({0: [1]})", "expected columns with names that are words, found 0"),
        ("pd.DataFrame()", "expected columns with names that are words, found none"),
        ("pd.DataFrame({'method': [1]})", "expected every column once, and none of dataset, .*, found 'method'"),
        ("pd.DataFrame([[1, 2]], columns=['a', 'a'])", "expected every column once, .*, found 'a'"),
        ("exit(3)", "SystemExit: 3"),
    ],
)
def test_an_analysis_that_fails_says_so_and_takes_nothing_along(returned, said, trained, paths):
    text = TEXTS["analyses"]
    body = text[: text.index("    drawn =")] + f"    return {returned}\n"
    paths["analyses"].write_text(body.replace("rows: Size, every: Size = 1", "rows: Size = 1"))
    how, _ = analysed(trained, of_file(paths["analyses"]))
    assert how["status"] == "failed"
    assert pd.Series([how["message"]]).str.contains(said).all()
    with pytest.raises((Exception, SystemExit)):
        analysed(trained, of_file(paths["analyses"]), strict=True)


# -- tables, figures and claims ----------------------------------------------------------------------------------------


def settings_of(paths, strict=False):
    """Settings that ask for the four, and the cells of the trained models."""
    settings = load_settings({**asking(paths, "*"), "strict": strict, "preset": "smoke"})
    grid = {method: {"patterns": {}} for method in ("factorised", "bihm")}
    return {**settings, "grid": grid, "ablations": {}, "budgets": {}, "searches": {}}


def models():
    return [cell("factorised"), cell("bihm")]


def table(trained, paths, strict=False):
    return render_own_table("behind", read_metrics(models(), trained), models(), settings_of(paths, strict))


def test_the_measured_numbers_are_those_of_the_tables(trained):
    planned = [PlannedCell("patterns", method, "") for method in ("factorised", "bihm")]
    metrics = read_metrics(models(), trained)
    frame = measured_frame(metrics, planned, "smoke").set_index(["method", "metric"])
    for row in metrics.itertuples():
        assert frame.loc[(row.method, row.metric), "value"] == pytest.approx(row.value)
        assert frame.loc[(row.method, row.metric), "sem"] == pytest.approx(row.sem, nan_ok=True) or pd.isna(row.sem)
    assert set(frame["n_seeds"]) == {1}
    with pytest.raises(HarnessError, match="expected rows for every planned cell, found none for patterns/nade"):
        measured_frame(metrics, [PlannedCell("patterns", "nade", "")], "smoke")


def test_seeds_are_pooled_before_a_table_has_them(trained):
    metrics = read_metrics(models(), trained)
    other = metrics.assign(seed=1, value=metrics["value"] + 2.0)
    planned = [PlannedCell("patterns", "bihm", "")]
    one, two = (measured_frame(frame, planned, "smoke") for frame in (metrics, pd.concat([metrics, other])))
    assert set(two["n_seeds"]) == {2}
    assert two["value"].to_numpy() == pytest.approx(one["value"].to_numpy() + 1.0)


def test_models_without_numbers_are_rows_and_a_note_that_say_why(trained, paths):
    metrics = read_metrics(models(), trained)
    lost = metrics[metrics["method"].eq("bihm")].head(1).assign(metric="", value=float("nan"), status="diverged")
    metrics = pd.concat([metrics[metrics["method"].eq("factorised")], lost.assign(message="loss is not finite")])
    rendered = render_own_table("behind", metrics, models(), settings_of(paths))
    assert rendered.data["method"].tolist() == ["factorised"]
    assert "Diverged: patterns/bihm." in rendered.page.notes
    frame = measured_frame(metrics, [PlannedCell("patterns", "bihm", "")], "smoke")
    assert frame[["metric", "status", "message"]].to_numpy().tolist() == [["", "diverged", "loss is not finite"]]


def test_a_table_has_its_rows_in_csv_markdown_and_tex(trained, paths, tmp_path):
    rendered = table(trained, paths)
    written = write_own_table(rendered, tmp_path / "out")
    assert [path.name for path in written] == ["behind.csv", "behind.md", "behind.tex"]
    frame = pd.read_csv(written[0])
    assert list(frame.columns) == ["title", "dataset", "method", "behind", "behind_sem", "n_seeds"]
    assert min(frame["behind"]) == 0
    text = written[1].read_text()
    assert "# Behind the best" in text
    assert "Nats behind the best model of a data set. The smoke preset" in text
    assert "behind_sem" not in text
    assert "± " in text
    assert "A stand-in for the data set: patterns." in text
    assert "From a note of ours." in text
    assert str(tmp_path) not in text + written[2].read_text()
    line = next(line for _, lines in rendered.page.blocks for line in lines)
    assert line.models[3] == PlannedCell("patterns", "factorised", "")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("rows['nothing']", "failed: KeyError: 'nothing'"),
        ("None", "failed: data(...): expected a DataFrame, found a NoneType"),
        ("rows[['title', 'title']]", "failed: data(...): expected every column once, found 'title' twice"),
        ("rows.assign(x=[[1], [2]])", "failed: data(...): expected numbers or words in 'x', found a list"),
        ("rows.T", "failed: data(...): expected columns with names that are words, found 0"),
        ("rows.head(0)", "no model here has what it shows"),
        ("exit('done')", "failed: SystemExit: done"),
    ],
)
def test_a_table_that_fails_says_so_in_its_place(returned, said, trained, paths, tmp_path):
    body = TEXTS["tables"].partition("    return rows[")[0]
    text = f"{body}    rows = rows.reset_index(drop=True)\n    return {returned}\n"
    paths["tables"].write_text(text)
    written = write_own_table(table(trained, paths), tmp_path / "out")
    frame = pd.read_csv(written[0])
    assert frame["remark"].tolist() == [said]
    assert "nothing to show: Behind the best" in written[1].read_text()
    if said.startswith("failed"):
        with pytest.raises(HarnessError, match=f"^{paths['tables']}: expected a table, found "):
            table(trained, paths, strict=True)


def test_a_table_without_its_metrics_or_cells_says_so(trained, paths):
    paths["tables"].write_text(TEXTS["tables"].replace('"-log p",)', '"-log p", "error")'))
    assert table(trained, paths).data["remark"].tolist() == ["no model here has `error`"]
    paths["tables"].write_text(TEXTS["tables"] + 'METHODS = ("nade",)\n')
    assert table(trained, paths).data["remark"].tolist() == ["the settings have no cell that it shows"]


def drawn(trained, paths, folder, strict=False):
    """The figure's files, from analyses that are done first."""
    settings = settings_of(paths, strict)
    for each in models():
        planned = analyses_of(settings, each)
        analyse_cell(trained / each.path, each, planned, patterns, CPU, strict=False)
    return write_figure("ones_by_nll", settings, models(), trained, folder)


def test_a_figure_has_its_csv_and_caption_beside_it(trained, paths, tmp_path):
    written = drawn(trained, paths, tmp_path / "out")
    assert [path.name for path in written] == [f"ones_by_nll.{form}" for form in ("csv", "png", "pdf", "rst")]
    frame = pd.read_csv(written[0]).set_index("method")
    measured = read_metrics(models(), trained).set_index(["method", "metric"])["value"]
    assert set(frame.index) == {"factorised", "bihm"}
    for method in frame.index:
        assert frame.loc[method, "nll"] == pytest.approx(measured[method, "-log p"])
    caption = written[3].read_text()
    assert caption.startswith("How many columns are 1 in drawn rows, beside what -log p says.\n\n- 2 models.\n")
    assert "patterns is a stand-in" in caption
    assert str(tmp_path) not in caption


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return drawn.merge", "return nothing.merge", "failed: NameError"),
        ("    return figure", "    return axes", "failed: draw(...): expected a matplotlib figure, found a Axes"),
        ("import matplotlib", "import nothing_of_this_name\nimport matplotlib", "failed: ModuleNotFoundError"),
        ("likelihoods[[", "likelihoods.head(0)[[", "no model has what this figure shows"),
    ],
)
def test_a_figure_that_fails_says_so_in_its_place(old, new, said, trained, paths, tmp_path):
    paths["figures"].write_text(TEXTS["figures"].replace(old, new, 1))
    written = drawn(trained, paths, tmp_path / "out")
    (remark,) = pd.read_csv(written[0])["remark"]
    assert remark.startswith(said)
    assert "Not shown: " + said in written[3].read_text()
    if said.startswith("failed"):
        with pytest.raises(HarnessError, match=f"^{paths['figures']}: expected a figure, found "):
            drawn(trained, paths, tmp_path / "out", strict=True)


def test_a_figure_of_an_analysis_that_nobody_asks_for_says_so(trained, paths, tmp_path):
    settings = {**settings_of(paths), "analyses": {}}
    written = write_figure("ones_by_nll", settings, models(), trained, tmp_path)
    assert pd.read_csv(written[0])["remark"].tolist() == ["the settings do not ask for the analysis ones"]


def judged(paths, folder, rows, strict=False):
    """The claim, on a table with such rows of method, difference and error."""
    load_settings(asking(paths))
    frame = pd.DataFrame(rows, columns=["method", "behind", "behind_sem"])
    (folder / "tables").mkdir(exist_ok=True)
    frame.assign(dataset="adult").to_csv(folder / "tables" / "behind.csv", index=False)
    return judge_own("control_is_last", folder / "figures", strict)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([("factorised", 3.0, 0.1), ("bihm", 0.0, 0.1), ("nade", 0.2, 0.1)], HOLDS),
        ([("factorised", 0.0, 0.1), ("bihm", 3.0, 0.1)], FAILS),
        ([("factorised", 0.0, 0.1)], NOT_MEASURED),
    ],
)
def test_a_claim_is_judged_by_the_rows_of_tables(rows, verdict, paths, tmp_path):
    found = judged(paths, tmp_path, rows)
    assert (found.verdict, found.source) == (verdict, "us")
    if verdict == HOLDS:
        assert found.measured == "least 2.80 nats"


def test_a_claim_without_its_files_is_not_measured(paths, tmp_path):
    load_settings(asking(paths))
    assert judge_own("control_is_last", tmp_path / "figures").measured == "this run has no behind"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "behind.csv").write_text("remark\nfailed: why\n")
    found = judge_own("control_is_last", tmp_path / "figures")
    assert (found.verdict, found.measured) == (NOT_MEASURED, "behind has nothing to show: failed: why")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("True", "failed: judge(...): expected None, or one or more Numbers and a sentence, found a bool"),
        ("[], 'nothing'", "failed: judge(...): expected None, or one or more Numbers and a sentence, found no Number"),
        ("[1.0], 'one'", "found [1.0] before the sentence"),
        ("Number(1.0, 0.1), ''", "found '' for a sentence"),
    ],
)
def test_a_claim_that_fails_is_not_measured_and_says_why(returned, said, paths, tmp_path):
    text = TEXTS["claims"]
    paths["claims"].write_text(text[: text.index("    is_control =")] + f"    return {returned}\n")
    rows = [("factorised", 3.0, 0.1), ("bihm", 0.0, 0.1)]
    found = judged(paths, tmp_path, rows)
    assert found.verdict == NOT_MEASURED
    assert said in found.measured
    with pytest.raises(HarnessError, match=f"^{paths['claims']}: expected a judgement, found "):
        judged(paths, tmp_path, rows, strict=True)


# -- the workflow ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_line_of_settings_for_each_shows_it_everywhere(tmp_path):
    paths = write(tmp_path)
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"connect4": {}}, bihm={"connect4": {"model": {"layers": [8, 4]}}})
    others = dict.fromkeys(load_settings()["analyses"])
    flow("tables")
    before = {path.name: path.read_bytes() for path in (flow.results / "tables").glob("[!.]*")}
    asked = asking(paths)
    flow.settings |= {**asked, "analyses": {**others, **asked["analyses"]}}
    assert set(flow.jobs("tables")) <= {"render_table", "tables", "total"}
    printed = flow("all")
    assert "Behind the best" in printed
    after = {path.name: path.read_bytes() for path in (flow.results / "tables").glob("[!.]*")}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"behind.csv", "behind.md", "behind.tex"}
    for path in ("connect4/bihm/default/0", "connect4/factorised/default/0"):
        assert (flow.run(path) / "analyses" / "ones.csv").is_file()
    figure = pd.read_csv(flow.results / "figures" / "ones_by_nll.csv")
    assert set(figure["method"]) == {"bihm", "factorised"}
    report = (flow.results / "report.html").read_text()
    for text in ("Behind the best", "Ones of &lt;all&gt; models", "Every model is better than independent columns."):
        assert text in report
    assert 'download="ones_by_nll.csv"' in report
    checked = flow("check")
    assert "claim, " in checked
    assert "Every model is better than independent columns." in (flow.results / "check" / "check.md").read_text()
    judged = pd.read_csv(flow.results / "check" / "check_claims.csv")
    assert judged["source"].tolist() == ["us"]
    assert flow.jobs("all") == {}
    read = harness.results(flow.results)
    assert read.table("behind").equals(pd.read_csv(flow.results / "tables" / "behind.csv"))
    assert read.figure_data("ones_by_nll").equals(figure)
    published = tmp_path / "published"
    for _ in range(2):  # the second time in place of the first
        given = ("--settings", json.dumps(flow.settings), "--results", str(flow.results), "--output", str(published))
        assert main(["publish", *given]) == 0
    for name in ("tables/behind.md", *(f"figures/ones_by_nll.{form}" for form in ("png", "rst", "csv"))):
        assert (published / name).read_bytes() == (flow.results / name).read_bytes()
    own = pd.read_csv(published / "claims.csv").iloc[-1]  # after those of the thesis
    assert own.to_dict() == judged.iloc[0].to_dict()
    paths["tables"].write_text(TEXTS["tables"].replace("    return rows[", "    return nothing["))
    printed = flow("tables")
    assert "harness: table behind failed, as it says in its place: NameError: name 'nothing'" in printed
    assert "NameError" in (flow.results / "logs" / "tables" / "behind.log").read_text()
    paths["tables"].write_text(TEXTS["tables"])
    flow("all")
    for kind, due in (("tables", "render_table"), ("figures", "draw_figure"), ("claims", "write_report")):
        paths[kind].write_text(paths[kind].read_text() + "# changed\n")
        assert due in flow.jobs("all"), kind
        assert not {"run_model", "analyse_model"} & set(flow.jobs("all"))
    paths["analyses"].write_text(paths["analyses"].read_text() + "# changed\n")
    assert flow.jobs("all")["analyse_model"] == 2
