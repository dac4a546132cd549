"""Publishing: what is kept of a run, and that it leads back to the cells."""

import json

import pandas as pd
import pytest

from harness.cli import main
from harness.config import Cell, load_settings, resolve

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
    places = ["--runs", folder / "runs", "--metrics", folder / "metrics.parquet", "--output", folder / "tables"]
    assert main(["tables", "--settings", text, *map(str, places)]) == 0
    (folder / "figures").mkdir()
    (folder / "figures/figure_9.csv").write_text("a\n1\n")
    (folder / "figures/figure_9.pdf").write_text("no")
    (folder / "figures/figure_10.csv").write_text("a\n" * 200_000)
    return text, folder


def published(run, output):
    text, folder = run
    return main(["publish", "--settings", text, "--results", str(folder), "--output", str(output)])


def test_what_is_published_leads_back_to_the_cells(run, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/stale.csv").write_text("")
    assert published(run, tmp_path / "p") == 0
    found = {str(path.relative_to(tmp_path / "p")) for path in (tmp_path / "p").rglob("*") if path.is_file()}
    assert {"metrics.parquet", "runs.csv", "settings.json", "tables/table_3_1.md", "figures/figure_9.csv"} <= found
    assert not {"stale.csv", "figures/figure_9.pdf", "figures/figure_10.csv"} & found
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
    again = pd.read_parquet(tmp_path / "p/metrics.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(run[1] / "metrics.parquet"))


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
        patch.setattr("harness.publish.shutil.copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            published(run, tmp_path / "p")
    assert {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()} == before
    assert published(run, tmp_path / "p") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
