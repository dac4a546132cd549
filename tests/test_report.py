"""The report: complete, self-contained, honest about claims, and nothing in it can break the page."""

import base64
import math
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_tables import BIHM, LIKELIHOODS, MNIST, row

from harness.errors import DataError
from harness.report import claims, write_report
from harness.report.claims import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, claims_of, less_sensitive_to_k
from harness.report.markup import prose
from harness.tables import PlannedCell

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
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
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
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert "Figure 3.3" in page
    assert "Depth" in page


def test_text_is_escaped_and_metrics_are_code(page):
    assert "Estimates &lt;of&gt; log p &amp; more." in page
    assert "<code>-log p~*</code>" in page
    assert str(prose("a<b `x>y`")) == "a&lt;b <code>x&gt;y</code>"


def test_every_number_has_a_line_of_provenance(page):
    assert f"{len(metrics())} numbers" in page
    assert page.count("<td>cccccccccccc</td>") == len(metrics())
    assert "cpu: Testor 3000" in page


def test_biases_stand_beside_errors_and_may_be_unknown(tmp_path):
    known = metrics().assign(bias=1.171875, bias_error=0.25)
    for frame, n in ((known, len(known)), (metrics(), 0)):  # the second as an earlier version measured it
        write_report(frame, CELLS, "quick", [], tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert text.count("<td>1.17188</td>") == n
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
    csv(
        tmp_path,
        "figure_3_6",
        *({"k_inner": k, "k_total": total, "sd": sd, "n_repeats": 10} for k, total, sd in found),
    )
    assert claims.one_inner_sample_is_best(tmp_path).verdict == verdict


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


@pytest.mark.parametrize(("loss", "verdict"), [(0.4, HOLDS), (-0.4, FAILS), (0.1, UNDECIDED)], ids=str)
def test_the_least_useful_layer(tmp_path, loss, verdict):
    found = [("log p", 1, 0.9), ("log p", 2, loss), ("log p~*", 1, -5.0)]
    csv(
        tmp_path,
        "figure_depth",
        *({"metric": m, "variant": f"without layer {n}", "value": v, "sem": 0.1} for m, n, v in found),
    )
    claim = claims.every_layer_helps(tmp_path)
    assert (claim.verdict, claim.measured) == (verdict, f"{loss:+.2f} ± 0.10 nats without layer 2, on {MNIST}")


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


@pytest.mark.parametrize(("alone", "verdict"), [(0.09, HOLDS), (0.05, FAILS), (0.072, UNDECIDED)], ids=str)
def test_labels_alone_against_labels_and_images(tmp_path, alone, verdict):
    (tmp_path / "tables").mkdir()
    found = [("ssl_bihm", "", 0.01), ("ssl_bihm_low", "a", 0.14), ("ssl_bihm_low", "b", 0.07), ("label_mlp", "", alone)]
    rows = [{"method": m, "variant": v, "metric": "error", "value": f"{x}", "status": "ok"} for m, v, x in found]
    rows += [{"method": "ssl_bihm_low", "variant": "b", "metric": "layers", "value": "3-2", "status": "ok"}]
    csv(tmp_path / "tables", "table_4_1", *({**row, "sem": 0.003} for row in rows))
    claim = claims.labels_alone_do_worse(tmp_path / "figures", "label_mlp", "a network")
    assert claim.verdict == verdict
    assert claim.measured == f"semi-supervised 0.070 ± 0.003, labels alone {alone:.3f} ± 0.003"
    other = claims.labels_alone_do_worse(tmp_path / "figures", "label_logistic", "logistic regression")
    assert other.verdict == NOT_MEASURED
