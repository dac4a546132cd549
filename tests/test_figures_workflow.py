"""From data to figures by the workflow: real data, a small model, every figure about training, Z and weights."""

import pandas as pd
import pytest
from test_workflow import Workflow, only

pytestmark = pytest.mark.slow

ANALYSES = {
    "k_sensitivity": {"connect4": {"rows": 20, "ks": [1, 10]}},
    "training_history": {"connect4": {"rows": 20, "ks": [10, 20], "z_outer": 200}},
    "z_convergence": {"connect4": {"n_samples": 1000, "k_inners": [1, 10], "repeats": 3}},
    "layer_use": {"connect4": {"rows": 20, "n_samples": 2}},
    "layers_over_updates": {"connect4": {}},
    "weight_histogram": {"connect4": {"rows": 5, "n_samples": 50, "n_draws": 100, "n_inner": 10, "n_bins": 10}},
}
FIGURES = {
    "figure_3_4": {"log p", "log p*"},
    "figure_3_7": {"log p", "log p*", "2 log Z"},
    "figure_3_8": {"log p", "log p~*"},
    "figure_3_5": None,
    "figure_3_6": None,
    "figure_3_11": None,
    "figure_ess_by_k": {"ess p", "ess p*"},
    "figure_layer_use": {"live units", "reliability", "information"},
    "figure_layers_over_updates": {"live units", "reliability", "information"},
}


def test_from_data_to_figures(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(
        bihm={"connect4": {"model": {"layers": [8, 4]}, "training": {"snapshots": 4}}},
        nade={"connect4": {"model": {"hidden": 4}}},
    )
    flow.settings["analyses"] = ANALYSES
    phases = [{"updates": 1000, "learning_rate": 0.01, "n_samples": 2}]
    flow.settings["budgets"]["bihm"] = {"connect4": {"training": {"validate_every": 100, "phases": phases}}}
    targets = [f"results/smoke/figures/{name}.png" for name in FIGURES]
    flow(*targets)
    for name, metrics in FIGURES.items():
        table = pd.read_csv(flow.results / "figures" / f"{name}.csv")
        assert set(table["method"]) == {"bihm"}
        assert metrics is None or set(table["metric"]) == metrics
        assert "nade" in (flow.results / "figures" / f"{name}.rst").read_text()
    assert len(list((flow.run() / "snapshots").iterdir())) == 4
    assert flow.jobs(*targets) == {}

    flow.settings["analyses"]["training_history"]["connect4"]["rows"] = 10
    due = flow.jobs(*targets)
    assert due["analyse_model"] == 1
    assert "run_model" not in due
    flow.settings["grid"]["bihm"]["connect4"]["training"]["snapshots"] = 5
    assert "run_model" in flow.jobs(*targets)
