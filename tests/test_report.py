"""The report: complete, self-contained, honest about claims, and nothing in it can break the page."""

import base64
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from cells import cell
from test_tables import BIHM, LIKELIHOODS, MNIST, row

from harness.check.verdict import Verdict
from harness.comparison.read import read_measured
from harness.compute.places import PUBLISHED, ROOT
from harness.errors import DataError
from harness.reporting.report import claims, write_report
from harness.reporting.report.claims import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, claims_of, less_sensitive_to_k
from harness.reporting.report.markup import prose
from harness.reporting.tables import PlannedCell
from harness.reporting.tables.layout import BIHM_NLLS
from harness.reporting.tables.overview import overview, overview_page
from harness.reporting.tables.reported import Key
from harness.storage.runs import OK, RunFolder

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = [PlannedCell("adult", "bihm", ""), PlannedCell(MNIST, "vae", "")]
PROVENANCE = {"config_digest": "c" * 64, "data_digest": "d" * 64, "git_commit": "abc", "harness": "0.1.0"}
VERSIONS = {"python": "3", "torch": "2", "numpy": "2"}


class Page(HTMLParser):
    """Collects what a test asks about: references, identifiers, tags, and whether tags are balanced."""

    VOID = ("meta", "img", "br", "hr", "link")

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.sources, self.tags, self.open = [], [], [], [], []
        self.classes, self.saved, self.policy = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.classes += values.get("class", "").split()
        self.saved += [values["download"]] if "download" in values else []
        self.policy = values["content"] if "http-equiv" in values else self.policy
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def metrics():
    rows = [row(CELLS[0], metric, value) for metric, value in BIHM.items()]
    rows += [row(CELLS[1], metric, value, variant="") for metric, value in LIKELIHOODS.items()]
    return pd.DataFrame([{**each, **PROVENANCE, **VERSIONS} for each in rows])


def figure(folder, name="figure_3_3", caption="Estimates <of> log p & more."):
    path = folder / f"{name}.png"
    path.write_bytes(PNG)
    path.with_suffix(".rst").write_text(caption)
    return path


@pytest.fixture(name="page")
def rendered(tmp_path):
    path = tmp_path / "report.html"
    write_report(metrics(), CELLS, "quick", [figure(tmp_path), figure(tmp_path, "figure_depth")], path)
    return path.read_text()


def test_everything_is_in_the_file(page):
    parsed = Page(page)
    assert {"table_3_1", "table_3_2", "table_3_3", "table_4_1", "figure_3_3", "figure_depth"} <= set(parsed.ids)
    assert all(link.startswith("#") and link[1:] in parsed.ids for link in parsed.links)
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert not {"link", "iframe"} & set(parsed.tags)
    assert "Figure 3.3" in page
    assert "Depth" in page


def test_a_browser_may_load_nothing_and_run_the_one_script_alone(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in Page(page).policy
    assert Page(page).policy.startswith("default-src 'none'")


def judged(key, verdict, reason=""):
    return Verdict(key, verdict, ours=13.5, theirs=13.2, difference=0.3, error=0.1, reason=reason)


def test_the_summary_counts_verdicts_models_and_failures(tmp_path):
    keys = [Key("adult", "bihm", "", metric) for metric in ("-log p", "-log p*", "-2 log Z")]
    verdicts = [judged(keys[0], "reproduced"), judged(keys[1], "cannot tell"), judged(keys[2], "missing", "<no>")]
    frame = metrics()
    lost = {**frame.iloc[0].to_dict(), "dataset": "dna", "metric": "", "value": math.nan, "status": "diverged"}
    frame = pd.concat([frame, pd.DataFrame([{**lost, "message": "loss is not finite"}])], ignore_index=True)
    write_report(frame, CELLS, "quick", [], tmp_path / "report.html", verdicts=verdicts)
    text = (tmp_path / "report.html").read_text()
    found = {word: int(number) for number, word in re.findall(r"<b[^>]*>(\d+)</b>([^<]+)</", text)}
    assert found["reproduced"] == found["cannot tell"] == found["not run"] == found["diverged"] == 1
    assert found["better"] == found["worse"] == 0
    assert found["ok"] == len(CELLS)
    assert "loss is not finite" in text
    assert "&lt;no&gt;" in text
    assert {"run-adult-bihm", "run-dna-bihm", "failures", "verdicts"} <= set(Page(text).ids)


def test_numbers_lead_to_their_runs(page):
    parsed = Page(page)
    assert {"run-adult-bihm", "run-binarized_mnist-vae"} <= set(parsed.ids)
    # the table of all numbers, the BiHM block of Table 3.1, layer sizes and effective sample size in Table 3.2
    assert parsed.links.count("#run-adult-bihm") == len(BIHM) + len(BIHM_NLLS) + 2


def test_a_run_shows_its_configuration_curve_and_seeds(tmp_path):
    """In the page, with links beside it to those files that are there."""
    run = tmp_path / "runs" / "adult" / "bihm" / "default" / "0"
    chosen = replace(cell("bihm"), dataset="adult", variant="", seed=0)
    RunFolder(run).write_config(chosen)
    losses = [(0, 90.0), (100, 20.0), (200, 14.5), (300, 15.0)]
    pd.DataFrame(losses, columns=["update", "valid_loss"]).to_csv(run / "curve.csv", index=False)
    RunFolder(run).write_status(OK, best_update=200, training_digest=chosen.training_digest)
    path = tmp_path / "report.html"
    write_report(metrics(), CELLS, "quick", [], path, runs=tmp_path / "runs")
    text, parsed = path.read_text(), Page(path.read_text())
    files = [link for link in parsed.links if not link.startswith("#")]
    assert files == [f"runs/adult/bihm/default/0/{name}" for name in ("config.json", "curve.csv", "status.json")]
    assert all((tmp_path / link).is_file() for link in files)
    assert '<polyline points="0,0 106.7,0 213.3,96 320,87.3">' in text
    assert '<circle cx="213.3" cy="96.0"' in text
    assert "<dt>best_update</dt><dd>200</dd>" in text
    assert f"<dt>batch_size</dt><dd>{chosen.training.batch_size}</dd>" in text
    (run / "curve.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"curve\.csv"):
        write_report(metrics(), CELLS, "quick", [], path, runs=tmp_path / "runs")


def test_data_of_a_figure_are_saved_from_the_page(tmp_path):
    drawn = figure(tmp_path, caption="What is shown.\n\n- Set to 5.\n- Not shown: <x>.\n")
    drawn.with_suffix(".csv").write_text("k,value\n1,2\n")
    write_report(metrics(), CELLS, "quick", [drawn], tmp_path / "report.html")
    text, parsed = (tmp_path / "report.html").read_text(), Page((tmp_path / "report.html").read_text())
    assert parsed.saved == ["figure_3_3.csv"]
    (data,) = [link for link in parsed.links if link.startswith("data:")]
    assert base64.b64decode(data.partition("base64,")[2]) == b"k,value\n1,2\n"
    assert "<li>Set to 5.</li><li>Not shown: &lt;x&gt;.</li>" in text
    drawn.with_suffix(".csv").write_text("k,value\n" + "1,2\n" * 100_000)  # too large for the page
    write_report(metrics(), CELLS, "quick", [drawn], tmp_path / "report.html")
    assert drawn.with_suffix(".csv").name in Page((tmp_path / "report.html").read_text()).links


def test_nothing_to_draw_is_a_line_and_no_picture(tmp_path):
    drawn = figure(tmp_path)
    drawn.with_suffix(".csv").write_text('remark\n"nade: no <x>"\n')
    write_report(metrics(), CELLS, "quick", [drawn], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Nothing to draw: nade: no &lt;x&gt;." in text
    assert not Page(text).sources


def test_text_is_escaped_and_metrics_are_code(page):
    assert "Estimates &lt;of&gt; log p &amp; more." in page
    assert "<code>-log p~*</code>" in page
    assert str(prose("a<b `x>y`")) == "a&lt;b <code>x&gt;y</code>"


def test_every_number_has_a_line_of_provenance(page):
    assert f"{len(metrics())} numbers" in page
    assert page.count('<td class="extra">cccccccccccc</td>') == len(metrics())
    assert "cpu: Testor 3000" in page


def test_biases_stand_beside_errors_and_may_be_unknown(tmp_path):
    known = metrics().assign(bias=1.171875, bias_error=0.25)
    for frame, n in ((known, len(known)), (metrics(), 0)):  # the second as an earlier version measured it
        write_report(frame, CELLS, "quick", [], tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert text.count('<td class="extra">1.17188</td>') == n
        assert "bias_error" in text


@pytest.mark.parametrize("missing", [".rst", ".png"])
def test_a_figure_without_its_files_is_an_error_naming_it(tmp_path, missing):
    path = figure(tmp_path)
    path.with_suffix(missing).unlink()
    with pytest.raises(DataError, match=rf"figure_3_3\{missing}"):
        write_report(metrics(), CELLS, "quick", [path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_is_no_image_is_an_error(tmp_path):
    path = figure(tmp_path)
    path.write_text("not an image")
    with pytest.raises(DataError, match="expected a PNG image"):
        write_report(metrics(), CELLS, "quick", [path], tmp_path / "report.html")


def k_curve(folder, bihm, rws, error=0.1):
    rows = []
    for method, metric, growth in (("bihm", "log p*", bihm), ("rws", "log p", rws)):
        rows += [
            {"dataset": MNIST, "method": method, "metric": metric, "k": k, "value": value, "sem_to_last": error}
            for k, value in ((1, -99.0), (10, -95.0), (1000, -95.0 + growth))
        ]
    pd.DataFrame(rows).to_csv(folder / "figure_3_3.csv", index=False)


@pytest.mark.parametrize(
    ("bihm", "rws", "verdict"),
    [(1.0, 3.0, HOLDS), (3.0, 1.0, FAILS), (1.0, 1.2, UNDECIDED)],
    ids=["holds", "does not", "undecided"],
)
def test_claims_follow_the_numbers_and_their_errors(tmp_path, bihm, rws, verdict):
    k_curve(tmp_path, bihm, rws)
    claim = less_sensitive_to_k(tmp_path)
    assert claim.verdict == verdict
    assert f"{bihm:.2f}" in claim.measured


def test_claims_without_numbers_are_not_measured(tmp_path):
    assert {claim.verdict for claim in claims_of(tmp_path)} == {NOT_MEASURED}


def test_an_error_that_is_not_known_decides_nothing(tmp_path):
    k_curve(tmp_path, 1.0, 3.0, error=math.nan)
    assert less_sensitive_to_k(tmp_path).verdict == UNDECIDED


def csv(folder, figure, *rows):
    pd.DataFrame([{"dataset": MNIST, "method": "bihm", **each} for each in rows]).to_csv(
        folder / f"{figure}.csv", index=False
    )


@pytest.mark.parametrize(("last", "verdict"), [(-1.0, HOLDS), (-5.0, FAILS), (-3.9, UNDECIDED)], ids=str)
def test_the_course_of_z(tmp_path, last, verdict):
    found = [(20, -1.0), (500, -4.0), (1300, -8.0), (9000, last)]  # of the first pass, nothing is asked
    csv(tmp_path, "figure_3_7", *({"metric": "2 log Z", "update": u, "value": v, "sem": 0.1} for u, v in found))
    claim = claims.partition_function_grows(tmp_path)
    assert claim.verdict == verdict
    assert "lowest -8.00 ± 0.10 at update 1,300" in claim.measured


@pytest.mark.parametrize(("spread", "verdict"), [(0.01, HOLDS), (0.5, FAILS), (0.09, UNDECIDED)], ids=str)
def test_the_best_split_of_samples(tmp_path, spread, verdict):
    found = [(1, 100, 9.0), (1, 1000, spread), (10, 1000, 0.1), (10, 10_000, 0.01)]
    splits_of_samples(tmp_path, found)
    assert claims.one_inner_sample_is_best(tmp_path).verdict == verdict


def splits_of_samples(folder, found, n_repeats=10):
    rows = ({"k_inner": k, "k_total": total, "sd": sd, "n_repeats": n_repeats} for k, total, sd in found)
    csv(folder, "figure_3_6", *rows)


def test_the_best_split_must_beat_every_other_not_the_lowest_of_them(tmp_path):
    """Of K_inner = 10 it is sure; K_inner = 100 is no lower, but its larger error leaves it open."""
    splits_of_samples(tmp_path, [(1, 1000, 0.01), (10, 1000, 0.05), (100, 1000, 0.012)])
    assert claims.one_inner_sample_is_best(tmp_path).verdict == UNDECIDED


@pytest.mark.parametrize(("rws", "verdict"), [(1.0, HOLDS), (3.0, FAILS), (2.0, UNDECIDED)], ids=str)
def test_effective_sample_sizes_at_the_largest_common_k(tmp_path, rws, verdict):
    bihm = [{"metric": "ess p*", "k": k, "value": value, "sem": 0.1} for k, value in ((10, 80.0), (100, 10.0))]
    others = [{"metric": "ess p", "k": k, "value": v, "sem": 0.01} for k, v in ((100, rws), (1000, 0.001))]
    csv(tmp_path, "figure_ess_by_k", *bihm, *({**each, "method": "rws"} for each in others))
    assert claims.larger_effective_samples(tmp_path).verdict == verdict


@pytest.mark.parametrize(("change", "verdict"), [(-0.4, HOLDS), (0.4, FAILS), (0.1, UNDECIDED)], ids=str)
def test_samples_after_the_most_sweeps(tmp_path, change, verdict):
    found = [(0, 0.0), (20, change), (5, -9.0)]
    csv(tmp_path, "figure_sweeps", *({"metric": "mmd2", "sweeps": n, "value": v, "sem": 0.1} for n, v in found))
    claim = claims.sweeps_improve_samples(tmp_path, "mmd2", "discrepancy", "")
    assert (claim.verdict, claim.measured) == (verdict, f"{change:+.2g} ± 0.1 after 20 sweeps")


def test_few_samples_against_many(tmp_path):
    rows = [("bihm", "log p*", 10, -95.0), ("rws", "log p", 10_000, -92.0)]
    keys = ("method", "metric", "k", "value")
    csv(
        tmp_path, "figure_3_3", *({**dict(zip(keys, row, strict=True)), "sem": 0.5, "sem_to_last": 0.1} for row in rows)
    )
    assert claims.ten_samples_suffice(tmp_path).verdict == FAILS


def depth(folder, *losses, **columns):
    rows = [{"metric": "log p", "variant": f"without layer {n}", "value": v, "sem": e} for n, v, e in losses]
    rows.append({"metric": "log p~*", "variant": "without layer 1", "value": -5.0, "sem": 0.1})
    csv(folder, "figure_depth", *({**row, **columns} for row in rows))


@pytest.mark.parametrize(("loss", "verdict"), [(0.4, HOLDS), (-0.4, FAILS), (0.1, UNDECIDED)], ids=str)
def test_the_least_useful_layer(tmp_path, loss, verdict):
    depth(tmp_path, (1, 0.9, 0.1), (2, loss, 0.1))
    claim = claims.every_layer_helps(tmp_path)
    assert claim.verdict == verdict
    assert claim.measured == f"least {loss:+.2f} ± 0.10 nats without layer 2, the lowest of 2, on {MNIST}"


def test_every_layer_must_be_sure_to_help(tmp_path):
    """The lowest loss is sure, a larger one with a larger error is not."""
    depth(tmp_path, (1, 0.4, 0.1), (2, 0.5, 0.5))
    assert claims.every_layer_helps(tmp_path).verdict == UNDECIDED


@pytest.mark.parametrize(("columns", "verdict"), [({}, FAILS), ({"n_seeds": 3}, UNDECIDED)], ids=["rows", "seeds"])
def test_the_spread_over_three_seeds_has_two_degrees_of_freedom(tmp_path, columns, verdict):
    depth(tmp_path, (1, -0.4, 0.1), **columns)
    assert claims.every_layer_helps(tmp_path).verdict == verdict
    depth(tmp_path, (1, -0.4, 0.1), **columns, sem_df=200.0)  # where the figure tells them
    assert claims.every_layer_helps(tmp_path).verdict == FAILS


@pytest.mark.parametrize("n_layers", [1, 4, 12])
def test_a_claim_that_is_true_is_seldom_said_not_to_hold(tmp_path, n_layers):
    """Layers whose loss is exactly zero: the most that the stated level allows, whatever their number."""
    rng = np.random.default_rng(0)
    n = 4000
    drawn = rng.standard_normal((n, n_layers))
    said = [claims._verdict([claims.Number(value, 1.0) for value in losses]) for losses in drawn]
    fails, holds = (sum(each == verdict for each in said) / n for verdict in (FAILS, HOLDS))
    slack = 3 * math.sqrt(claims.LEVEL / n)
    assert fails <= claims.LEVEL + slack
    assert holds <= claims.LEVEL + slack


def layer_use(folder, *live, variant="12 layers", **columns):
    """Layers of 300, 75 and 10 units: more than 30, 7 and 1 of them make a tenth."""
    sizes = enumerate(zip(live, (300, 75, 10), strict=True), start=1)
    found = {"title": "BiHM", "variant": variant, "weights": "trained", "metric": "live units", "sem": 0.0, **columns}
    rows = [{**found, "layer": layer, "n_units": n, "value": value} for layer, (value, n) in sizes]
    early = [{**row, "weights": "snapshot", "value": 0} for row in rows]
    csv(folder, "figure_layer_use", *rows, *early, *({**row, "metric": "reliability", "value": 0.0} for row in rows))


@pytest.mark.parametrize(
    ("live", "used", "verdict"),
    [((31, 8, 2), 3, HOLDS), ((300, 75, 1), 2, FAILS), ((300, 7, 10), 2, FAILS), ((30, 0, 0), 0, FAILS)],
    ids=["all", "a tenth is not more", "nor is less", "none"],
)
def test_every_layer_is_used_or_not(tmp_path, live, used, verdict):
    layer_use(tmp_path, *live)
    claim = claims.every_layer_is_used(tmp_path)
    listed = f"{live[0]}/300, {live[1]}/75, {live[2]}/10"
    assert (claim.verdict, claim.measured) == (
        verdict,
        f"{used} of 3 layers, live units from the data upward: {listed}",
    )


def test_seeds_that_differ_leave_open_whether_every_layer_is_used(tmp_path):
    layer_use(tmp_path, 100, 20, 5 / 3, sem=2 / 3, n_seeds=3)
    claim = claims.every_layer_is_used(tmp_path)
    assert claim.verdict == UNDECIDED
    assert "3 of 3 layers" in claim.measured
    assert "1.67/10" in claim.measured


def test_only_the_deep_model_is_judged(tmp_path):
    layer_use(tmp_path, 100, 20, 5, variant="2 layers")
    assert claims.every_layer_is_used(tmp_path).verdict == NOT_MEASURED


def test_the_page_tells_how_many_layers_a_model_uses(tmp_path):
    path = tmp_path / "report.html"
    write_report(metrics(), CELLS, "quick", [figure(tmp_path)], path)
    assert "Layers in use" not in path.read_text()
    layer_use(tmp_path, 213, 50, 0)
    write_report(metrics(), CELLS, "quick", [figure(tmp_path), figure(tmp_path, "figure_layer_use")], path)
    text = path.read_text()
    assert "layers" in Page(text).ids
    assert "<td>2 of 3</td><td>213/300, 50/75, 0/10</td>" in text.replace("\n", "")
    assert "BiHM (12 layers)" in text
    layer_use(tmp_path, 213, 50, 0, title="<script>")
    write_report(metrics(), CELLS, "quick", [figure(tmp_path), figure(tmp_path, "figure_layer_use")], path)
    assert Page(path.read_text()).tags.count("script") == 1


@pytest.mark.parametrize(("highest", "verdict"), [(0.9, HOLDS), (0.02, FAILS), (0.11, UNDECIDED)], ids=str)
def test_the_lowest_layer_against_the_highest(tmp_path, highest, verdict):
    found = [(0, 0.01), (1, 0.1), (2, 0.5), (3, highest)]
    rows = [{"labels": 10, "layer": layer, "value": value, "sem": 0.01} for layer, value in found]
    csv(tmp_path, "figure_layer_features", *rows, *({**each, "labels": 20, "value": 0.3} for each in rows))
    claim = claims.lower_layers_tell_more(tmp_path)
    assert (claim.verdict, claim.measured) == (
        verdict,
        f"0.100 ± 0.010 and {highest:.3f} ± 0.010 with 10 labels",
    )


def label_errors(results, *found):
    """A run with Table 4.1: (method, variant, test error, validation loss)."""
    (results / "tables").mkdir()
    rows = [{"method": m, "variant": v, "metric": "error", "value": f"{x}", "status": "ok"} for m, v, x, _ in found]
    rows += [{"method": "ssl_bihm_low", "variant": "b", "metric": "layers", "value": "3-2", "status": "ok"}]
    csv(results / "tables", "table_4_1", *({**row, "sem": 0.003} for row in rows))
    for method, variant, _, loss in found:
        for seed in range(2):
            chosen = replace(cell(method), dataset=MNIST, variant=variant, seed=seed)
            run = results / "runs" / chosen.path
            RunFolder(run).write_config(chosen)
            facts = {"best_validation": loss + 0.01 * seed, "training_digest": chosen.training_digest}
            RunFolder(run).write_status(OK, **facts)


@pytest.mark.parametrize(("alone", "verdict"), [(0.09, HOLDS), (0.05, FAILS), (0.072, UNDECIDED)], ids=str)
def test_labels_alone_against_labels_and_images(tmp_path, alone, verdict):
    found = [("ssl_bihm", "", 0.01, 0), ("ssl_bihm_low", "a", 0.14, 9), ("ssl_bihm_low", "b", 0.07, 8)]
    label_errors(tmp_path, *found, ("label_mlp", "", alone, 1))
    claim = claims.labels_alone_do_worse(tmp_path / "figures", "label_mlp", "a network")
    assert claim.verdict == verdict
    assert claim.measured.startswith(f"semi-supervised 0.070 ± 0.003 (b), labels alone {alone:.3f} ± 0.003;")
    other = claims.labels_alone_do_worse(tmp_path / "figures", "label_logistic", "logistic regression")
    assert other.verdict == NOT_MEASURED


def test_columns_that_other_versions_lack_are_left_blank(tmp_path):
    frame = metrics().drop(columns=["torch", "numpy", "data_digest", "estimator", "mc_error"])
    write_report(frame, CELLS, "quick", [figure(tmp_path)], tmp_path / "report.html")
    Page((tmp_path / "report.html").read_text())
    assert "not recorded" in (tmp_path / "report.html").read_text()


def test_a_title_is_no_markup(tmp_path):
    frame = metrics().assign(title="<script>alert(1)</script>", message="<script>", device="<script>")
    write_report(frame, CELLS, "quick", [figure(tmp_path, caption="<script>x</script>")], tmp_path / "report.html")
    assert Page((tmp_path / "report.html").read_text()).tags.count("script") == 1


@pytest.mark.parametrize("published", [False, True], ids=["run", "published"])
def test_variants_are_chosen_on_the_validation_set_never_by_test_error(tmp_path, published):
    """On both sides the variant with the lower test error has the higher validation loss."""
    found = [("ssl_bihm_low", "a", 0.05, 9.0), ("ssl_bihm_low", "b", 0.08, 8.0)]
    found += [("label_mlp", "a", 0.04, 0.5), ("label_mlp", "b", 0.10, 0.4)]
    label_errors(tmp_path, *found)
    if published:
        columns = ["method", "variant", "error", "best_validation"]
        pd.DataFrame(found, columns=columns).assign(dataset=MNIST).to_csv(tmp_path / "runs.csv", index=False)
        shutil.rmtree(tmp_path / "runs")
    claim = claims.labels_alone_do_worse(tmp_path / "figures", "label_mlp", "a network")
    assert claim.measured.startswith("semi-supervised 0.080 ± 0.003 (b), labels alone 0.100 ± 0.003 (b);")
    assert claim.verdict == HOLDS


def test_without_validation_losses_no_variant_is_chosen(tmp_path):
    label_errors(tmp_path, ("ssl_bihm_low", "a", 0.05, 9.0), ("label_mlp", "a", 0.04, 1), ("label_mlp", "b", 0.1, 1))
    shutil.rmtree(tmp_path / "runs")
    claim = claims.labels_alone_do_worse(tmp_path / "figures", "label_mlp", "a network")
    assert (claim.verdict, claim.measured) == (
        NOT_MEASURED,
        "no validation losses to choose a variant of label_mlp by",
    )


def test_the_overview_stands_before_the_other_tables(tmp_path):
    """Of the published quick run, with its marks."""
    measured = read_measured(PUBLISHED / "quick")
    page = overview_page(overview(measured, 0.05, 0.8))
    path = tmp_path / "report.html"
    write_report(metrics(), CELLS, "quick", [], path, page)
    text = path.read_text()
    found = Page(text)
    assert found.ids.index("overview") < found.ids.index("table_3_1")
    assert "#overview" in found.links
    assert text.count("<td><b>") == sum(len(line.bold) for _, lines in page.blocks for line in lines)


@pytest.mark.slow
def test_the_last_lines_of_pytest_say_that_no_browser_looked_at_the_report():
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/test_report_page.py"]
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    n = int(re.search(r"^(\d+) skipped", done.stdout, re.MULTILINE).group(1))
    assert f"{n} report tests skipped: no Chromium" in done.stdout.splitlines()
