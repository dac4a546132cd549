"""The report: complete, self-contained, honest about claims, and nothing in it can break the page."""

import base64
import math
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_tables import BIHM, LIKELIHOODS, MNIST, row

from harness.errors import DataError
from harness.report import write_report
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
