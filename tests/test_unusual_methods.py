"""What methods may do with their parameters, layers and batches: trained as they mean it, or refused in one line."""

import copy
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from cells import MODELS, cell, patterns, train_until
from plugins import odd

from harness.errors import ConfigError, HarnessError
from harness.evaluation.evaluate import evaluate
from harness.plugins.registry import build, use_files
from harness.settings.parts import Phase
from harness.storage import snapshots, weights
from harness.storage.records import file_digest, read_json
from harness.storage.runs import OK, RunFolder
from harness.training.looks import validation_rows
from harness.training.state import new_model
from harness.training.step import UpdateStep
from harness.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    use_files([])


def trained(run, chosen):
    """State of the model that training of a cell leaves in a folder."""
    assert train(chosen, patterns(), run, CPU) == OK
    return state_of(run / "model.safetensors", chosen)


def state_of(path, chosen):
    model = new_model(chosen, 12)
    weights.load(path, model, file_digest(path))
    return model.state_dict()


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in {**left, **right})


def stopped_and_continued(run, chosen, stop_after=33):
    train_until(chosen, run, stop_after)
    return trained(run, chosen)


MASKED = """
    def finish(self):
        self.mask = nn.Parameter(torch.ones(self.n_visible, self.n_visible), requires_grad=False)

    def logits(self, x):
        return self.b(torch.tanh(F.linear(x, self.a.weight * self.mask, self.a.bias)))
"""


def test_frozen_parameters_stay_whatever_the_penalty(tmp_path):
    found = trained(tmp_path / "run", odd(tmp_path, MASKED, l1=1.0))
    assert torch.equal(found["mask"], torch.ones(12, 12))
    without = trained(tmp_path / "other", odd(tmp_path, l1=1.0))
    assert all(torch.equal(found[name], value) for name, value in without.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_weights_of_a_method_with_its_own_gradients_stay(precision):
    """They are multiplied like the others, and followed when the method itself moves them."""
    model = build("bihm", 12, {"layers": [6, 4]})
    frozen = [model.p_weight[0], model.q_weight[1]]
    for each in frozen:
        each.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step, draws = UpdateStep(model, precision), torch.Generator().manual_seed(0)
    for update in range(20):
        step.run(patterns_batch(), 4, draws, 1e-2, 1e-2)
        if update == 10:
            frozen[0].data.add_(1.0)
    if precision == "bfloat16":
        step.run(patterns_batch(), 4, draws, 1e-2, 1e-2)
        assert torch.equal(step.parameters.rounded_weights[frozen[0]].value, frozen[0].bfloat16())
    now = model.state_dict()
    assert torch.equal(now["p_weight.0"], before["p_weight.0"] + 1.0)
    assert torch.equal(now["q_weight.1"], before["q_weight.1"])
    moved = [name for name in now if not torch.equal(now[name], before[name])]
    assert len(moved) == len(now) - 1


def patterns_batch():
    from harness.training.batches import Rows

    return Rows.of_split(patterns(), "train", CPU).batch(slice(0, 20))


TIED = """
    def finish(self):
        self.b.weight = self.a.weight
"""


def test_tied_weights_are_saved_kept_and_continued(tmp_path):
    chosen = odd(tmp_path, TIED, snapshots=3)
    undisturbed = trained(tmp_path / "undisturbed", chosen)
    assert torch.equal(undisturbed["a.weight"], undisturbed["b.weight"])
    assert same(stopped_and_continued(tmp_path / "run", chosen), undisturbed)
    for update in snapshots.updates(chosen.training):
        model = new_model(chosen, 12)
        RunFolder(tmp_path / "run").load_snapshot(update, model, chosen)
        assert model.a.weight is model.b.weight
    kept = read_json(tmp_path / "run" / "status.json")
    assert kept["n_parameters"] == 12 * 12 + 2 * 12
    copied = copy.deepcopy(model)
    assert copied.a.weight is copied.b.weight
    RunFolder(tmp_path / "copy").copy_training(RunFolder(tmp_path / "run"), chosen)
    assert RunFolder(tmp_path / "copy").is_trained(chosen, "0")


@pytest.mark.parametrize(
    "tie", ["self.b.weight.data = self.a.weight.data", 'self.register_buffer("seen", self.a.weight.data[3])']
)
def test_memory_shared_by_stealth_is_named(tmp_path, tie):
    chosen = odd(tmp_path, f"\n    def finish(self):\n        {tie}\n")
    with pytest.raises(
        ConfigError, match=r"method odd: expected parameters in memory of their own, found a\.weight and"
    ):
        train(chosen, patterns(), tmp_path / "run", CPU)


CLAMPED = """
    def logits(self, x):
        {}
        return self.b(torch.tanh(self.a(x)))
"""


def test_values_put_in_the_place_of_a_parameter_are_trained(tmp_path):
    """As if they had been written into it."""
    found = [
        trained(tmp_path / name, odd(tmp_path, CLAMPED.format(line)))
        for name, line in (
            ("replaced", "self.a.weight.data = self.a.weight.data.clamp(-0.2, 0.2)"),
            ("in place", "self.a.weight.data.clamp_(-0.2, 0.2)"),
            ("untouched", ""),
        )
    ]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("line", ["self.zero_grad(set_to_none=True)", "self.a.weight.grad = None"])
def test_gradients_taken_away_before_the_loss_come_back(tmp_path, line):
    plain = trained(tmp_path / "plain", odd(tmp_path))
    assert same(trained(tmp_path / "run", odd(tmp_path, CLAMPED.format(line))), plain)


OUT_OF_HAND = {  # a line before the logits are computed, and what is said of it
    "replaced": ("self.a.weight = nn.Parameter(self.a.weight.detach().clone())", r"a\.weight: expected the one that"),
    "more": ("self.c = nn.Parameter(torch.zeros(3))", r"parameter c: expected the one that training began with"),
    "frozen": ("self.a.bias.requires_grad_(not self.training)", r"a\.bias: expected requires_grad=True .* found False"),
    "of another type": ("self.unused.data = self.unused.data.double()", r"unused: expected to stay \(3,\), .*float64"),
    "reshaped": ("self.unused.data = self.unused.data[:2]", r"unused: expected to stay \(3,\), .*found \(2,\)"),
    "constant": ("return self.b(torch.tanh(self.a(x))).detach()", "expected a loss that depends on a parameter"),
}
UNUSED = """
    def finish(self):
        self.unused = nn.Parameter(torch.zeros(3))
"""


@pytest.mark.parametrize("case", OUT_OF_HAND)
def test_parameters_that_training_would_lose_are_named_at_once(tmp_path, case):
    line, message = OUT_OF_HAND[case]
    chosen = odd(tmp_path, UNUSED + CLAMPED.format(line))
    with pytest.raises(HarnessError, match=f"method odd: .*{message}"):
        train(chosen, patterns(), tmp_path / "run", CPU)


def test_parameters_without_a_shape_or_of_several_types_are_named(tmp_path):
    lazy = "\n    def finish(self):\n        self.a = nn.LazyLinear(12)\n"
    with pytest.raises(ConfigError, match=r"a\.weight: expected a shape from the start"):
        train(odd(tmp_path, lazy), patterns(), tmp_path / "run", CPU)
    mixed = "\n    def finish(self):\n        self.b.double()\n"
    with pytest.raises(ConfigError, match=r"expected parameters of one type on one device, found .*float32.*float64"):
        train(odd(tmp_path, mixed), patterns(), tmp_path / "run", CPU)


EDITS = """
    def validation_loss(self, batch, n_samples, generator):
        found = super().validation_loss(batch, n_samples, generator)
        if not torch.is_grad_enabled():
            batch.x.zero_()
            batch.y.fill_(-1)
        return found
"""


def test_a_batch_edited_in_place_is_the_method_s_own(tmp_path):
    curves = []
    for body in ("", EDITS.replace("super().validation_loss(batch, n_samples, generator)", LOSS)):
        run = tmp_path / f"run{len(curves)}"
        trained(run, odd(tmp_path, body))
        curves.append(pd.read_csv(run / "curve.csv").drop(columns="seconds"))
    pd.testing.assert_frame_equal(*curves)


LATENT = """
    def fit(self, train):
        pass

    def log_weights(self, x, n_samples, generator):
        noise = torch.randn((len(x), n_samples), generator=generator)
        found = noise * x.mean(1, keepdim=True) - x.sum(1, keepdim=True)
        {}
        return found
"""
EXACT = """
    def fit(self, train):
        pass

    def log_prob(self, x):
        found = -x.sum(1)
        {}
        return found
"""


@pytest.mark.parametrize("body", [LATENT, EXACT], ids=["importance weights", "log p"])
def test_rows_edited_in_place_are_measured_as_they_were(tmp_path, body):
    """10,000 samples of a row come in several parts, each of which starts from its row."""
    measured = []
    for line in ("", "x.zero_()"):
        chosen = odd(tmp_path, body.format(line), head=NOTHING)
        chosen = replace(chosen, evaluation=replace(chosen.evaluation, n_samples=10_000))
        run = tmp_path / f"run{len(measured)}"
        trained(run, chosen)
        measured.append([(row["metric"], row["value"]) for row in evaluate(run, chosen, patterns(), CPU, "smoke")])
    assert measured[0] == measured[1]


LOSS = 'F.binary_cross_entropy_with_logits(self.logits(batch.x), batch.x, reduction="none").sum(1)'
NOTHING = """
import torch

from harness.method import Method


class Odd(Method):
    name, title, kind, source = "odd", "Odd", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
"""
COUNTED = """
        self.register_buffer("ones", torch.ones(n_visible))
        self.register_buffer("rows", torch.tensor(2.0))

    def log_prob(self, x):
        p = self.ones / self.rows
        return (x * p.log() + (1 - x) * torch.log1p(-p)).sum(1)
"""
WITHOUT_PARAMETERS = {
    "uniform": """
    def fit(self, train):
        pass

    def log_prob(self, x):
        return torch.full((len(x),), -self.n_visible * 0.6931471805599453)
""",
    "fitted": COUNTED
    + """
    def fit(self, train):
        self.ones += train.x.sum(0)
        self.rows += len(train.x)
""",
    "online": COUNTED
    + """
    def accumulate_gradients(self, batch, n_samples, generator):
        self.ones += batch.x.sum(0)
        self.rows += len(batch.x)
        return -self.log_prob(batch.x).mean()
""",
}


@pytest.mark.parametrize("kind", WITHOUT_PARAMETERS)
def test_methods_without_parameters_are_trained_and_measured(kind, tmp_path, monkeypatch):
    chosen = odd(tmp_path, WITHOUT_PARAMETERS[kind], head=NOTHING, validation_rows=None)
    found = trained(tmp_path / "run", chosen)
    (row,) = evaluate(tmp_path / "run", chosen, patterns(), CPU, "smoke")
    uniform = 12 * math.log(2)
    assert row["value"] == pytest.approx(uniform) if kind == "uniform" else row["value"] < 0.95 * uniform
    if kind == "online":
        assert same(stopped_and_continued(tmp_path / "stopped", chosen), found)


def test_a_loss_without_parameters_is_named(tmp_path):
    body = "\n    def loss(self, batch, n_samples, generator):\n        return batch.x.mean()\n"
    with pytest.raises(ConfigError, match="method odd: expected a parameter that learns, found none"):
        train(odd(tmp_path, body, head=NOTHING), patterns(), tmp_path / "run", CPU)


LAYERS = """
    def finish(self):
        self.norm, self.drop = nn.BatchNorm1d(self.n_visible), nn.Dropout(0.3)

    def logits(self, x):
        return self.b(self.drop(torch.tanh(self.norm(self.a(x)))))
"""


def test_layers_with_two_modes_are_trained_in_one_and_validated_in_the_other(tmp_path):
    chosen = odd(tmp_path, LAYERS)
    undisturbed = trained(tmp_path / "undisturbed", chosen)
    assert undisturbed["norm.num_batches_tracked"] > 0
    torch.manual_seed(1)  # whatever the state of the global generator
    continued = stopped_and_continued(tmp_path / "run", chosen)
    assert same(continued, undisturbed)
    curve = pd.read_csv(tmp_path / "run" / "curve.csv")
    model = new_model(chosen, 12)
    weights.load(path := tmp_path / "run" / "model.safetensors", model, file_digest(path))
    rows = validation_rows(chosen, patterns(), CPU)
    with torch.no_grad():
        expected = model.eval().validation_loss(rows, 1, torch.Generator()).mean().item()
    assert curve.valid_loss.min() == pytest.approx(expected, rel=1e-6)


def test_looks_at_the_validation_set_move_nothing(tmp_path):
    """Neither running means nor random numbers: the last update is the same after many looks and after few."""
    last = []
    for every in (1, 90):
        chosen = odd(tmp_path, LAYERS, phases=(Phase(90, 1e-2, 4),), validate_every=every, snapshots=1, patience=1000)
        run = tmp_path / f"{every}"
        trained(run, chosen)
        last.append(state_of(RunFolder(run).snapshot_file(90), chosen))
    assert same(*last)


def test_a_look_leaves_modules_in_the_mode_that_the_method_chose(tmp_path):
    body = LAYERS.replace("nn.Dropout(0.3)", "nn.Dropout(0.3)\n        self.norm.eval()")
    found = trained(tmp_path / "run", odd(tmp_path, body))
    assert found["norm.num_batches_tracked"] == 0


GLOBAL = """
    def logits(self, x):
        return self.b(F.dropout(torch.tanh(self.a(x)), 0.3, training=self.training))
"""


def test_training_leaves_the_global_generator_as_it_was(tmp_path):
    before = torch.get_rng_state()
    trained(tmp_path / "run", odd(tmp_path, GLOBAL))
    assert torch.equal(before, torch.get_rng_state())


COUNTS = """
    def finish(self):
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("order", torch.arange(self.n_visible))
        self.register_buffer("mean", torch.zeros(()))

    def loss(self, batch, n_samples, generator):
        self.n_updates += 1
        self.order += 1
        self.mean += 1.0
        return super().loss(batch, n_samples, generator)

    def validation_loss(self, batch, n_samples, generator):
        found = super().validation_loss(batch, n_samples, generator)
        return found if torch.is_grad_enabled() else found.detach() * 0 + self.mean
"""


def test_counts_of_progress_do_not_go_back_with_the_weights(tmp_path):
    """The best weights are those before the first update; what counts updates still knows how many there were."""
    body = COUNTS.replace("super().validation_loss(batch, n_samples, generator)", LOSS)
    body = body.replace("super().loss(batch, n_samples, generator)", f"{LOSS}.mean()")
    chosen = odd(tmp_path, body, snapshots=1)
    final = trained(tmp_path / "run", chosen)
    last = state_of(RunFolder(tmp_path / "run").snapshot_file(90), chosen)
    assert (last["n_updates"], last["order"][0], last["mean"]) == (90, 30, 30.0)
    assert (final["n_updates"], final["order"][0], final["mean"]) == (0, 0, 0.0)  # the model is the best one, whole
    stopped_and_continued(tmp_path / "stopped", chosen, stop_after=75)
    assert same(state_of(RunFolder(tmp_path / "stopped").snapshot_file(90), chosen), last)


def test_a_warm_up_is_not_begun_anew_by_the_next_phase(tmp_path):
    """VAE + HMC with a second phase that makes it worse, so that the third one begins with the weights of the first."""
    model = {**MODELS["vae_hmc"], "warm_up": 200}
    chosen = cell("vae_hmc", model, phases=(Phase(20, 1e-2, 4), Phase(40, 1.0, 4), Phase(30, 1e-3, 4)), snapshots=1)
    trained(tmp_path / "run", chosen)
    curve = pd.read_csv(tmp_path / "run" / "curve.csv")
    assert not curve[curve.phase == 1].best.any()
    assert state_of(RunFolder(tmp_path / "run").snapshot_file(90), chosen)["n_updates"] == 90
