"""The report in a browser: no overflow and no script error at two widths, light and dark; sorting, filters, links.

A copy of the page, in a frame as wide as the window of the test, gets a script that looks at it and tells the page
around it, which headless Chromium prints. Without Chromium these tests are skipped; what the page consists of is tested
in ``test_report``.
"""

import html
import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

from harness.check.rules import Rules
from harness.check.write import compared
from harness.comparison.read import read_measured
from harness.compute.places import PUBLISHED
from harness.reporting.report import write_report
from harness.reporting.tables import PlannedCell
from harness.reporting.tables.overview import overview, overview_page
from harness.settings.config import load_settings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: chromium)")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
ERRORS = "<script>const errors = []; addEventListener('error', (event) => errors.push(String(event.message)));</script>"
SEEN = """<script>addEventListener("load", () => {
  const found = (%s)();
  parent.postMessage(JSON.stringify({...found, errors}), "*");
});</script>"""
FRAME = """<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="{scheme}">
<iframe src="report.html{anchor}" style="width: {width}px; height: 900px; border: 0; color-scheme: {scheme}"></iframe>
<pre></pre><script>addEventListener("message", (event) => {{
  document.querySelector("pre").textContent = event.data;
}});</script>"""
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")


@pytest.fixture(name="report", scope="module")
def published_report(tmp_path_factory):
    """The report of the published quick run, with all that it can have but the folders of runs."""
    run = PUBLISHED / "quick"
    measured = read_measured(run)
    cells = measured.metrics[["dataset", "method", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    path = tmp_path_factory.mktemp("quick") / "report.html"
    write_report(
        measured.metrics,
        [PlannedCell(*cell) for cell in cells],
        "quick",
        sorted((run / "figures").glob("*.png")),
        path,
        overview_page(overview(measured, 0.05, 0.8)),
        compared(run, None, Rules.from_settings(load_settings())).comparisons["thesis"],
    )
    return path


def look(report, folder, script, width=1280, scheme="light", anchor=""):
    """What ``script``, a JavaScript function, returns in the page, and the errors of the page's own."""
    text = POLICY.sub("", report.read_text(encoding="utf-8"), count=1)  # which would forbid the script of this test
    text = text.replace("<head>", f"<head>{ERRORS}", 1).replace("</body>", f"{SEEN % script}</body>", 1)
    home = folder / report.parent.parent.name / report.parent.name
    home.mkdir(parents=True)
    (home / "report.html").write_text(text, encoding="utf-8")
    frame = home / "frame.html"
    frame.write_text(FRAME.format(width=width, scheme=scheme, anchor=anchor), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *options, profile, "--virtual-time-budget=10000", frame.as_uri()]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<pre>(.+?)</pre>", printed, re.DOTALL)
    assert found, f"the page said nothing: {printed[-500:]}"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_no_script_fails(report, tmp_path, width, scheme):
    """Wide tables scroll in a box of their own; at 1280 pixels none has to."""
    found = look(
        report,
        tmp_path,
        """() => {
          for (const each of document.querySelectorAll("details")) each.open = true;
          const box = (each) => each.closest(".wide") !== null;
          const right = [...document.querySelectorAll("body *")].filter((each) => !box(each))
            .map((each) => each.getBoundingClientRect().right);
          const boxes = [...document.querySelectorAll(".wide")].filter((each) => each.scrollWidth > each.clientWidth)
            .map((each) => `${each.textContent.slice(0, 40)}: ${each.scrollWidth} > ${each.clientWidth}`);
          const color = (name) => getComputedStyle(document.body)[name];
          return {window: innerWidth, page: document.scrollingElement.scrollWidth, right: Math.max(...right),
            boxes, background: color("backgroundColor"), text: color("color")};
        }""",
        width,
        scheme,
    )
    assert found["errors"] == []
    assert found["window"] == width
    assert found["page"] <= width
    assert found["right"] <= width
    assert width < 1280 or found["boxes"] == []
    shades = [sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("background", "text")]
    assert shades == sorted(shades, reverse=scheme == "light")


def test_headings_sort_the_rows_with_all_their_lines(report, tmp_path):
    found = look(
        report,
        tmp_path,
        """() => {
          const table = document.getElementById("table_3_1").parentElement.querySelector("#table_3_1 ~ .wide table");
          const rows = () => [...table.querySelectorAll("tbody.row")].map((row) =>
            [...row.rows].map((line) => [...line.cells].map((cell) => cell.textContent)));
          const button = table.tHead.rows[0].cells[2].querySelector("button");
          const seen = {before: rows()};
          for (const step of ["up", "down", "after"]) { button.click(); seen[step] = rows(); }
          return {...seen, blocks: [...table.querySelectorAll("tbody.block")].every((block) => !block.hidden)};
        }""",
    )
    assert found["errors"] == []

    def numbers(rows):
        return [float(row[0][2].split()[0]) for row in rows if row[0][2][:1].isdigit()]

    assert numbers(found["up"]) == sorted(numbers(found["before"]))
    assert numbers(found["down"]) == sorted(numbers(found["before"]), reverse=True)
    assert all(row[0][2] == "–" for row in found["up"][len(numbers(found["up"])) :])
    assert sorted(map(str, found["up"])) == sorted(map(str, found["before"]))  # each with its own lines
    assert numbers(found["up"]) != numbers(found["before"])
    assert found["after"] == found["before"]
    assert found["blocks"]


def test_a_count_of_the_summary_filters_the_verdicts(report, tmp_path):
    found = look(
        report,
        tmp_path,
        """() => {
          const shown = () => [...document.querySelectorAll("#verdicts tbody.row")].filter((row) => !row.hidden)
            .map((row) => row.rows[0].cells[0].textContent);
          const counts = [...document.querySelectorAll("a.count")].map((link) => {
            link.click();
            return [link.querySelector("b").textContent, link.textContent, shown()];
          });
          const field = document.querySelector("#numbers ~ details input[type=search]");
          field.value = "dataset:adult nade";
          field.dispatchEvent(new Event("input"));
          const numbers = [...document.querySelectorAll("#provenance tbody.row")].filter((row) => !row.hidden)
            .map((row) => [...row.rows[0].cells].slice(0, 2).map((cell) => cell.textContent));
          return {counts, numbers};
        }""",
    )
    assert found["errors"] == []
    assert len(found["counts"]) >= 3
    for number, text, shown in found["counts"]:
        assert shown == [text.removeprefix(number)] * int(number)
    frame = pd.read_parquet(PUBLISHED / "quick" / "metrics.parquet")
    adult = frame[(frame["dataset"] == "adult") & frame["method"].str.contains("nade")]
    assert found["numbers"] == adult[["dataset", "method"]].to_numpy().tolist()


def test_a_number_leads_to_its_run_which_opens(report, tmp_path):
    found = look(
        report,
        tmp_path,
        """() => {
          const run = document.getElementById("run-adult-nade");
          return {open: run.open, others: document.querySelectorAll("details.run[open]").length,
            text: run.textContent};
        }""",
        anchor="#run-adult-nade",
    )
    assert (found["errors"], found["open"], found["others"]) == ([], True, 1)
    assert "seed 0" in found["text"]


@pytest.mark.parametrize("copied", [False, True], ids=["beside the runs", "a copy elsewhere"])
def test_files_of_runs_are_linked_only_beside_the_runs(report, tmp_path, copied):
    text = report.read_text(encoding="utf-8")
    link = '<a class="file" href="runs/adult/config.json" title="config.json">config.json</a>'
    page = tmp_path / report.parent.parent.name / report.parent.name / "report.html"
    page.parent.mkdir(parents=True)
    text = text.replace("</h1>", f"</h1><p id='files'>{link}</p>", 1)
    page.write_text(text.replace('data-home="', 'data-home="not/') if copied else text, encoding="utf-8")
    script = """() => ({links: document.querySelectorAll("#files a").length,
      text: document.getElementById("files").textContent})"""
    found = look(page, tmp_path / "seen", script)
    assert found == {"links": int(not copied), "text": "config.json", "errors": []}
