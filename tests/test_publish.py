"""Publishing: what is kept of a run, and that it leads back to the cells."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import main
from harness.settings.config import Cell, load_settings, resolve
from harness.storage.search import trials

TINY = {"preset": "smoke", "grid": {}, "repetitions": 1}
OTHERS = {"uci": None, "binarized_mnist": None}
CELLS = {"nade": {**OTHERS, "adult": {"model": {"hidden": 4}}}, "factorised": {**OTHERS, "adult": {}}}


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    """A finished run of two cells; (settings as text, its folder)."""
    folder = tmp_path_factory.mktemp("run")
    out = dict.fromkeys(load_settings({"preset": "smoke"})["grid"])
    text = json.dumps({**TINY, "grid": {**out, **CELLS}})
    for method in CELLS:
        place = ["--run", str(folder / f"runs/adult/{method}/default/0")]
        assert main(["run", "--settings", text, "--dataset", "adult", "--method", method, *place]) == 0
    given = ["--settings", text, "--runs", str(folder / "runs"), "--output"]
    assert main(["tables", *given, str(folder / "tables")]) == 0
    assert main(["metrics", *given, str(folder / "metrics.parquet")]) == 0
    (folder / "figures").mkdir()
    (folder / "figures/figure_9.csv").write_text("a\n1\n")
    (folder / "figures/figure_9.pdf").write_text("no")
    (folder / "figures/figure_10.csv").write_text("a\n" * 200_000)
    return text, folder


def published(run, output, *options):
    text, folder = run
    return main(["publish", "--settings", text, "--results", str(folder), "--output", str(output), *options])


def test_what_is_published_leads_back_to_the_cells(run, tmp_path):
    assert published(run, tmp_path / "p") == 0
    (tmp_path / "p/figures/figure_99.csv").write_text("")  # of another time
    assert published(run, tmp_path / "p") == 0
    found = {str(path.relative_to(tmp_path / "p")) for path in (tmp_path / "p").rglob("*") if path.is_file()}
    assert {"metrics.parquet", "runs.csv", "settings.json", "tables/table_3_1.md", "figures/figure_9.csv"} <= found
    assert set(pd.read_csv(tmp_path / "p/claims.csv")["verdict"]) == {"not measured"}  # of other figures than these
    assert not {"figures/figure_99.csv", "figures/figure_9.pdf", "figures/figure_10.csv"} & found
    assert not any("safetensors" in name for name in found)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]

    settings = json.loads((tmp_path / "p/settings.json").read_text())
    assert settings["data"]["mirrors"] == []
    listed = pd.read_csv(tmp_path / "p/runs.csv", keep_default_na=False)
    assert listed["method"].tolist() == list(CELLS)
    for line in listed.itertuples():
        cell = resolve(settings, line.dataset, line.method, line.variant, line.seed)
        assert cell.training_digest == line.training_digest
        parts = {part: json.loads(getattr(line, part)) for part in ("model", "training", "evaluation")}
        named = {"dataset": line.dataset, "method": line.method, "variant": line.variant, "seed": line.seed}
        assert Cell.from_dict({**named, **parts}) == cell
    rows = pd.read_parquet(tmp_path / "p/rows.parquet").astype({"method": str, "metric": str})
    assert rows["value"].dtype == "float32"
    whole = pd.read_parquet(run[1] / "rows.parquet").astype({"method": str})
    for method in CELLS:  # 26,147 test rows, of which all methods keep the same ones
        kept, of_cell = (frame[frame["method"] == method].set_index("row") for frame in (rows, whole))
        assert (len(kept), len(of_cell)) == (2000, 26_147)
        assert set(kept.index) == set(rows["row"])
        assert kept["value"].tolist() == of_cell["value"][kept.index].astype("float32").tolist()
    again = pd.read_parquet(tmp_path / "p/metrics.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(run[1] / "metrics.parquet"))


def test_the_overview_follows_from_what_is_published(run, tmp_path):
    """2,000 of 26,147 rows of each cell, on which its marks rest and which anyone can render again."""
    assert published(run, tmp_path / "p") == 0
    names = [f"overview.{form}" for form in ("csv", "md", "tex")]
    texts = [(tmp_path / "p" / "tables" / name).read_text() for name in names]
    assert "for a random part of the test rows of adult (2,000), as in a publication" in texts[1]
    assert "¤" not in texts[1]
    again = ["overview", str(tmp_path / "p"), "--settings", run[0], "--output", str(tmp_path / "again")]
    assert main(again) == 0
    assert [(tmp_path / "again" / name).read_text() for name in names] == texts
    frame = pd.read_csv(tmp_path / "p" / "tables" / "overview.csv").set_index("method")
    assert frame["as_good_as_best"].to_dict() == {"nade": False, "factorised": True}  # after 40 updates
    measured = pd.read_parquet(run[1] / "metrics.parquet").set_index(["method", "metric"])["value"]
    assert frame.loc["nade", "value"] == measured["nade", "-log p"]


def test_models_of_other_settings_are_not_published(run, tmp_path, capsys):
    text, folder = run
    other = json.dumps({**json.loads(text), "defaults": {"training": {"batch_size": 7}}})
    assert main(["publish", "--settings", other, "--results", str(folder), "--output", str(tmp_path / "p")]) == 1
    assert "expected training digest" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_call_that_is_cut_short_leaves_the_last_one_alone(run, tmp_path, monkeypatch):
    assert published(run, tmp_path / "p") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()}

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.reporting.publish.shutil.copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            published(run, tmp_path / "p")
    assert {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()} == before
    assert published(run, tmp_path / "p") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STRANGERS = {
    "a file of somebody": lambda folder: (folder / "thesis.tex").write_text("years of work"),
    "a publication with notes": lambda folder: (folder / "notes.md").write_text("mine"),
    "a folder of somebody": lambda folder: (folder / "photos").mkdir(),
    "a folder in the tables": lambda folder: (folder / "tables/mine").mkdir(),
    "a file among the tables": lambda folder: (folder / "tables/plan.docx").write_text(""),
    "a link": lambda folder: (folder / "home").symlink_to("/"),
    "half a publication": lambda folder: (folder / "runs.csv").unlink(),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("add", [(), ("--add",)])
def test_a_folder_of_anything_else_is_refused_and_left_alone(run, tmp_path, capsys, stranger, add):
    folder = tmp_path / "p"
    if stranger == "a file of somebody":
        folder.mkdir()
    else:
        assert published(run, folder) == 0
    STRANGERS[stranger](folder)
    before = sorted(folder.rglob("*")), contents(folder)
    assert published(run, folder, *add) == 1
    assert "expected an earlier publication" in capsys.readouterr().err
    assert (sorted(folder.rglob("*")), contents(folder)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("place", [".", "..", "runs", "published", "../r/../r", "link"])
def test_results_are_never_what_is_replaced(run, tmp_path, capsys, place):
    """Neither the results themselves nor a folder that holds them or lies in them, whatever the path is called."""
    text, folder = run
    shutil.copytree(folder, tmp_path / "r")
    (tmp_path / "r/link").symlink_to(tmp_path / "r")
    before = contents(tmp_path)
    assert published((text, tmp_path / "r"), tmp_path / "r" / place) == 1
    assert "expected a folder apart from the results" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_publication_that_was_checked_is_still_one(run, tmp_path):
    """``harness check results/published/x`` writes into that folder, and the next publication replaces it."""
    assert published(run, tmp_path / "p") == 0
    assert main(["check", str(tmp_path / "p"), str(tmp_path / "p")]) == 0
    assert (tmp_path / "p/check/check.md").exists()
    assert published(run, tmp_path / "p", "--add") == 0
    assert not (tmp_path / "p/check").exists()


def test_an_empty_folder_is_filled(run, tmp_path):
    (tmp_path / "p").mkdir()
    assert published(run, tmp_path / "p") == 0


STEPS = ("Path.mkdir", "Path.rename", "shutil.rmtree", "os.unlink", "os.rmdir", "shutil.copyfile", "Path.replace")


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing_and_the_next_call_heals(run, tmp_path, step, late):
    """Killed for real at every single call of a step, with the old publication in place; then added to what is left."""
    assert published(run, tmp_path / "p") == 0
    whole = contents(tmp_path / "p")
    text, folder = run
    command = ["publish", "--settings", text, "--results", str(folder), "--output", str(tmp_path / "p")]
    count = 0
    while True:
        count += 1
        child = os.fork()
        if child == 0:
            _die_at(step, count, late)
            os._exit(main(command))
        _, ended = os.waitpid(child, 0)
        left = {path.name: contents(path) for path in tmp_path.iterdir() if contents(path) == whole}
        assert left, f"{step} number {count}: no whole publication is left"
        if os.WIFEXITED(ended):
            assert os.WEXITSTATUS(ended) == 0
            break
        empty = ["--results", str(tmp_path / "nothing")]
        if count % 5 == 1 or step in ("Path.rename", "shutil.rmtree"):
            assert main([*command[:3], *empty, "--output", str(tmp_path / "p"), "--add"]) == 0
            assert contents(tmp_path / "p") == whole
            assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert count > 1
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def _die_at(step, count, late):
    """Let this process be killed at the call of this number of a function."""
    owner, name = {"Path": Path, "shutil": shutil, "os": os}[step.split(".")[0]], step.split(".")[1]
    original, calls = getattr(owner, name), itertools.count(1)

    def dying(*arguments, **options):
        last = next(calls) == count
        if last and not late:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return original(*arguments, **options)
        finally:
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


def test_two_that_publish_at_once_take_turns(run, tmp_path):
    text, folder = run
    command = [sys.executable, "-m", "harness", "publish", "--settings", text, "--results", str(folder)]
    processes = [
        subprocess.Popen([*command, "--output", str(tmp_path / "p")], stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert {"metrics.parquet", "runs.csv", "settings.json"} <= {path.name for path in (tmp_path / "p").iterdir()}


def test_what_this_run_lacks_stays_as_it_was_published(run, tmp_path, capsys, caplog):
    text, folder = run
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    assert published(run, whole) == 0
    only = json.dumps({**json.loads(text), "grid": {**json.loads(text)["grid"], "nade": None}})
    assert published((only, folder), grown, "--add") == 0  # there is nothing to add to
    shutil.copytree(folder / "runs/adult/nade", tmp_path / "elsewhere/runs/adult/nade")
    elsewhere = (text, tmp_path / "elsewhere")
    assert published(elsewhere, grown) == 1
    assert "adult/factorised/default/0/metrics.json" in capsys.readouterr().err
    assert published(elsewhere, grown, "--add") == 0
    assert contents(grown) == contents(whole)
    assert b"factorised" in (grown / "rows.parquet").read_bytes()  # of the cell that this run lacks
    before = {path: path.read_bytes() for path in grown.rglob("*") if path.is_file()}
    (grown / "rows.parquet").unlink()  # as published by an earlier version
    assert published(elsewhere, grown, "--add") == 0
    assert set(pd.read_parquet(grown / "rows.parquet")["method"].astype(str)) == {"nade"}
    for path, content in before.items():
        path.write_bytes(content)
    lines = (grown / "runs.csv").read_text()
    listed = pd.read_csv(grown / "runs.csv", dtype=str, keep_default_na=False)
    listed.assign(method_version="7").to_csv(grown / "runs.csv", index=False)  # by a method that has gone on
    assert published(elsewhere, grown, "--add") == 0
    assert "trained by other code of the method: adult/factorised" in caplog.text
    assert set(pd.read_csv(grown / "runs.csv", keep_default_na=False)["method_version"]) == {1, 7}
    (grown / "runs.csv").write_text(lines)

    other = json.dumps({**json.loads(text), "defaults": {"training": {"batch_size": 7}}})
    assert published((other, tmp_path / "nothing"), grown, "--add") == 1  # a cell of other settings is another cell
    measured = json.dumps({**json.loads(text), "defaults": {"evaluation": {"rows": 9}}})
    assert published((measured, tmp_path / "nothing"), grown, "--add") == 1
    assert contents(grown) == contents(whole)


def test_a_cell_that_could_not_be_trained_stays_too(run, tmp_path):
    text, folder = run
    shutil.copytree(folder, tmp_path / "r")
    settings = json.loads(text)
    with_faces = {**settings, "grid": {**settings["grid"], "nade": {**CELLS["nade"], "tfd": {"model": {"hidden": 4}}}}}
    record = {"available": False, "message": "is not free to copy", "official": True, "note": ""}
    (tmp_path / "tfd.json").write_text(json.dumps(record))
    place = ["--data-record", str(tmp_path / "tfd.json"), "--run", str(tmp_path / "r/runs/tfd/nade/default/0")]
    assert main(["run", "--settings", json.dumps(with_faces), "--dataset", "tfd", "--method", "nade", *place]) == 0
    assert published((json.dumps(with_faces), tmp_path / "r"), tmp_path / "p") == 0
    assert pd.read_csv(tmp_path / "p/runs.csv")["status"].tolist().count("unavailable") == 1
    before, metrics = contents(tmp_path / "p"), pd.read_parquet(tmp_path / "p/metrics.parquet")
    assert published((json.dumps(with_faces), folder), tmp_path / "p", "--add") == 0
    after, again = contents(tmp_path / "p"), pd.read_parquet(tmp_path / "p/metrics.parquet")
    pd.testing.assert_frame_equal(again, metrics, check_dtype=False)  # what is missing may be None or NaN
    assert {path for path in before if after[path] != before[path]} <= {Path("metrics.parquet")}
    n_updates = pd.read_csv(tmp_path / "p/runs.csv", dtype=str, keep_default_na=False)["n_updates"]
    assert n_updates.tolist() == ["40", "", "0"]  # whole numbers, though one is missing
    with_faces["grid"]["nade"]["tfd"] = {"model": {"hidden": 5}}  # another cell
    assert published((json.dumps(with_faces), folder), tmp_path / "p", "--add") == 1


def test_trials_that_this_run_lacks_stay_too(run, tmp_path):
    text, folder = run
    shutil.copytree(folder, tmp_path / "r")
    search = {"nade": {"adult": {"learning_rate": [0.01, 0.1], "updates": 2}}}
    settings = json.dumps({**json.loads(text), "searches": search})
    for trial in trials(load_settings(json.loads(settings))):
        cell = ["--dataset", "adult", "--method", "nade", "--trial", trial.name]
        assert main(["trial", "--settings", settings, *cell, "--run", str(tmp_path / "r/searches" / trial.path)]) == 0
    place = ["--trials", str(tmp_path / "r/searches"), "--output", str(tmp_path / "r/searches.csv")]
    assert main(["searches", "--settings", settings, *place]) == 0
    assert published((settings, tmp_path / "r"), tmp_path / "p") == 0
    before = contents(tmp_path / "p")
    assert len(pd.read_csv(tmp_path / "p/searches.csv")) == 2
    shutil.rmtree(tmp_path / "r/searches" / trial.path)
    assert published((settings, tmp_path / "r"), tmp_path / "p", "--add") == 0
    assert contents(tmp_path / "p") == before


def test_a_trial_that_is_a_cell_of_the_run_needs_no_training_of_its_own(run, tmp_path):
    text, folder = run
    shutil.copytree(folder, tmp_path / "r")
    settings = json.loads(text)
    cell = resolve(load_settings(settings), "adult", "nade")
    text = json.dumps({**settings, "searches": {"nade": {"adult": {"training.l1": [cell.training.l1]}}}})
    (tmp_path / "r/searches.csv").write_text("", encoding="utf-8")  # the searches were gathered
    assert published((text, tmp_path / "r"), tmp_path / "p") == 0
    found = pd.read_csv(tmp_path / "p/searches.csv")
    trained = pd.read_csv(tmp_path / "p/runs.csv").query("method == 'nade'")
    assert found["chosen"].tolist() == [True]
    assert found["training_digest"].tolist() == trained["training_digest"].tolist()
    assert found["validation_loss"].tolist() == trained["best_validation"].tolist()
    before = contents(tmp_path / "p")
    shutil.rmtree(tmp_path / "r/runs")
    assert published((text, tmp_path / "r"), tmp_path / "p", "--add") == 0
    assert contents(tmp_path / "p") == before
    other = json.loads(text)
    other["searches"]["nade"]["adult"]["training.l1"] = [0.5, cell.training.l1]
    other["budgets"] = {"nade": {"adult": {"training": {"l1": 0.5}}}}
    place = ["--run", str(tmp_path / "r/runs/adult/nade/default/0")]
    assert main(["run", "--settings", json.dumps(other), "--dataset", "adult", "--method", "nade", *place]) == 0
    assert published((json.dumps(other), tmp_path / "r"), tmp_path / "p", "--add") == 0
    now = pd.read_csv(tmp_path / "p/searches.csv").set_index("trial")
    assert now["chosen"].to_dict() == {"training.l1=0.5": True, f"training.l1={cell.training.l1}": False}
    assert now.loc[f"training.l1={cell.training.l1}", "validation_loss"] == found["validation_loss"].item()
