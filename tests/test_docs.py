"""What the documentation says of files, folders and columns is true."""

import dataclasses
import re

import pandas as pd
import pytest

from harness.check.audit import Violation
from harness.check.curves import COLUMNS as CURVES
from harness.check.verdict import Verdict
from harness.check.write import PUBLISHED
from harness.compute.places import PACKAGE, ROOT
from harness.evaluation.per_row import OF_CELLS
from harness.reporting.budgets import COLUMNS as BUDGETS
from harness.reporting.publish import CODE, FACTS, KEY
from harness.reporting.tables.build import CSV_COLUMNS
from harness.storage.method_code import VERSION
from harness.storage.search import COLUMNS, FOUND

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def section(title):
    """The part of ``docs/results.md`` below a heading."""
    found = RESULTS[RESULTS.index(f"## {title}") :]
    return found[: found.find("\n## ", 1)]


def fields(cls):
    return [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page):
    written = ("methods/mine.py", "methods/mine.yaml", "harness/reporting/figures/figure_NAME.py")
    for path in re.findall(r"`((?:workflows|harness|methods|tests|\.ci)/[\w./]*)`", page.read_text(encoding="utf-8")):
        assert path in written or (ROOT / path).exists(), path


def test_every_folder_of_the_package_is_described():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - {"shipped"}
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == folders


@pytest.mark.parametrize(
    ("title", "columns"),
    [
        ("`metrics.parquet`", pd.read_parquet(PUBLISHED / "quick" / "metrics.parquet").columns),
        ("`rows.parquet`", OF_CELLS.names),
        ("`tables/*.csv`", CSV_COLUMNS),
        ("`searches.csv`", (*COLUMNS, *FOUND, VERSION, "rank", "chosen", "values", "training", "training_digest")),
        ("`budgets.csv`", BUDGETS),
        ("`check/`", ("against", *(name for name in fields(Verdict) if name != "key"), *fields(Violation), *CURVES)),
        ("`results/published/PRESET/`", (*KEY, *FACTS, *CODE, "model", "training", "evaluation")),
    ],
)
def test_every_column_is_described(title, columns):
    named = set(re.findall(r"`(\w+)`", section(title)))
    assert set(columns) <= named
