"""The tables: pooling, joining with the thesis, words for every status, and text that stays well-formed."""

import csv
import math
import re
import subprocess
import sys
from io import StringIO

import pandas as pd
import pytest

from harness import atomic
from harness.errors import HarnessError
from harness.reporting.tables import PlannedCell, pages, render, write_tables
from harness.reporting.tables.build import CHANCE_COLUMNS, CSV_COLUMNS, Entry
from harness.reporting.tables.cell_text import difference_text, with_error
from harness.reporting.tables.layout import TABLES, UCI, key
from harness.reporting.tables.pooling import Measured, pooled_error
from harness.reporting.tables.render import at_a_glance
from harness.reporting.tables.reported import Key, reported

MNIST = "binarized_mnist"
TITLES = {"bihm": "BiHM", "rws": "RWS - SBN", "nade": "NADE", "factorised": "independent Bernoullis"}
LIKELIHOODS = {"-log p": 2.0, "bound -log p": 5.0, "ess p": 3.0}
BIHM = {"-log p~": 2.0, "-log p~*": 2.5, "-log p*": 2.3, "-2 log Z": 0.2, "ess p*": 60.0, **LIKELIHOODS}
SSL = {"bound -log p*": 111.2, "-log p~*(y|x)": 0.66, "error": 0.1812}


def row(cell, metric, value, **changes):
    """A measured number, as the evaluation writes it."""
    exact = cell.method in ("nade", "factorised")
    values = {
        "preset": "quick",
        **cell._asdict(),
        "title": TITLES.get(cell.method, cell.method),
        "kind": "control" if cell.method == "factorised" else "latent",
        "seed": 0,
        "split": "test",
        "metric": metric,
        "value": value,
        "sem": 0.05,
        "mc_error": 0.01,
        "k": 0 if exact else 1000,
        "n_rows": 1000,
        "estimator": "importance sampling",
        "seconds": 2.0,
        "train_seconds": 20.0,
        "n_updates": 0 if cell.method == "factorised" else 5000,
        "layers": "" if exact else "100-70-50-25",
        "device": "cpu: Testor 3000",
        "data_official": True,
        "data_note": "",
        "status": "ok",
        "message": "",
    }
    return {**values, **changes}


def ended(cell, status, message="", **changes):
    """The one row of a run without numbers."""
    gone = dict.fromkeys(("value", "sem", "mc_error", "k", "n_rows", "seconds", "train_seconds", "n_updates"), math.nan)
    return {**row(cell, "", math.nan, status=status, message=message), **gone, **changes}


def measured(cell, **changes):
    """All rows of a run that went well."""
    base = 100.0 if cell.dataset == MNIST else 10.0 + len(cell.dataset)
    if cell.method == "ssl_bihm":
        return [row(cell, metric, value, **changes) for metric, value in SSL.items()]
    if cell.method == "bihm":
        plain = ("-2 log Z", "ess p", "ess p*")
        return [row(cell, m, v + base * (m not in plain), **changes) for m, v in BIHM.items()]
    metrics = {"-log p": 2.0} if cell.method in ("nade", "factorised") else LIKELIHOODS
    return [row(cell, metric, value + base, **changes) for metric, value in metrics.items()]


PLANNED = [
    *(PlannedCell(dataset, method, "") for dataset in UCI for method in ("nade", "rws", "bihm", "factorised")),
    *(PlannedCell(MNIST, method, "") for method in ("nade", "vae", "factorised")),
    PlannedCell(MNIST, "iwae", "2 layers"),
    PlannedCell(MNIST, "rws", "5 layers"),
    PlannedCell(MNIST, "bihm", "12 layers"),
    *(PlannedCell(MNIST, "ssl_bihm", f"gamma={g}") for g in ("-0.001", "0", "0.001", "-0.01", "0.1", "0.01")),
]
RCV1 = {"data_official": False, "data_note": "10,000 rows of the official validation set, cut | in proportion_2"}


def rows_of(planned=PLANNED):
    """Every cell measured once; rcv1 is a stand-in, connect4 official with a remark."""
    special = {"rcv1": RCV1, "connect4": {"data_note": "test rows in another order"}}
    return [r for cell in planned for r in measured(cell, **special.get(cell.dataset, {}))]


def without(rows, *cells):
    return [r for r in rows if PlannedCell(r["dataset"], r["method"], r["variant"]) not in cells]


def write(folder, rows, planned=PLANNED, preset="quick"):
    """Write the tables; name of a file -> its text."""
    paths = write_tables(pd.DataFrame(rows), planned, preset, folder)
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def cells(text):
    """Key -> row of a written csv, in text."""
    return {tuple(r[c] for c in CSV_COLUMNS[:4]): r for r in csv.DictReader(StringIO(text))}


def markdown_row(text, label, kind="ours"):
    """The cells of a row of a Markdown table."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    start = next(i for i, line in enumerate(lines) if line[0] == label)
    return next(line[2:] for line in lines[start : start + 3] if line[1] == kind)


def notes(text):
    return [line for line in text.splitlines() if line.startswith("- ")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tables"), rows_of())


def test_twelve_files(written):
    stems = ("table_3_1", "table_3_2", "table_3_3", "table_4_1")
    assert set(written) == {f"{stem}.{ending}" for stem in stems for ending in ("csv", "md", "tex")}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_csv_has_the_contract_columns_and_every_number_of_the_thesis(written, table):
    text = written[f"{table.name}.csv"]
    of_labels = CHANCE_COLUMNS if table.number == "4.1" else ()
    assert tuple(text.splitlines()[0].split(",")) == (*CSV_COLUMNS, *of_labels)
    found = cells(text)
    for wanted, printed in reported()[table.number].items():
        assert found[wanted]["reported"] == printed
        assert found[wanted]["status"] in ("ok", "not planned")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_layout_covers_the_reference_file(table):
    keys = {key(r, column) for block in table.blocks for r in block.rows for column in table.columns}
    assert keys >= set(reported()[table.number])


def test_remark_on_the_printed_identity():
    """By hand, nips: 272.62 - 1.97 = 270.65, but the thesis prints 272.71."""
    assert any("up to 2.06 nats (nips)" in remark for remark in TABLES[0].remarks)


def test_values_of_the_csv(written):
    found = cells(written["table_3_1.csv"])["adult", "bihm", "", "-log p*"]
    expected = {"value": "17.3", "sem": "0.05", "n_seeds": "1", "n_updates": "5000", "k": "1000", "seconds": "22.0"}
    assert expected.items() <= found.items()
    assert cells(written["table_3_1.csv"])["adult", "nade", "", "-log p"]["k"] == "0"
    missing = cells(written["table_3_1.csv"])["adult", "darn", "", "-log p"]
    assert (missing["value"], missing["n_seeds"], missing["status"]) == ("", "0", "not planned")
    layers = cells(written["table_3_2.csv"])["adult", "bihm", "", "layers"]
    assert layers["value"] == layers["reported"] == "100-70-50-25"
    assert layers["seconds"] == "20.0"


def test_monte_carlo_error_stands_in_for_a_missing_standard_error(tmp_path):
    rows = [{**r, "sem": math.nan, "mc_error": 0.03} if r["metric"] == "-2 log Z" else r for r in rows_of()]
    assert cells(write(tmp_path, rows)["table_3_1.csv"])["dna", "bihm", "", "-2 log Z"]["sem"] == "0.03"


def test_difference_line(written):
    ours, thesis, difference = (
        markdown_row(written["table_3_1.md"], "NADE", kind) for kind in ("ours", "thesis", "ours − thesis")
    )
    assert (ours[0], thesis[0], difference[0]) == ("17.00 ± 0.05", "13.19", "+3.81")
    assert markdown_row(written["table_3_1.md"], r"`-log p~*`", "ours − thesis")[3] == "+12.1"  # 21.50 - "9.4"
    assert markdown_row(written["table_3_2.md"], "ADULT", "ours − thesis") == ["same", "differs", "−21.50"]
    assert markdown_row(written["table_3_3.md"], "VAE", "ours − thesis") == ["+8.8", "+13.3"]
    controls = written["table_3_1.md"].partition("**controls**")[2]
    assert "| ours " in controls
    assert "| thesis " not in controls


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (13.674, 0.052, "13.67 ± 0.05"),
        (276.881, 1.234, "276.9 ± 1.2"),
        (276.881, 14.2, "277 ± 14"),
        (13.67, 0.0012, "13.67 ± <0.01"),
        (13.67, math.nan, "13.67 ± n/a"),
        (13.67, 0.0, "13.67 ± 0.00"),
        (-0.0012, 0.02, "0.00 ± 0.02"),
        (-0.52, 0.02, "−0.52 ± 0.02"),
    ],
)
def test_digits_follow_the_error(value, error, text):
    assert with_error(value, error, 2) == text


def test_pooled_error_is_test_set_error_plus_spread_over_seeds():
    values, errors = [10.0, 10.4, 10.6], [0.1, 0.2, 0.3]
    mean = sum(values) / 3
    spread = sum((v - mean) ** 2 for v in values) / 2
    assert pooled_error(values, errors) == pytest.approx(math.sqrt((0.01 + 0.04 + 0.09) / 3 + spread / 3))
    assert pooled_error([3.0], [0.2]) == pytest.approx(0.2)
    assert pooled_error([3.0, 3.0], [math.nan, 0.2]) == pytest.approx(0.2)
    assert math.isnan(pooled_error([3.0], [math.nan]))


def test_seeds_are_pooled_and_failed_ones_told(tmp_path):
    cell = PlannedCell("adult", "nade", "")
    rows = without(rows_of(), cell)
    rows += [row(cell, "-log p", value, seed=seed, sem=0.1) for seed, value in enumerate((13.0, 13.4))]
    rows.append(ended(cell, "diverged", "loss is nan at update 7", seed=2))
    texts = write(tmp_path, rows)
    found = cells(texts["table_3_1.csv"])[(*cell, "-log p")]
    assert float(found["value"]) == pytest.approx(13.2)
    assert float(found["sem"]) == pytest.approx(math.sqrt(0.01 + 0.08 / 2))
    assert (found["n_seeds"], found["status"]) == ("2", "ok")
    assert markdown_row(texts["table_3_1.md"], "NADE")[0] == "13.20 ± 0.22¶"
    assert any("seed 2: diverged (loss is nan at update 7)" in note for note in notes(texts["table_3_1.md"]))
    assert "seeds per cell: 1 to 2;" in texts["table_3_1.md"]


def test_stand_ins_are_marked_and_not_compared(written):
    text = written["table_3_1.md"]
    header = next(line for line in text.splitlines() if line.startswith("| Model"))
    assert "RCV1†" in header
    assert "CONNE§" in header
    assert "WEB " in header
    for label in ("NADE", "RWS - SBN", "`-log p*`"):
        assert markdown_row(text, label, "ours − thesis")[6] == "n/c"
    assert any(r"10,000 rows of the official validation set, cut | in proportion_2" in note for note in notes(text))
    assert any(note.startswith("- n/c: not comparable") for note in notes(text))
    assert any("test rows in another order" in note for note in notes(text))
    assert "n/c" not in written["table_3_3.md"]
    assert r"cut \textbar{} in proportion\_2" in written["table_3_1.tex"]


@pytest.mark.parametrize("status", ["unavailable", "diverged", "failed"])
def test_failures_are_words_with_their_message(tmp_path, status):
    gone = PlannedCell("nips", "rws", "")
    texts = write(tmp_path, [*without(rows_of(), gone), ended(gone, status, "why_not 100%")])
    found = cells(texts["table_3_1.csv"])[(*gone, "-log p")]
    assert (found["value"], found["n_seeds"], found["status"]) == ("", "0", status)
    assert markdown_row(texts["table_3_1.md"], "RWS - SBN")[4] == status
    assert markdown_row(texts["table_3_2.md"], "NIPS-0-12")[1] == status
    assert f"- {status}: nips (RWS - SBN): why_not 100%" in notes(texts["table_3_1.md"])
    assert r"why\_not 100\%" in texts["table_3_1.tex"]


def test_a_data_set_that_nobody_had(tmp_path):
    gone = [cell for cell in PLANNED if cell.dataset == "web"]
    lost = [ended(cell, "unavailable", "get it from X", data_official=None) for cell in gone]
    text = write(tmp_path, without(rows_of(), *gone) + lost)["table_3_1.md"]
    assert "- unavailable: web (NADE, RWS - SBN, BiHM, independent Bernoullis): get it from X" in notes(text)
    assert "web is a stand-in" not in text


def test_all_failed(tmp_path):
    texts = write(tmp_path, [ended(cell, "failed", "no disk") for cell in PLANNED])
    assert "no cell could be measured" in texts["table_3_1.md"]
    assert markdown_row(texts["table_3_1.md"], "independent Bernoullis")[0] == "failed"
    assert markdown_row(texts["table_3_3.md"], "NADE") == ["–", "failed"]
    assert markdown_row(texts["table_4_1.md"], "0") == ["failed"] * 4


def test_time_limit_is_marked_and_compared(tmp_path):
    cell = PlannedCell("dna", "bihm", "")
    rows = without(rows_of(), cell) + measured(cell, status="timeout", message="600 s")
    texts = write(tmp_path, rows)
    assert cells(texts["table_3_1.csv"])[(*cell, "-log p")]["status"] == "timeout"
    assert markdown_row(texts["table_3_1.md"], "`-log p`")[2] == "15.00 ± 0.05‡"
    assert markdown_row(texts["table_3_1.md"], "`-log p`", "ours − thesis")[2] == "−71.49"
    assert any("BiHM on dna" in note for note in notes(texts["table_3_1.md"]) if note.startswith("- ‡"))


def test_a_reservation_is_marked_and_told(tmp_path):
    doubtful = ("mushrooms", "bihm", "-2 log Z")
    rows = [
        {**r, "message": "not reliable: 0.1% effective samples"}
        if (r["dataset"], r["method"], r["metric"]) == doubtful
        else r
        for r in rows_of()
    ]
    text = write(tmp_path, rows)["table_3_1.md"]
    assert markdown_row(text, "`-2 log Z`")[3] == "0.20 ± 0.05‖"
    assert "‖" not in write(tmp_path, rows)["table_3_2.md"]
    note = next(note for note in notes(text) if note.startswith("- ‖"))
    assert "`-2 log Z` of BiHM on mushrooms (not reliable: 0.1% effective samples)" in note


def test_a_bias_above_the_error_is_marked_and_told(tmp_path):
    """Over seeds biases are averaged; they are not averaged away, as Monte-Carlo errors are."""
    biased = ("dna", "bihm", "-log p~")

    def of_seed(seed, bias):
        return [
            {**r, "seed": seed, "bias": bias if (r["dataset"], r["method"], r["metric"]) == biased else 0.049}
            for r in rows_of()
        ]

    texts = write(tmp_path, [*of_seed(0, 1.25), *of_seed(1, 1.15)])
    found = cells(texts["table_3_1.csv"])[(*biased[:2], "", biased[2])]
    assert float(found["bias"]) == pytest.approx(1.2)
    assert float(found["mc_error"]) == pytest.approx(0.01 / math.sqrt(2))
    assert markdown_row(texts["table_3_1.md"], "`-log p~`")[2].endswith("⋄")
    assert texts["table_3_1.md"].count("⋄") == 2  # the number and the note
    assert r"$\diamond$" in texts["table_3_1.tex"]
    (note,) = (note for note in notes(texts["table_3_1.md"]) if note.startswith("- ⋄"))
    assert "`-log p~` of BiHM on dna (+1.20)" in note
    unknown = [{**r, "bias": math.nan if r["seed"] else 1.25} for r in [*of_seed(0, 1.25), *of_seed(1, 1.15)]]
    texts = write(tmp_path, unknown)
    assert cells(texts["table_3_1.csv"])[(*biased[:2], "", biased[2])]["bias"] == ""  # of one seed nothing is known
    assert "⋄" not in texts["table_3_1.md"]


def test_what_is_worse_than_independent_bernoullis_is_marked_and_told(tmp_path):
    """By more than the errors of both; a bound may be above it."""
    control = [r for r in rows_of() if r["method"] == "factorised"]
    better = [{**r, "value": r["value"] - (r["metric"] == "-log p*")} for r in rows_of() if r not in control] + control
    assert not any("▽" in text for text in write(tmp_path, better).values())

    def shifted(method, metric, by):
        return [
            {**r, "value": r["value"] + by}
            if (r["dataset"], r["method"], r["metric"]) == ("dna", method, metric)
            else r
            for r in better
        ]

    texts = write(tmp_path, shifted("rws", "-log p", 0.2))
    assert markdown_row(texts["table_3_1.md"], "RWS - SBN")[2] == "15.20 ± 0.05▽"
    assert markdown_row(texts["table_3_1.md"], "independent Bernoullis")[2] == "15.00 ± 0.05"
    (note,) = (note for note in notes(texts["table_3_1.md"]) if note.startswith("- ▽"))
    assert note.endswith("of the difference: `-log p` of RWS - SBN on dna (they have 15.00).")
    assert r"15.20 $\pm$ 0.05$\bigtriangledown$" in texts["table_3_1.tex"]
    assert "▽" in write(tmp_path, shifted("bihm", "-log p*", 1.5))["table_3_1.md"]
    assert "▽" not in write(tmp_path, shifted("rws", "-log p", 0.14))["table_3_1.md"]
    assert "▽" not in write(tmp_path, shifted("bihm", "-log p~*", 9.0))["table_3_1.md"]
    unknown = [{**r, "sem": math.nan, "mc_error": math.nan} for r in shifted("rws", "-log p", 9.0)]
    assert "▽" not in write(tmp_path, unknown)["table_3_1.md"]


def labels_with(**changes):
    """All rows, one semi-supervised model with these values, and with ``chance`` beside both of them if it is given."""
    values = {"error": changes["error"], "-log p~*(y|x)": changes["log_label"]}
    beside = {"chance": changes["chance"]} if "chance" in changes else {}
    return [
        {**r, "value": values[r["metric"]], **beside} if r["variant"] == "gamma=0" and r["metric"] in values else r
        for r in rows_of()
    ]


def test_what_is_at_chance_is_marked_and_told(tmp_path):
    """Not below what guessing has by more than two standard errors, here of 0.05: ten equally frequent classes."""
    assert not any("∘" in text for name, text in write(tmp_path, rows_of()).items() if name != "table_4_1.csv")
    texts = write(tmp_path, labels_with(error=0.81, log_label=2.21))
    shown = markdown_row(texts["table_4_1.md"], "0")
    assert (shown[2], shown[3]) == ("2.21 ± 0.05∘", "0.810 ± 0.050∘")
    (note,) = (note for note in notes(texts["table_4_1.md"]) if note.startswith("- ∘"))
    assert "guessing has 0.900 as `error` on binarized_mnist" in note
    assert "guessing has 2.30 as `-log p~*(y|x)` on binarized_mnist" in note
    assert r"0.810 $\pm$ 0.050$\circ$" in texts["table_4_1.tex"]
    found = cells(texts["table_4_1.csv"])
    assert [found[(MNIST, "ssl_bihm", f"gamma={g}", "error")]["at_chance"] for g in ("0", "0.1")] == ["True", "False"]
    assert float(found[(MNIST, "ssl_bihm", "gamma=0", "error")]["chance"]) == pytest.approx(0.9)
    assert found[(MNIST, "ssl_bihm", "gamma=0", "bound -log p*")]["chance"] == ""
    texts = write(tmp_path, labels_with(error=0.79, log_label=2.19))
    assert "∘" not in texts["table_4_1.md"]
    assert "True" not in texts["table_4_1.csv"]


def test_chance_is_that_of_the_labels_where_measurements_say_so(tmp_path):
    """Of which one class may be more frequent than the others."""
    assert "∘" not in write(tmp_path, labels_with(error=0.6, log_label=1.2))["table_4_1.md"]
    text = write(tmp_path, labels_with(error=0.6, log_label=0.2, chance=0.65))["table_4_1.md"]
    assert markdown_row(text, "0")[3] == "0.600 ± 0.050∘"
    assert "guessing has 0.650 as `error`" in text
    assert "∘" not in write(tmp_path, labels_with(error=0.6, log_label=0.2, chance=0.75))["table_4_1.md"]


def test_where_no_number_is_known_nothing_is_at_chance(tmp_path):
    cell = PlannedCell(MNIST, "ssl_bihm", "gamma=0")
    texts = write(tmp_path, [*without(rows_of(), cell), ended(cell, "diverged")])
    assert "∘" not in texts["table_4_1.md"]
    assert cells(texts["table_4_1.csv"])[(*cell, "error")]["at_chance"] == ""


def test_one_number_that_diverged_leaves_the_architecture(tmp_path):
    rows = [
        {**r, "status": "diverged", "value": math.nan, "message": "-log p* came out as inf"}
        if r["metric"] == "-log p*"
        else r
        for r in rows_of()
    ]
    texts = write(tmp_path, rows)
    assert cells(texts["table_3_1.csv"])["adult", "bihm", "", "-log p*"]["status"] == "diverged"
    assert cells(texts["table_3_1.csv"])["adult", "bihm", "", "-log p~"]["status"] == "ok"
    assert cells(texts["table_3_2.csv"])["adult", "bihm", "", "layers"]["value"] == "100-70-50-25"


def test_a_model_that_failed_once_keeps_one_row(tmp_path):
    gone = PlannedCell("adult", "factorised", "")
    rows = [*without(rows_of(), gone), ended(gone, "failed", kind="", title="")]
    text = write(tmp_path, rows)["table_3_1.md"]
    assert markdown_row(text, "independent Bernoullis")[:2] == ["failed", "20.00 ± 0.05"]
    assert text.count("| independent Bernoullis") == 1


def test_nothing_but_statuses_is_known(tmp_path):
    columns = ("preset", "dataset", "method", "variant", "seed", "metric", "value", "status")
    rows = [{c: ended(cell, "failed")[c] for c in columns} for cell in PLANNED]
    assert markdown_row(write(tmp_path, rows)["table_3_3.md"], "VAE") == ["failed", "failed"]


def test_a_value_that_is_no_number_is_a_divergence(tmp_path):
    rows = [{**r, "value": math.inf} if (r["dataset"], r["method"]) == ("web", "nade") else r for r in rows_of()]
    assert markdown_row(write(tmp_path, rows)["table_3_1.md"], "NADE")[7] == "diverged"


def test_methods_and_cells_that_are_not_planned(tmp_path):
    planned = [cell for cell in PLANNED if cell != ("web", "nade", "")]
    texts = write(tmp_path, rows_of(planned), planned)
    assert "| DARN" not in texts["table_3_1.md"]
    assert any(note.startswith("- Left out") and "DARN" in note for note in notes(texts["table_3_1.md"]))
    assert cells(texts["table_3_1.csv"])["adult", "darn", "", "-log p"]["status"] == "not planned"
    assert markdown_row(texts["table_3_1.md"], "NADE")[7] == "not planned"
    assert "| NVIL" not in texts["table_3_3.md"]
    assert sum(note.startswith("- not planned:") for note in notes(texts["table_3_1.md"])) == 1


def test_one_column_that_was_asked_for_is_one_column(tmp_path):
    """What the thesis has beside it is left out and named; the csv has all of it."""
    planned = [cell for cell in PLANNED if cell.dataset == "dna"]
    texts = write(tmp_path, rows_of(planned), planned)
    head = next(line for line in texts["table_3_1.md"].splitlines() if line.startswith("| Model"))
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["Model", "", "DNA"]
    assert "not planned" not in texts["table_3_1.md"] + texts["table_3_1.tex"]
    assert markdown_row(texts["table_3_1.md"], "other work", "printed") == ["81.04"]
    (note,) = [note for note in notes(texts["table_3_1.md"]) if note.startswith("- Left out")]
    assert "ADULT" in note
    assert "DNA" not in note
    for name in ("table_3_3", "table_4_1"):
        assert "no cell of it: everything that the thesis has in it" in texts[f"{name}.md"]
    assert cells(texts["table_3_1.csv"]).keys() >= reported()["3.1"].keys()


def test_best_published_values_stand_below_table_3_1(written):
    found = markdown_row(written["table_3_1.md"], "other work", "printed")
    assert found == ["13.16", "11.68", "81.04", "9.40", "271.11", "26.43", "46.09", "27.87"]
    (note,) = [note for note in notes(written["table_3_1.md"]) if note.startswith("- Best published")]
    assert "dna 1400/600/1186: DARN in Gregor" in note
    assert "other work" in written["table_3_1.tex"]
    assert not any("other work" in written[f"{name}.md"] for name in ("table_3_2", "table_3_3", "table_4_1"))


def test_planned_cell_without_rows_is_an_error_naming_it(tmp_path):
    gone = PlannedCell(MNIST, "rws", "5 layers")
    with pytest.raises(HarnessError, match="binarized_mnist/rws/5 layers"):
        write(tmp_path, without(rows_of(), gone))
    with pytest.raises(HarnessError, match="adult/nade/default"):
        write(tmp_path, rows_of(), preset="full")
    assert not list(tmp_path.iterdir())


def test_missing_metric_of_a_healthy_cell_is_an_error_naming_it(tmp_path):
    rows = [r for r in rows_of() if (r["dataset"], r["metric"]) != ("ocr_letters", "-2 log Z")]
    with pytest.raises(HarnessError, match="-2 log Z of ocr_letters/bihm"):
        write(tmp_path, rows)


def test_a_number_measured_twice_is_an_error(tmp_path):
    with pytest.raises(HarnessError, match="adult/nade//0/-log p"):
        write(tmp_path, [*rows_of(), row(PlannedCell("adult", "nade", ""), "-log p", 3.0)])


def test_missing_column_is_an_error_naming_it(tmp_path):
    frame = pd.DataFrame(rows_of()).drop(columns="status")
    with pytest.raises(HarnessError, match="none named status"):
        write_tables(frame, PLANNED, "quick", tmp_path)


def test_new_methods_get_rows_of_their_own(tmp_path):
    new = [
        PlannedCell("adult", "newbie", ""),
        PlannedCell(MNIST, "newbie", "deep"),
        PlannedCell("adult", "bihm", "3 layers"),
        PlannedCell(MNIST, "ssl_bihm", "gamma=0.5"),
    ]
    planned = PLANNED + new
    texts = write(tmp_path, rows_of(planned), planned)
    for name, cell, metric in [
        ("table_3_1", new[0], "-log p"),
        ("table_3_1", PlannedCell("adult", "factorised", ""), "-log p"),
        ("table_3_1", new[2], "-log p~*"),
        ("table_3_3", new[1], "-log p"),
        ("table_3_3", new[1], "bound -log p"),
        ("table_3_3", PlannedCell(MNIST, "factorised", ""), "-log p"),
        ("table_4_1", new[3], "error"),
    ]:
        found = cells(texts[f"{name}.csv"])[(*cell, metric)]
        assert (found["reported"], found["status"]) == ("", "ok")
        assert float(found["value"]) > 0
    assert markdown_row(texts["table_3_1.md"], "newbie")[:2] == ["17.00 ± 0.05", "–"]
    assert markdown_row(texts["table_3_1.md"], "BiHM (3 layers) `-2 log Z`")[0] == "0.20 ± 0.05"
    assert markdown_row(texts["table_3_3.md"], "newbie (deep)") == ["105.00 ± 0.05", "102.00 ± 0.05"]
    assert markdown_row(texts["table_4_1.md"], "ssl_bihm (gamma=0.5)")[3] == "0.181 ± 0.050"
    assert texts["table_3_1.md"].index("**controls**") < texts["table_3_1.md"].index("**added here**")
    assert "ssl_bihm" not in texts["table_3_3.csv"]


def test_an_exact_number_stands_among_its_estimates_under_its_own_name(tmp_path):
    """And under the one that it was published with, before it had its own."""
    control = PlannedCell(MNIST, "label_mlp", "")
    for metric in ("-log p(y|x)", "-log p~*(y|x)"):
        rows = [row(control, metric, 0.35, mc_error=0.0), row(control, "error", 0.1, mc_error=0.0)]
        texts = write(tmp_path, [*rows_of(), *rows], [*PLANNED, control])
        assert markdown_row(texts["table_4_1.md"], "label_mlp")[2] == "0.35 ± 0.05"
        assert cells(texts["table_4_1.csv"])[(*control, metric)]["value"] == "0.35"
        assert "label_mlp" not in texts["table_3_3.csv"]


def test_a_model_of_rows_and_labels_is_in_the_tables_of_both(tmp_path):
    """As far as it was measured: files of earlier runs have the metrics of one."""
    both = PlannedCell(MNIST, "ssl_bihm", "gamma=0")
    rows = [*rows_of(), *(row(both, metric, 100.0) for metric in LIKELIHOODS)]
    texts = write(tmp_path, rows)
    assert markdown_row(texts["table_3_3.md"], "ssl_bihm (gamma=0)") == ["100.00 ± 0.05", "100.00 ± 0.05"]
    assert markdown_row(texts["table_4_1.md"], "0")[3] == "0.181 ± 0.050"
    assert "ssl_bihm (gamma=0.1)" not in texts["table_3_3.md"]
    rows = [*without(rows, both), ended(both, "failed")]
    assert "ssl_bihm" in write(tmp_path, rows)["table_3_3.csv"]


def test_caption_says_how_it_was_made(written):
    caption = written["table_3_1.md"].splitlines()[2]
    for fact in (
        "Preset quick",
        "updates: 5,000 (0 where",
        "seeds per cell: 1",
        "samples `K`: 1,000",
        "cpu: Testor 3000",
        "measured in this run",
    ):
        assert fact in caption


def test_caption_tells_parts_of_test_sets(tmp_path):
    rows = [{**r, "n_test": 1000 if r["dataset"] == "dna" else 26147} for r in rows_of()]
    caption = write(tmp_path, rows)["table_3_1.md"].splitlines()[2]
    assert "test rows: all of a set or 1,000 drawn at random;" in caption


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_markdown_columns_are_aligned(written, table):
    lines = [line for line in written[f"{table.name}.md"].splitlines() if line.startswith("|")]
    bars = {tuple(m.start() for m in re.finditer(r"(?<!\\)\|", line)) for line in lines}
    assert len(bars) == 1
    assert len(bars.pop()) == len(table.columns) + 3


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tex_is_well_formed(written, table):
    text = "\n".join(line for line in written[f"{table.name}.tex"].splitlines() if not line.startswith("%"))
    depth = 0
    for token in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert not re.search(r"(?<!\\)[%#]", text)
    assert not re.search(r"(?<!\\)[_^]", re.sub(r"\$[^$]*\$|\\(?:label|begin|end)\{[^}]*\}", "", text))
    assert text.isascii()
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    for line in body.splitlines():
        if line.endswith(r"\\") and not line.startswith(r"\multicolumn"):
            assert len(re.findall(r"(?<!\\)&", line)) == len(table.columns) + 1


def test_an_error_leaves_nothing_half_written(tmp_path, monkeypatch):
    before = write(tmp_path, rows_of())

    def fail(page):
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(render, "tex", fail)
        with pytest.raises(RuntimeError, match="boom"):
            write(tmp_path, [{**r, "value": r["value"] + 1} for r in rows_of()])
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == before

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full_disk)
    with pytest.raises(HarnessError, match="No space left"):
        write(tmp_path, [{**r, "value": r["value"] + 1} for r in rows_of()])
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == before


def test_the_frame_may_have_been_through_parquet(tmp_path, written):
    path = tmp_path / "metrics.parquet"
    pd.DataFrame(rows_of()).to_parquet(path)
    paths = write_tables(pd.read_parquet(path), PLANNED, "quick", tmp_path / "tables")
    assert {p.name: p.read_text(encoding="utf-8") for p in paths} == written


def test_importing_does_not_need_torch():
    code = "import sys, harness.reporting.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_difference_of_a_zero_has_no_sign():
    entry = Entry(Key("adult", "nade", "", "-log p"), "13.19", Measured("ok", 13.1899, 0.05, 1))
    assert difference_text(entry, official=True) == "0.00"


EVIL = "<script>alert(1)</script> & <b>bold</b> &lt; <!-- * --> $x$ ![](http://x.invalid)"


def test_a_title_is_no_markup_in_any_form(tmp_path):
    rows = [{**each, "title": EVIL} for each in measured(PlannedCell(MNIST, "mine", ""))]
    write_tables(pd.DataFrame(rows), [PlannedCell(MNIST, "mine", "")], "quick", tmp_path)
    for path in tmp_path.glob("*.md"):
        assert not re.search(r"(?<!\\)<[A-Za-z/!?]", path.read_text())
    shown = (tmp_path / "table_3_3.md").read_text()
    assert "&lt;script>alert(1)&lt;/script> & &lt;b>bold&lt;/b> &amp;lt;" in shown
    assert r"\textless{}script" in (tmp_path / "table_3_3.tex").read_text()


def test_the_terminal_has_what_was_measured_and_says_where_the_errors_are():
    planned = [PlannedCell("adult", "nade", "")]
    rows = [row for row in rows_of() if (row["dataset"], row["method"]) == ("adult", "nade")]
    text = at_a_glance(pages(pd.DataFrame(rows), planned, "quick", ["table_3_1"])[0])
    title, header, _, *lines = text.splitlines()
    assert title == "Table 3.1 (with standard errors and notes in the files below)"
    assert header.split() == ["Model", "ADULT"]  # no column of what was not asked for
    value = next(row["value"] for row in rows if row["metric"] == "-log p")
    assert any(line.split()[:3] == ["NADE", "ours", f"{value:.2f}"] for line in lines)
    assert "±" not in text
    nothing = at_a_glance(pages(pd.DataFrame(rows), planned, "quick", ["table_4_1"])[0])
    assert nothing == "Table 4.1: no cell of it is in the configuration"
