"""Trainings that begin with another cell's weights: what is taken, that they resume, and what must be trained first."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from cells import cell, patterns, train_until
from enumerable import small_model

from harness.api.experiment import train_unless_done
from harness.blocks import exact
from harness.cli.workflow import priorities, sources_of
from harness.compute.places import ROOT
from harness.errors import ConfigError, DataError, HarnessError
from harness.plugins.registry import build, use_files
from harness.plugins.versions import version_of
from harness.settings.config import Cell, cells, load_settings, resolve
from harness.settings.parts import Phase, StartFrom
from harness.storage import starts
from harness.storage.records import write_json
from harness.storage.runs import DIVERGED, OK, RunFolder
from harness.storage.weights import read
from harness.training.start import begin, weights_to_take
from harness.training.state import TrainingState
from harness.training.train import train

CPU = torch.device("cpu")
SHORT = (Phase(40, 1e-2, 4),)


def start_of(source, version=None):
    named = source.method, source.dataset, source.variant, source.seed
    return StartFrom(*named, source.training_digest, version or version_of(source.method))


def started_from(source, method=None, model=None, **training):
    """A cell that starts from another, of a variant of its own."""
    made = cell(method or source.method, model, **{"phases": SHORT, "start_from": start_of(source), **training})
    return replace(made, variant="started")


class Runs:
    """A folder with runs, where cells are trained as ``harness run`` trains them."""

    def __init__(self, folder):
        self.folder = folder

    def of(self, chosen):
        return RunFolder(self.folder / chosen.path)

    def train(self, chosen, **how):
        status = train_unless_done(chosen, patterns(), self.of(chosen), CPU, runs=self.folder, **how)
        return status, self.of(chosen).status()

    def weights(self, chosen):
        run = self.of(chosen)
        return read(run.model_file, run.status()["model_sha256"])


@pytest.fixture(name="runs")
def folder_of_runs(tmp_path):
    return Runs(tmp_path / "runs")


def begun(chosen, runs):
    """The state of a training as it is before its first update."""
    run = runs.of(chosen)
    starts.provide(chosen, run, runs.folder, patterns().digest)
    state = TrainingState(chosen, patterns().n_features, CPU)
    begin(state, run)
    return state


def same(weights, others):
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_training_begins_with_the_trained_weights(runs, capsys):
    source = cell("nade", phases=SHORT)
    _, before = runs.train(source)
    chosen = started_from(source, phases=(Phase(30, 1e-3, 1),))
    state = begun(chosen, runs)
    assert same(state.model.state_dict(), runs.weights(source))
    assert same(state.best, runs.weights(source))
    assert state.step.n_steps == 0
    assert not state.step.first.any()
    assert not state.step.second.any()
    status, after = runs.train(chosen)
    assert status == OK
    first = runs.of(chosen).curve_file.read_text().splitlines()[1].split(",")
    losses = dict(zip(runs.of(chosen).curve_file.read_text().splitlines()[0].split(","), first, strict=True))
    assert float(losses["valid_loss"]) == pytest.approx(before["best_validation"], abs=1e-6)  # exact, on the same rows
    told = after["started_from"]
    assert told["cell"] == source.path
    assert (told["n_updates"], told["model_sha256"]) == (40, before["model_sha256"])
    assert told["taken"] == sorted(runs.weights(source))
    assert told["own"] == told["left"] == []
    assert after["n_updates"] == 30
    assert f"{chosen.path}: begins with the weights of {source.path}, after 40 updates" in capsys.readouterr().err
    assert not runs.of(chosen).start_file.exists()


def test_updates_add_up_over_several_starts(runs):
    first = cell("nade", phases=SHORT)
    second = started_from(first)
    third = replace(started_from(second), variant="again")
    for each in (first, second, third):
        runs.train(each)
    status = runs.of(third).status()
    assert status["started_from"]["n_updates"] == 80
    assert starts.updates_in_all(status) == 120
    assert starts.in_words(status) == f"{second.path}, after 80 updates"
    assert starts.updates_in_all(runs.of(first).status()) == 40
    assert starts.in_words(runs.of(first).status()) == ""


# -- going on ---------------------------------------------------------------------------------------------------------


def test_a_training_that_was_killed_ends_with_the_same_bytes_without_the_source(runs, tmp_path):
    source = cell("bihm", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    _, whole = runs.train(chosen)
    content = runs.of(chosen).model_file.read_bytes()
    shutil.rmtree(runs.of(chosen).path)
    starts.provide(chosen, runs.of(chosen), runs.folder, patterns().digest)
    train_until(chosen, runs.of(chosen).path, 25)
    shutil.rmtree(runs.of(source).path)
    _, resumed = runs.train(chosen)
    assert runs.of(chosen).model_file.read_bytes() == content
    assert resumed["started_from"] == whole["started_from"]
    assert not runs.of(chosen).start_file.exists()


def test_one_killed_before_its_first_checkpoint_needs_no_source_either(runs):
    source = cell("bihm", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    starts.provide(chosen, runs.of(chosen), runs.folder, patterns().digest)
    weights = runs.weights(source)
    shutil.rmtree(runs.of(source).path)
    assert same(begun(chosen, runs).model.state_dict(), weights)


def test_several_side_by_side_end_with_the_bytes_of_a_lone_one(runs, tmp_path):
    from harness.api.experiment import train_together_unless_done
    from harness.training.together import Asked

    source = cell("bihm", phases=SHORT)
    runs.train(source)
    chosen = [replace(started_from(source), seed=seed) for seed in (0, 1)]
    asked = [Asked(each, patterns(), runs.of(each).path) for each in chosen]
    assert train_together_unless_done(asked, CPU, runs.folder) == [OK, OK]
    together = [runs.of(each).model_file.read_bytes() for each in chosen]
    assert together[0] != together[1]
    for each, content in zip(chosen, together, strict=True):
        runs.train(each, again=True)
        assert runs.of(each).model_file.read_bytes() == content


def with_other_weights(runs, source):
    """Put another model in the place of a trained one, as a processor that rounds differently would."""
    other = cell(source.method, phases=(Phase(41, 1e-2, 4),))
    elsewhere = RunFolder(runs.folder.parent / "other")
    train(other, patterns(), elsewhere.path, CPU)
    run = runs.of(source)
    shutil.copyfile(elsewhere.model_file, run.model_file)
    digest = elsewhere.status()["model_sha256"]
    write_json(run.status_file, {**run.status(), "model_sha256": digest})
    return digest


def test_other_weights_of_the_source_train_it_again(runs, caplog):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    _, before = runs.train(chosen)
    runs.train(chosen)
    assert runs.of(chosen).status() == before
    digest = with_other_weights(runs, source)
    _, after = runs.train(chosen)
    assert after["started_from"]["model_sha256"] == digest != before["started_from"]["model_sha256"]
    assert after["model_sha256"] != before["model_sha256"]
    assert f"{source.path} has other weights than those that it started from" in caplog.text
    shutil.rmtree(runs.of(source).path)
    runs.train(chosen)  # nothing is known of the source
    assert runs.of(chosen).status() == after


def test_a_training_under_way_does_not_go_on_from_weights_that_were_replaced(runs, caplog):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    starts.provide(chosen, runs.of(chosen), runs.folder, patterns().digest)
    train_until(chosen, runs.of(chosen).path, 25)
    digest = with_other_weights(runs, source)
    _, status = runs.train(chosen)
    assert status["started_from"]["model_sha256"] == digest
    assert "began with other weights" in caplog.text


def test_a_copy_of_a_training_from_other_weights_is_not_taken(runs, tmp_path):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    runs.train(chosen)
    trial = RunFolder(tmp_path / "trial")
    elsewhere = [runs.of(chosen).path]
    train_unless_done(chosen, patterns(), trial, CPU, elsewhere, runs=runs.folder)
    assert trial.status() == runs.of(chosen).status()
    shutil.rmtree(trial.path)
    digest = with_other_weights(runs, source)
    train_unless_done(chosen, patterns(), trial, CPU, elsewhere, runs=runs.folder)
    assert trial.status()["started_from"]["model_sha256"] == digest


def test_a_damaged_copy_of_the_weights_is_made_again(runs, caplog):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    chosen = started_from(source)
    run = runs.of(chosen)
    starts.provide(chosen, run, runs.folder, patterns().digest)
    content = run.start_file.read_bytes()
    run.start_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    starts.provide(chosen, run, runs.folder, patterns().digest)
    assert "start.safetensors: damaged: its content is not what was written; not used" in caplog.text
    assert run.start_file.read_bytes() == content


def test_a_damaged_trial_is_none_to_copy(runs, tmp_path):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "status.json").write_text("{")
    status, _ = runs.train(started_from(source), elsewhere=[tmp_path / "trial"])
    assert status == OK


# -- what must be there -----------------------------------------------------------------------------------------------


def test_a_source_that_is_not_trained_is_named_with_the_command_that_trains_it(runs):
    source = cell("nade", phases=SHORT)
    expected = (
        rf"{started_from(source).path}: starts from {source.path}, which is not trained; "
        r"`harness run --dataset patterns --method nade --seed 0`, with the same --preset and --settings, trains it"
    )
    with pytest.raises(HarnessError, match=expected):
        runs.train(started_from(source))
    runs.of(source).write_status(DIVERGED, "not finite at update 7")
    with pytest.raises(HarnessError, match=r"which has no model in .*: diverged \(not finite at update 7\)"):
        runs.train(started_from(source))
    assert not runs.of(started_from(source)).status_file.exists()


def test_a_source_of_other_settings_another_version_or_other_data_is_refused(runs):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    other = started_from(cell("nade", phases=SHORT, l1=0.5))
    with pytest.raises(HarnessError, match="which is trained with other settings or by another version in "):
        runs.train(other)
    newer = started_from(source, start_from=start_of(source, version=2))
    with pytest.raises(HarnessError, match="which is trained with other settings or by another version in "):
        runs.train(newer)
    with pytest.raises(HarnessError, match="which was trained on data of digest 0, not 1"):
        train_unless_done(started_from(source), replace(patterns(), digest="1"), runs.of(other), CPU, runs=runs.folder)


def test_damaged_weights_are_refused(runs):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    content = bytearray(runs.of(source).model_file.read_bytes())
    content[-1] ^= 1
    runs.of(source).model_file.write_bytes(content)
    with pytest.raises(DataError, match=r"model.safetensors: expected .*sha256"):
        runs.train(started_from(source))
    with pytest.raises(DataError, match=r"start.safetensors: expected weights of .* to begin with, found none"):
        train(started_from(source), patterns(), runs.of(started_from(source)).path, CPU)


def test_a_closed_form_starts_from_nothing(runs):
    source = cell("factorised", phases=())
    runs.train(source)
    with pytest.raises(ConfigError, match=r"training.start_from: expected null, as factorised is fitted anew"):
        runs.train(started_from(source, phases=()))


# -- which tensors ----------------------------------------------------------------------------------------------------


def test_a_shape_that_differs_is_named_with_both_shapes(runs):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    chosen = started_from(source, model={"hidden": 7})
    expected = rf"{source.path}: \w+: expected \[.*7.*\], its shape in nade, found \[.*5.*\]"
    with pytest.raises(ConfigError, match=expected):
        runs.train(chosen)


def test_models_with_nothing_in_common_are_refused(runs):
    source = cell("nade", phases=SHORT)
    runs.train(source)
    with pytest.raises(ConfigError, match=r"expected a tensor of the name of one in vae, decoders.*; found "):
        runs.train(started_from(source, "vae"))


@pytest.mark.parametrize(
    ("method", "source"),
    [("ssl_bihm", "bihm"), ("ssl_bihm_low", "bihm"), ("rws", "bihm"), ("bihm", "ssl_bihm"), ("nvil", "rws")],
)
def test_layers_of_belief_stacks_start_from_each_other(runs, method, source):
    first = cell(source, phases=SHORT)
    runs.train(first)
    chosen = started_from(first, method)
    state, weights = begun(chosen, runs), runs.weights(first)
    layers = [name for name in weights if name.startswith(("p_weight", "p_bias", "q_weight", "q_bias", "prior_bias"))]
    assert len(layers) == 9
    assert set(layers) <= set(state.started["taken"])
    assert all(torch.equal(state.model.state_dict()[name], weights[name]) for name in layers)
    others = {name for name in state.model.state_dict() if name not in layers}
    assert set(state.started["own"]) == others
    status, _ = runs.train(chosen)
    assert status == OK


def test_an_iwae_starts_from_a_vae_of_the_same_networks(runs):
    source = cell("vae", phases=SHORT)
    runs.train(source)
    chosen = started_from(source, "iwae")
    state = begun(chosen, runs)
    assert state.started["taken"] == sorted(runs.weights(source))
    assert set(state.started["own"]) == {name for name in state.model.state_dict() if ".1." in name[:12]}


def test_the_layers_of_a_bihm_mean_the_same_below_a_label():
    """Without any influence of the label, sum_y sqrt(p q) is sqrt(p q) of the unsupervised model."""
    source = small_model("bihm", n_visible=5, layers=[4, 3]).double()
    model = small_model("ssl_bihm", n_visible=5, seed=1, layers=[4, 3], gamma=0.5, n_classes=3).double()
    model.load_state_dict({**model.state_dict(), **weights_to_take(model, source.state_dict(), "bihm")})
    with torch.no_grad():
        for name in ("label_p_weight", "label_q_weight", "label_q_bias", "label_prior"):
            getattr(model, name).zero_()
    x = exact.all_binary(5)
    found = 2.0 * torch.logsumexp(model.exact_label_weights(x), dim=1)
    assert torch.allclose(found, exact.log_p_star_unnormalised(source, x), atol=1e-12)


def taken(model, source):
    """The model with the weights of another, as training begins with them; what was taken."""
    found = weights_to_take(model, source.state_dict(), source.name)
    model.load_state_dict({**model.state_dict(), **found})
    return found


def test_a_deeper_stack_whose_new_layers_are_off_is_the_shallower_one():
    source = small_model("bihm", layers=[4, 3])
    model = small_model("bihm", seed=1, layers=[4, 3, 2])
    found = taken(model, source)
    assert torch.equal(found["p_bias.2"], source.prior_bias)
    assert "prior_bias" not in found
    with torch.no_grad():
        model.p_weight[2].zero_()
    x = exact.all_binary(5)
    assert torch.allclose(exact.log_p(model, x), exact.log_p(source, x), atol=1e-12)


def test_a_shallower_stack_keeps_its_own_prior():
    source = small_model("bihm", layers=[4, 3, 3])
    model = small_model("bihm", seed=1, layers=[4, 3])
    own = model.prior_bias.clone()
    found = taken(model, source)
    assert set(found) == set(model.state_dict()) - {"prior_bias"}
    assert torch.equal(model.prior_bias, own)


def released(model, n):
    model.load_state_dict({**model.state_dict(), "release.released": torch.tensor(n)})
    return model


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"layers": [4, 3, 2]}, [4, 3, 2], 3),  # all layers of a model without any release are in use
        ({"layers": [4, 3, 2], "release": 0.5}, [4, 3, 2], 2),
        ({"layers": [4, 3]}, [4, 3, 2], 2),  # those above wait
        ({"layers": [4, 3, 2], "release": 0.5}, [4], 1),
    ],
)
def test_layers_that_were_in_use_are_in_use(there, here, expected):
    source = small_model("bihm", **there)
    if "release" in there:
        released(source, 2).release.reliability.fill_(0.25)
        source.release.updates.fill_(700)
    model = small_model("bihm", seed=1, layers=here, release=0.5)
    found = taken(model, source)
    assert len(model.q_layers) == model.release.n_released == expected
    assert model.waits == (expected < len(here))
    assert "release.updates" not in found  # decisions come at their time of this training
    same_depth = "release" in there and len(here) == 3
    assert model.release.reliability.tolist() == [0.25 if same_depth else 0.0] * len(here)
    x = exact.all_binary(5)
    if len(source.q_layers) == expected:
        assert torch.allclose(exact.log_p(model, x), exact.log_p(source, x), atol=1e-12)


def test_a_released_stack_goes_on_releasing(runs):
    """From two layers of three, the third is released in time; killed and resumed, it ends with the same bytes."""
    source = cell("bihm", phases=SHORT)
    runs.train(source)
    model = {"layers": [6, 4, 3], "release": 0.0, "release_every": 20}
    chosen = started_from(source, model=model)
    assert len(begun(chosen, runs).model.q_layers) == 2
    runs.train(chosen)
    assert int(runs.weights(chosen)["release.released"]) == 3
    content = runs.of(chosen).model_file.read_bytes()
    shutil.rmtree(runs.of(chosen).path)
    starts.provide(chosen, runs.of(chosen), runs.folder, patterns().digest)
    train_until(chosen, runs.of(chosen).path, 15)
    runs.train(chosen)
    assert runs.of(chosen).model_file.read_bytes() == content


METHOD = """
import torch
from torch import nn

from harness.method import Method


class Mine(Method):
    name, title, kind, source = "mine", "Mine", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.logits = nn.Parameter(torch.zeros(n_visible))
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(n_visible))

    def take_weights(self, weights):
        return {}

    def log_prob(self, x):
        return -nn.functional.binary_cross_entropy_with_logits(
            self.scale * self.logits.expand_as(x), x, reduction="none"
        ).sum(1)

    def loss(self, batch, n_samples, generator):
        self.seen += 1
        return -self.log_prob(batch.x).mean()
"""


@pytest.mark.parametrize(
    ("hook", "names"),
    [
        ("return {}", ["logits", "mean", "scale"]),  # of equal names; counts begin anew
        ("return {'logits': weights['logits'].flip(0), 'scale': None}", ["logits", "mean"]),
        ("return {'seen': weights['seen'], 'unknown': None}", ["logits", "mean", "scale", "seen"]),
        ("return {'logits': weights['nothing']}", None),
    ],
)
def test_a_method_says_what_it_takes(runs, tmp_path, hook, names):
    (tmp_path / "mine.py").write_text(METHOD.replace("return {}", hook))
    use_files([tmp_path / "mine.py"])
    try:
        source = cell("mine", {}, phases=SHORT)
        runs.train(source)
        weights = runs.weights(source)
        assert int(weights["seen"]) > 0
        chosen = started_from(source, model={})
        if names is None:
            with pytest.raises(ConfigError, match=r"take_weights: expected only names of .*logits.*, found 'nothing'"):
                begun(chosen, runs)
            return
        state = begun(chosen, runs)
        assert state.started["taken"] == names
        found = state.model.state_dict()
        assert torch.equal(found["logits"], weights["logits"].flip(0) if "flip" in hook else weights["logits"])
        assert found["scale"].item() == (1.0 if "None" in hook and "scale" in hook else weights["scale"].item())
        assert found["seen"].item() == (weights["seen"].item() if "seen" in hook else 0)
    finally:
        use_files(())


def test_the_mean_of_weights_begins_with_this_training(runs):
    source = cell("nade", phases=SHORT, average=0.9)
    runs.train(source)
    chosen = started_from(source, average=0.9)
    state = begun(chosen, runs)
    assert state.average.n_updates == 0
    with state.averaged():
        assert same(state.model.state_dict(), runs.weights(source))


# -- settings ---------------------------------------------------------------------------------------------------------


def with_grid(started, **over):
    """Settings with a cell of the grid that starts from another, beside the smoke preset's."""
    small = {"model": {"layers": [8, 4]}}
    grid = {"bihm": {"connect4/started": {**small, "training": {"start_from": started}}}}
    return {"preset": "smoke", "grid": grid, **over}


def resolved(started="bihm/connect4", seed=0, **over):
    return resolve(load_settings(with_grid(started, **over)), "connect4", "bihm", "started", seed)


def test_the_digest_follows_the_source_and_its_version(monkeypatch):
    plain = resolve(load_settings({"preset": "smoke"}), "connect4", "bihm")
    chosen = resolved()
    start = chosen.training.start_from
    assert (start.path, start.training_digest, start.version) == (plain.path, plain.training_digest, 1)
    assert Cell.from_dict(json.loads(json.dumps(chosen.to_dict()))).training_digest == chosen.training_digest
    assert resolved("nade/connect4").training_digest != chosen.training_digest
    assert resolved(None).training.start_from is None
    assert resolved(None).training_digest != chosen.training_digest
    changed = resolved(budgets={"bihm": {"connect4": {"training": {"l1": 0.5}}}})
    assert changed.training.start_from.training_digest != start.training_digest
    assert changed.training_digest != chosen.training_digest
    monkeypatch.setattr("harness.settings.config.version_of", lambda method: 2)
    assert resolved().training_digest not in (chosen.training_digest, changed.training_digest)


def test_a_chain_of_starts_is_in_every_digest():
    def last(l1):
        third = {
            "bihm": {"connect4/third": {"model": {"layers": [8]}, "training": {"start_from": "bihm/connect4/started"}}}
        }
        given = with_grid("bihm/connect4", budgets={"bihm": {"connect4": {"training": {"l1": l1}}}})
        given["grid"]["bihm"] |= third["bihm"]
        return resolve(load_settings(given), "connect4", "bihm", "third")

    assert last(0.5).training_digest != last(0.25).training_digest


def test_the_same_repetition_is_taken_where_there_is_one():
    assert [resolved(seed=seed, seeds=3).training.start_from.seed for seed in range(3)] == [0, 1, 2]
    fewer = {"bihm": {"connect4": {"repetitions": 2}, "connect4/started": {"repetitions": 4}}}
    settings = load_settings(with_grid("bihm/connect4", budgets=fewer, only=["bihm/connect4"]))
    found = [cell.training.start_from.seed for cell in cells(settings) if cell.variant == "started"]
    assert found == [0, 1, 0, 0]


def test_what_is_asked_for_brings_what_it_starts_from():
    settings = load_settings(with_grid("nade/connect4", only="bihm/connect4/started"))
    assert [each.path for each in cells(settings)] == ["connect4/bihm/started/0", "connect4/nade/default/0"]
    known = {each.path: each for each in cells(settings)}
    assert [each.path for each in sources_of([known["connect4/bihm/started/0"]], known)] == ["connect4/nade/default/0"]


def test_what_others_start_from_is_as_early_as_they_are():
    class Equal:
        def seconds(self, cell):
            return 1.0

    source, other = cell("nade"), cell("rws")
    chosen = started_from(source)
    known = {each.path: each for each in (source, other, chosen)}
    found = priorities({"small": [chosen], "large": [chosen, other, source]}, Equal(), known)
    assert found[source.path] == found[chosen.path] > found[other.path]


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("bihm", r"bihm/connect4/started: expected METHOD/DATASET or METHOD/DATASET/VARIANT, found 'bihm'"),
        ("bihm/plants", r"expected a cell of the grid or the ablations, found 'bihm/plants', which `grid: {bihm: "),
        (
            "bihm/connect4/other",
            r"expected one of bihm/connect4, bihm/connect4/started, .*, found 'bihm/connect4/other'",
        ),
        (7, r"expected string or null, found 7"),
        (
            "bihm/connect4/started",
            r"found a circle: bihm/connect4/started from bihm/connect4/started",
        ),
    ],
)
def test_wrong_sources_are_named(started, expected):
    with pytest.raises(ConfigError, match=rf"settings: grid.bihm.connect4/started.training.start_from: .*{expected}"):
        load_settings(with_grid(started))


def test_circles_are_named_where_they_are_said():
    given = with_grid(
        "bihm/connect4", budgets={"bihm": {"connect4": {"training": {"start_from": "bihm/connect4/started"}}}}
    )
    expected = r"settings: budgets.bihm.connect4.training.start_from: .*bihm/connect4 from bihm/connect4/started from"
    with pytest.raises(ConfigError, match=expected):
        load_settings(given)


def test_what_is_fitted_starts_from_nothing():
    given = {"preset": "smoke", "grid": {"factorised": {"connect4": {"training": {"start_from": "bihm/connect4"}}}}}
    with pytest.raises(ConfigError, match="expected null, as factorised is fitted anew whatever it begins with"):
        load_settings(given)


LABELS = {"rows": 1000, "per_batch": 20}
FEWER = {"rows": 500, "per_batch": 20}


def semi_supervised(source_labels, labels, **over):
    mine, theirs = "binarized_mnist/mine", "binarized_mnist/theirs"
    model = {"model": {"layers": [8, 4], "gamma": 0}}
    budgets = {
        theirs: {"training": {"labels": source_labels}},
        mine: {"training": {"labels": labels, "start_from": f"ssl_bihm/{theirs}"}, **over},
    }
    return {"preset": "smoke", "grid": {"ssl_bihm": {mine: model, theirs: model}}, "budgets": {"ssl_bihm": budgets}}


def test_few_labels_are_not_learned_from_a_model_that_has_seen_others():
    load_settings(semi_supervised(LABELS, LABELS))
    load_settings({**semi_supervised(LABELS, LABELS), "seeds": 3})
    load_settings(semi_supervised(LABELS, None))
    with pytest.raises(ConfigError, match="which has seen other labels"):
        load_settings(semi_supervised(LABELS, FEWER))
    with pytest.raises(ConfigError, match=r"expected a cell with labels of 1000 rows or none, found .*, which has all"):
        load_settings(semi_supervised(None, LABELS))
    with pytest.raises(ConfigError, match="which has seen other labels"):
        load_settings(semi_supervised(LABELS, LABELS, repetitions=2))


def test_labels_that_were_seen_on_the_way_count_as_well():
    given = semi_supervised(FEWER, LABELS)
    given["grid"]["bihm"] = {"binarized_mnist/between": {"model": {"layers": [8, 4]}}}
    between = {"training": {"start_from": "ssl_bihm/binarized_mnist/theirs"}}
    given["budgets"]["bihm"] = {"binarized_mnist/between": between}
    given["budgets"]["ssl_bihm"]["binarized_mnist/mine"]["training"]["start_from"] = "bihm/binarized_mnist/between"
    with pytest.raises(ConfigError, match=r"found ssl_bihm/binarized_mnist/theirs, which has seen other labels"):
        load_settings(given)


def test_it_is_no_axis_of_a_search():
    searches = {"bihm": {"connect4": {"training.start_from": ["nade/connect4"]}}}
    with pytest.raises(ConfigError, match=r"expected axes out of .*, found 'training.start_from'"):
        load_settings({"preset": "smoke", "searches": searches})


def test_the_example_of_the_documentation_is_right():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    example = text[text.index("### Starting from a trained model") :]
    given = yaml.safe_load(example[example.index("```yaml\n") + 8 : example.index("```\n")])
    settings = load_settings({**given, "preset": "quick"})
    larger = resolve(settings, "connect4", "bihm", "K=50")
    assert larger.training.start_from.path == "connect4/bihm/default/0"
    assert [phase.n_samples for phase in larger.training.phases] == [50]
    labelled = resolve(settings, "binarized_mnist", "ssl_bihm", "from bihm")
    assert labelled.training.start_from.path == "binarized_mnist/bihm/seven_layers/0"
    assert labelled.training.labels is not None
    for chosen in (larger, labelled):
        start = chosen.training.start_from
        source = resolve(settings, start.dataset, start.method, start.variant)
        models = [build(each.method, 20, dict(each.model)) for each in (chosen, source)]
        assert weights_to_take(models[0], models[1].state_dict(), start.path)
