"""A user's own training: optimisers, rates, clipping, averages, annealing, hooks and loops; all of it resumes."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import patterns, train_until
from own_training import ALL, OwnLoop, OwnTraining, own
from plugins import odd
from torch import nn

import harness
from harness.compute.places import ROOT
from harness.errors import ConfigError, HarnessError
from harness.evaluation.evaluate import evaluate
from harness.method import Batch
from harness.plugins import registry
from harness.plugins.registry import use_files
from harness.settings.config import Cell, load_settings, resolve
from harness.settings.optimizers import class_and_arguments
from harness.settings.parts import Labels, Phase
from harness.storage import weights
from harness.storage.nested import put_together, taken_apart
from harness.storage.records import file_digest
from harness.storage.runs import OK, RunFolder
from harness.storage.search import trials
from harness.training.averaging import WeightAverage
from harness.training.batches import Rows, TrainingBatches
from harness.training.looks import validation_rows
from harness.training.optimizers import step_of
from harness.training.rates import rate_of
from harness.training.state import new_model
from harness.training.step import UpdateStep
from harness.training.train import train
from harness.verify import Subject, run_check

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget_methods():
    yield
    use_files([])
    registry._objects.clear()


def trained(run, chosen, data=None):
    assert train(chosen, data or patterns(), run, CPU) == OK
    return files_of(run)


def files_of(run):
    """Name -> bytes of all weights in the folder of a run, and the curve without seconds."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.glob("**/*.safetensors")}
    return {**found, "curve": pd.read_csv(run / "curve.csv").drop(columns="seconds").to_csv()}


def state_of(path, chosen):
    model = new_model(chosen, 12)
    weights.load(path, model, file_digest(path))
    return model.state_dict()


def batch(n=20, seed=0, dtype=torch.float32):
    return Batch((torch.rand(n, 12, generator=torch.Generator().manual_seed(seed)) < 0.5).to(dtype))


# -- the whole of it --------------------------------------------------------------------------------------------------


def test_everything_at_once_learns_and_is_measured(tmp_path):
    chosen = own(checkpoint_every_s=1e9)
    trained(tmp_path, chosen)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve.valid_loss.min() < curve.valid_loss.iloc[0] - 1.0
    (value,) = (r["value"] for r in evaluate(tmp_path, chosen, patterns(), CPU, "smoke") if r["metric"] == "-log p")
    assert math.isfinite(value)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    found = trained(tmp_path_factory.mktemp("undisturbed"), own(checkpoint_every_s=1e9))
    assert len(found) == 6  # the weights, four snapshots, the curve
    return found


@pytest.mark.parametrize("stop_after", [1, 9, 33, 60, 61, 75])
def test_everything_at_once_resumes_to_the_same_bytes(stop_after, undisturbed, tmp_path):
    """Inside a warm-up, on the way down, at the end of a phase, and in the next one."""
    train_until(own(), tmp_path, stop_after)
    torch.manual_seed(stop_after)  # whatever the global generator does meanwhile
    assert trained(tmp_path, own()) == undisturbed


def train_until_killed(run, moment):
    """To be called in a process of its own, which SIGKILL ends after so many updates."""
    torch.set_num_threads(1)
    train(own(), patterns(), run, CPU, stop=lambda update: update == moment and os.kill(os.getpid(), signal.SIGKILL))


def killed_twice(run, start):
    """A process is killed after its 23rd update, another goes on and is killed after its 71st."""
    for moment in (23, 71):
        assert start(moment) == -signal.SIGKILL
        assert checkpoint_update(run) == moment - 1
        assert not (run / "status.json").exists()


def test_sigkills_change_no_byte(undisturbed, tmp_path):
    def start(moment):
        process = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(tmp_path, moment))
        process.start()
        process.join()
        return process.exitcode

    killed_twice(tmp_path, start)
    assert trained(tmp_path, own()) == undisturbed


@pytest.mark.slow
def test_sigkills_of_fresh_processes_change_no_byte(undisturbed, tmp_path):
    code = (
        "import sys, pathlib, test_own_training as t; t.train_until_killed(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

    def start(moment):
        command = [sys.executable, "-c", code, str(tmp_path), str(moment)]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    killed_twice(tmp_path, start)
    assert start(-1) == 0
    assert files_of(tmp_path) == undisturbed


def checkpoint_update(run):
    from safetensors import safe_open

    with safe_open(RunFolder(run).checkpoint_file, framework="pt") as file:
        return json.loads(file.metadata()["bihm-harness"])["state"]["update"]


@pytest.mark.slow
@pytest.mark.parametrize("plugin", [OwnTraining, OwnLoop])
def test_planted_methods_conform(plugin):
    from harness.verify import CHECKS

    subject = Subject(plugin)
    verdicts = {check: run_check(check, subject) for check in CHECKS}
    assert {check: each.detail for check, each in verdicts.items() if each.verdict in ("failed", "NOT CHECKED")} == {}
    assert sum(each.verdict == "passed" for each in verdicts.values()) >= 12


@pytest.mark.parametrize("check", ["importance weights", "determinism", "checkpoint", "resuming", "learning"])
def test_a_method_with_everything_of_its_own_conforms(check):
    found = run_check(check, Subject(OwnTraining))
    assert found.verdict == "passed", found.detail


# -- optimisers -------------------------------------------------------------------------------------------------------

NAMED = {
    "adamw": {"weight_decay": 0.1, "betas": [0.8, 0.99]},
    "adam": {"amsgrad": True},
    "sgd": {"momentum": 0.9, "nesterov": True},
    "rmsprop": {"centered": True},
    "adagrad": {},
    "adadelta": {},
    "adamax": {},
    "nadam": {},
    "radam": {},
    "rprop": {},
    "asgd": {},
    "adafactor": {},
}


@pytest.mark.parametrize("name", NAMED)
def test_every_named_optimiser_resumes(name, tmp_path):
    chosen = odd(tmp_path, phases=(Phase(12, 1e-2, 1),), validate_every=4, optimizer={"name": name, **NAMED[name]})
    undisturbed = trained(tmp_path / "undisturbed", chosen)
    train_until(chosen, tmp_path / "run", 7)
    assert trained(tmp_path / "run", chosen) == undisturbed
    assert undisturbed != trained(
        tmp_path / "other", replace(chosen, training=replace(chosen.training, optimizer=None))
    )


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_updates_are_those_of_the_optimiser(tmp_path, clip_norm):
    """AdamW by hand, with PyTorch's clipping and the penalty as a term of the loss."""
    chosen = odd(tmp_path)
    model, reference = new_model(chosen, 12), new_model(chosen, 12)
    settings = {"name": "adamw", "weight_decay": 0.3}
    step = step_of(model, "float32", settings, clip_norm)
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.3)
    for update in range(10):
        step.run(batch(seed=update), 1, torch.Generator(), 0.01 / (1 + update), 1e-2)
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + update)
        penalty = sum(each.abs().sum() for each in reference.parameters() if each.dim() > 1)
        (reference.loss(batch(seed=update), 1, None) + 1e-2 * penalty).backward()
        if clip_norm is not None:
            assert nn.utils.clip_grad_norm_(reference.parameters(), clip_norm) > clip_norm
        optimizer.step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        # ten updates of at most 0.01 beside values of order 1, each rounded a few times
        assert (ours - theirs).abs().max() < 10 * 8 * 2.0**-24


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_clipping_before_the_default_adam(tmp_path, dtype):
    """In the fused pass and in the other one: the first moment is a tenth of the clipped gradient."""
    chosen = odd(tmp_path)
    for clip_norm in (1e-3, 1e3):
        model, reference = new_model(chosen, 12).to(dtype), new_model(chosen, 12).to(dtype)
        step = UpdateStep(model, "float32", clip_norm)
        step.run(batch(dtype=dtype), 1, torch.Generator(), 0.01, 1e-2)
        penalty = sum(each.abs().sum() for each in reference.parameters() if each.dim() > 1)
        (reference.loss(batch(dtype=dtype), 1, None) + 1e-2 * penalty).backward()
        norm = nn.utils.clip_grad_norm_(reference.parameters(), clip_norm)
        assert (norm > clip_norm) == (clip_norm < 1)
        expected = torch.sqrt(sum(each.grad.square().sum() for each in reference.parameters()))
        assert 10 * step.first.norm() == pytest.approx(expected.item(), rel=1e-5)
        assert step.parameters.gradients.abs().sum() == 0


CONFIGURED = """
    def configure_optimizer(self, learning_rate):
        return {}
"""
MADE = {
    "none at all": ("None", r"expected a torch\.optim\.Optimizer or a list of them, found None"),
    "too few": ("torch.optim.SGD(self.a.parameters(), lr=0.1)", r"parameter b\.weight in one group, found it in none"),
    "twice": ("[torch.optim.SGD(self.parameters(), lr=0.1)] * 2", r"parameter a\.weight in one group, found it in 2"),
    "strange": (
        "torch.optim.SGD([*self.parameters(), nn.Parameter(torch.zeros(7))], lr=0.1)",
        r"parameters of the model, found another one of shape \(7,\)",
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_optimisers_that_do_not_hold_the_parameters_are_named(tmp_path, case):
    made, message = MADE[case]
    with pytest.raises(
        ConfigError, match=f"method odd: configure_optimizer: expected {message.removeprefix('expected ')}"
    ):
        train(odd(tmp_path, CONFIGURED.format(made)), patterns(), tmp_path / "run", CPU)


SEVERAL = """[
            torch.optim.SGD([self.a.weight, self.b.weight], lr=learning_rate, momentum=0.5),
            torch.optim.AdamW(
                [{"params": [self.a.bias], "lr": 0.5 * learning_rate}, {"params": [self.b.bias]}], lr=learning_rate
            ),
        ]"""


def test_several_optimisers_resume_and_groups_keep_their_ratio(tmp_path):
    chosen = odd(tmp_path, CONFIGURED.format(SEVERAL), phases=ALL["phases"])
    undisturbed = trained(tmp_path / "undisturbed", chosen)
    train_until(chosen, tmp_path / "run", 33)
    assert trained(tmp_path / "run", chosen) == undisturbed
    step = step_of(new_model(chosen, 12), "float32", learning_rate=0.25)
    step.run(batch(), 1, torch.Generator(), 0.125, 0.0)
    assert [[group["lr"] for group in each.param_groups] for each in step.optimizers] == [[0.125], [0.0625, 0.125]]


def test_settings_beat_the_optimiser_of_a_method(tmp_path):
    plain, configured = (odd(tmp_path, body, optimizer={"name": "sgd"}) for body in ("", CONFIGURED.format(SEVERAL)))
    assert type(step_of(new_model(configured, 12)).optimizers[0]) is torch.optim.SGD
    found = [
        state_of(run / "model.safetensors", each)
        for run, each in ((tmp_path / "1", plain), (tmp_path / "2", configured))
        if trained(run, each)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


FORGETFUL = """
    def configure_optimizer(self, learning_rate):
        class Forgetful(torch.optim.SGD):
            def load_state_dict(self, state):
                pass

        return Forgetful(self.parameters(), lr=learning_rate, momentum=0.5)
"""
UNSPEAKABLE = """
    def configure_optimizer(self, learning_rate):
        found = torch.optim.SGD(self.parameters(), lr=learning_rate)
        found.param_groups[0]["module"] = self.a
        return found
"""


def test_optimisers_that_cannot_be_resumed_are_named(tmp_path):
    chosen = odd(tmp_path, FORGETFUL)
    train_until(chosen, tmp_path / "run", 33)
    with pytest.raises(HarnessError, match="method odd: expected optimisers whose load_state_dict brings back"):
        train(chosen, patterns(), tmp_path / "run", CPU)
    with pytest.raises(HarnessError, match=r"param_groups\.0\.module: expected tensors, numbers.*found Linear"):
        train(odd(tmp_path, UNSPEAKABLE), patterns(), tmp_path / "other", CPU)


def test_nested_state_comes_back_as_it_was():
    state = {0: {"a": torch.ones(2), "b": (1, [None, True])}, "a.b": [{"c": torch.zeros(()), 3: 0.1}], "a": {"b": "x"}}
    parts, tensors = taken_apart(state, "state.")
    back = put_together(json.loads(json.dumps(parts)), tensors)
    assert repr(back) == repr(state)
    assert all(name.startswith("state.") for name in tensors)


# -- rates ------------------------------------------------------------------------------------------------------------


def test_rates_warm_up_and_fall():
    constant, linear, cosine = (Phase(14, 0.8, 1, shape, 4) for shape in ("constant", "linear", "cosine"))
    rising = [0.2, 0.4, 0.6, 0.8]
    for phase in (constant, linear, cosine):
        assert [rate_of(phase, update) for update in range(4)] == pytest.approx(rising)
    assert {rate_of(constant, update) for update in range(3, 14)} == {0.8}
    assert [rate_of(linear, update) for update in range(4, 14)] == pytest.approx(list(0.8 * np.arange(10, 0, -1) / 10))
    expected = 0.4 * (1 + np.cos(np.pi * np.arange(10) / 10))
    assert [rate_of(cosine, update) for update in range(4, 14)] == pytest.approx(list(expected))
    assert rate_of(Phase(10, 0.1, 1), 9) == 0.1  # not a bit from it


def test_the_curve_has_the_rates_of_its_updates(tmp_path):
    chosen = odd(tmp_path, phases=ALL["phases"])
    trained(tmp_path / "run", chosen)
    curve = pd.read_csv(tmp_path / "run" / "curve.csv")
    first, second = chosen.training.phases
    expected = [
        rate_of(first, 0),
        *(rate_of(first, at - 1) for at in (20, 40, 60)),
        rate_of(second, 19),
        rate_of(second, 29),
    ]
    assert list(curve.learning_rate) == expected


def test_a_phase_that_ends_early_leaves_the_next_one_its_whole_schedule(tmp_path):
    """No look is better than the first: the first phase ends after 3 looks, and the second rises from its beginning."""
    phases = (Phase(1000, 3.0, 4), Phase(40, 1e-3, 4, "linear", 20))
    chosen = odd(tmp_path, optimizer={"name": "sgd"}, phases=phases, patience=3, validate_every=10)
    trained(tmp_path / "run", chosen)
    curve = pd.read_csv(tmp_path / "run" / "curve.csv")
    second = curve[curve.phase == 1]
    assert len(curve[curve.phase == 0]) < 50
    assert list(second.learning_rate) == [rate_of(phases[1], at) for at in (9, 19, 29, 39)]


# -- averaged weights -------------------------------------------------------------------------------------------------

LAYERS = """
    def finish(self):
        self.norm = nn.BatchNorm1d(self.n_visible)
        self.register_buffer("seen", torch.zeros(3))

    def logits(self, x):
        if self.training:
            self.seen += x.sum()
        return self.b(torch.tanh(self.norm(self.a(x))))
"""


def test_what_is_kept_is_the_weighted_mean_of_the_weights(tmp_path):
    """From the weights after every update, by the formula, running statistics included; other buffers are the last."""
    phases = (Phase(8, 1e-2, 1),)
    plain = odd(tmp_path, LAYERS, phases=phases, snapshots=1000, validate_every=8)
    averaged = replace(plain, training=replace(plain.training, average=0.7))
    after = []
    for chosen in (plain, averaged):
        run = tmp_path / f"{len(after)}"
        trained(run, chosen)
        after.append([state_of(RunFolder(run).snapshot_file(update), chosen) for update in range(1, 9)])
    last = state_of(run / "model.safetensors", averaged)
    for n, found in enumerate(after[1], start=1):
        shares = 0.7 ** np.arange(n - 1, -1, -1)
        shares /= shares.sum()
        for name, value in found.items():
            if name in ("seen", "norm.num_batches_tracked"):
                assert torch.equal(value, after[0][n - 1][name])
                continue
            expected = sum(share * each[name].double() for share, each in zip(shares, after[0], strict=False))
            assert (value.double() - expected).abs().max() < 1e-5
    assert all(torch.equal(last[name], value) for name, value in after[1][-1].items())
    model = new_model(averaged, 12)
    model.load_state_dict(last)
    with torch.no_grad():
        loss = model.eval().validation_loss(validation_rows(averaged, patterns(), CPU), 1, None).mean().item()
    assert pd.read_csv(run / "curve.csv").valid_loss.iloc[-1] == pytest.approx(loss, rel=1e-6)


def test_an_average_leaves_the_weights_that_move_as_they_are(tmp_path):
    model = new_model(odd(tmp_path, LAYERS), 12)
    step = UpdateStep(model, "float32")
    average = WeightAverage(model, step.parameters.values, 0.9)
    with average.in_place():  # nothing yet
        assert torch.equal(model.norm.running_var, torch.ones(12))
    for _ in range(3):
        step.run(batch(), 1, torch.Generator(), 0.1, 0.0)
        average.update()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with average.in_place():
        inside = {name: value.clone() for name, value in model.state_dict().items()}
        model.a.weight.data.fill_(7.0)
    changed = {name for name, value in before.items() if not torch.equal(value, inside[name])}
    assert changed == set(before) - {"seen", "norm.num_batches_tracked"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- the number of the update, and what comes after it ----------------------------------------------------------------

ANNEALED = """
    def finish(self):
        self.register_buffer("numbers", torch.full((90,), -1))

    def loss(self, batch, n_samples, generator, update=None):
        if update is not None:
            self.numbers[update] = update
        return F.binary_cross_entropy_with_logits(self.logits(batch.x), batch.x)

    def after_update(self, update):
        assert not torch.is_grad_enabled()
        assert self.numbers[update - 1] == update - 1
        self.a.weight.data = self.a.weight.clamp(-0.1, 0.1)
        self.zero_grad()

    validation_loss = None
"""
COUNTED = """
    def accumulate_gradients(self, batch, n_samples, generator, update=None):
        loss = F.binary_cross_entropy_with_logits(self.logits(batch.x), batch.x)
        if update is not None:
            self.numbers[update] = update
        with torch.enable_grad():
            F.binary_cross_entropy_with_logits(self.logits(batch.x), batch.x).backward()
        return loss.detach()
"""


@pytest.mark.parametrize("body", [ANNEALED, ANNEALED + COUNTED], ids=["loss", "gradients"])
@pytest.mark.parametrize("optimizer", [None, {"name": "sgd"}], ids=["Adam", "SGD"])
def test_updates_are_numbered_and_followed(tmp_path, body, optimizer):
    """Looks, which go by the loss here, pass no number."""
    chosen = odd(tmp_path, body, snapshots=1, optimizer=optimizer)
    undisturbed = trained(tmp_path / "undisturbed", chosen)
    last = state_of(RunFolder(tmp_path / "undisturbed").snapshot_file(90), chosen)
    assert torch.equal(last["numbers"], torch.arange(90))
    assert last["a.weight"].abs().max() == pytest.approx(0.1)
    train_until(chosen, tmp_path / "run", 33)
    assert trained(tmp_path / "run", chosen) == undisturbed


def test_a_loss_must_do_without_the_number(tmp_path):
    body = ANNEALED.replace("update=None", "update")
    with pytest.raises(ConfigError, match="method odd: loss: expected a default for update"):
        train(odd(tmp_path, body), patterns(), tmp_path / "run", CPU)


class CountsInPython(OwnTraining):
    """Keeps the number of its updates where no checkpoint finds it."""

    n = 0

    def after_update(self, update):
        self.n += 1
        self.decoder[0].weight *= 1.0 + 0.1 / self.n


class KeepsAnOptimizerState(OwnTraining):
    """Steps by what is in no state of an optimiser."""

    def configure_optimizer(self, learning_rate):
        class Heavy(torch.optim.SGD):
            last = 0.0

            def step(self, closure=None):
                self.last = 0.5 * self.last + self.param_groups[0]["params"][0].grad.sum().item()
                self.param_groups[0]["params"][0].data -= 0.01 * self.last
                super().step()

        return Heavy(self.parameters(), lr=learning_rate)


@pytest.mark.parametrize("plugin", [CountsInPython, KeepsAnOptimizerState])
def test_training_that_could_not_be_resumed_is_found(plugin):
    found = run_check("resuming", Subject(plugin))
    assert found.verdict == "failed"
    assert "what do updates depend on that is not in state_dict?" in found.detail


# -- loops of a method's own ------------------------------------------------------------------------------------------

LOOP = """
    def finish(self):
        self.drop = nn.Dropout(0.2)
        self.register_buffer("seen", torch.zeros(4))

    def fit(self, train, valid, generator):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        for _ in range(20):
            rows = torch.randint(len(train.x), (20,), generator=generator)
            logits = self.logits(self.drop(train.x[rows]))
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, train.x[rows]).backward()
            optimizer.step()
        self.seen += torch.tensor([len(train.x), len(valid.x), valid.x.sum(), (valid.y >= 0).sum()])
"""


def test_a_loop_of_its_own_is_seeded_and_may_differentiate(tmp_path):
    found = []
    for run in (tmp_path / "1", tmp_path / "2"):
        torch.manual_seed(len(found))
        chosen = odd(tmp_path, LOOP)
        with torch.no_grad():
            found.append(trained(run, chosen))
    assert found[0] == found[1]
    state = state_of(tmp_path / "1" / "model.safetensors", chosen)
    assert state["seen"].tolist() == [200, 60, patterns().valid.sum(), 60]
    other = replace(chosen, seed=1)
    trained(tmp_path / "3", other)
    assert not torch.equal(state_of(tmp_path / "3" / "model.safetensors", other)["a.weight"], state["a.weight"])


def test_a_loop_of_its_own_sees_the_labels_that_training_shows(tmp_path):
    body = LOOP.replace("len(train.x), len(valid.x)", "(train.y >= 0).sum(), len(valid.x)")
    chosen = odd(tmp_path, body, labels=Labels(rows=30, per_batch=5))
    trained(tmp_path / "run", chosen)
    assert state_of(tmp_path / "run" / "model.safetensors", chosen)["seen"][0] == 30


def test_a_fit_that_asks_for_something_else_is_named(tmp_path):
    body = LOOP.replace("valid, generator", "valid, budget")
    with pytest.raises(
        ConfigError, match=r"method odd: fit: expected the training rows, .*valid, generator, found budget"
    ):
        train(odd(tmp_path, body), patterns(), tmp_path / "run", CPU)


class Fickle(OwnLoop):
    """Depends on what no seed decides."""

    def fit(self, train, valid, generator):
        super().fit(train, valid, generator)
        self.logits.data += 1e-3 * np.random.default_rng().random()


class Stubborn(OwnLoop):
    """Looks at none of the rows."""

    def fit(self, train, valid, generator):
        self.logits.data = torch.randn(self.n_visible, generator=generator).double()


@pytest.mark.parametrize(
    ("plugin", "message"),
    [(Fickle, "16 rows again, from the same seed: what else"), (Stubborn, "expected another model from other 16 rows")],
)
def test_wrong_loops_are_found(plugin, message):
    found = run_check("closed form", Subject(plugin))
    assert found.verdict == "failed"
    assert message in found.detail


# -- draws that know no generator -------------------------------------------------------------------------------------


def test_global_draws_within_seeds_depend_on_the_generator_alone():
    drawn = []
    for other, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(other)
        before, draws = torch.get_rng_state(), torch.Generator().manual_seed(seed)
        with harness.seeds(draws):
            values = [torch.distributions.Normal(0.0, 1.0).sample((3,)), nn.functional.dropout(torch.ones(50))]
            with harness.seeds(draws):
                values.append(torch.rand(3))
            values.append(torch.rand(3, generator=draws))
        with harness.seeds(draws):
            values.append(torch.rand(3))
        assert torch.equal(before, torch.get_rng_state())
        drawn.append(torch.cat(values))
        assert len(drawn[-1].unique()) == 12 + 2  # nothing twice, but for what dropout leaves and takes
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


class Unseeded(OwnTraining):
    """Draws without regard to the generator."""

    def sample(self, n, generator):
        return torch.distributions.Bernoulli(0.5).sample((n, self.n_visible)).double()


def test_draws_without_seeds_are_found_and_told_what_to_do():
    found = run_check("determinism", Subject(Unseeded))
    assert found.verdict == "failed"
    assert "sample: expected the same values from one generator" in found.detail
    assert "with harness.seeds(generator):" in found.detail


# -- settings ---------------------------------------------------------------------------------------------------------


def resolved(**training):
    settings = load_settings({"preset": "smoke", "budgets": {"nade": {"adult": {"training": training}}}})
    return resolve(settings, "adult", "nade")


SCHEDULE = {"updates": [40, 20], "learning_rate": 0.1, "n_samples": 1}


def test_settings_that_say_nothing_are_in_no_digest():
    plain = resolved()
    assert not {"optimizer", "clip_norm", "average"} & set(plain.to_dict()["training"])
    assert all(
        set(phase) == {"updates", "learning_rate", "n_samples"} for phase in plain.to_dict()["training"]["phases"]
    )
    assert resolved(optimizer=None, clip_norm=None, average=None).training_digest == plain.training_digest
    spelt_out = {**SCHEDULE, "shape": "constant", "warm_up": 0}
    assert resolved(schedule=spelt_out).training_digest == resolved(schedule=SCHEDULE).training_digest
    digests = {plain.training_digest}
    for each in (
        {"optimizer": {"name": "adam"}},
        {"optimizer": {"name": "adam", "eps": 1e-6}},
        {"clip_norm": 1},
        {"average": 0.9},
        {"schedule": {**SCHEDULE, "shape": "cosine"}},
        {"schedule": {**SCHEDULE, "warm_up": 5}},
    ):
        found = resolved(**each)
        digests.add(found.training_digest)
        assert Cell.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert len(digests) == 7


def test_a_schedule_says_shapes_and_warm_ups():
    def phases(**schedule):
        return [(each.shape, each.warm_up) for each in resolved(schedule={**SCHEDULE, **schedule}).training.phases]

    assert phases(shape="cosine", warm_up=5) == [("cosine", 5), ("cosine", 0)]
    assert phases(shape=["constant", "linear"], warm_up=[5, 2]) == [("constant", 5), ("linear", 2)]
    assert phases(shape=None, warm_up=None) == [("constant", 0)] * 2


def test_a_shorter_training_has_a_shorter_warm_up():
    training = {"schedule": {**SCHEDULE, "shape": "cosine", "warm_up": 20}}
    settings = {"preset": "smoke", "updates": 15, "budgets": {"nade": {"adult": {"training": training}}}}
    found = resolve(load_settings(settings), "adult", "nade").training.phases
    assert found == (Phase(10, 0.1, 1, "cosine", 5), Phase(5, 0.01, 1, "cosine"))


def test_an_entry_that_names_an_optimiser_replaces_that_of_more_general_ones():
    def found(general, special):
        budgets = {"nade": {"*": {"training": {"optimizer": general}}, "adult": {"training": {"optimizer": special}}}}
        return resolve(load_settings({"preset": "smoke", "budgets": budgets}), "adult", "nade").training.optimizer

    general = {"name": "adamw", "weight_decay": 0.1}
    assert found(general, {"name": "sgd", "momentum": 0.9}) == {"name": "sgd", "momentum": 0.9}
    assert found(general, {"weight_decay": 0.2}) == {"name": "adamw", "weight_decay": 0.2}
    assert found(general, None) is None


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": {"name": "adamv"}}, r"optimizer\.name: .*expected one of adadelta, .*, sgd, found 'adamv'"),
        ({"optimizer": {"name": "lbfgs"}}, r"optimizer\.name: .*expected one of .* found 'lbfgs'"),
        ({"optimizer": {"momentum": 0.9}}, r"optimizer: .*expected key 'name', found none"),
        (
            {"optimizer": {"name": "adamw", "momentum": 1}},
            r"optimizer\.momentum: .*expected one of betas, .*found 'mom",
        ),
        ({"optimizer": {"name": "sgd", "lr": 0.1}}, r"optimizer\.lr: .*the learning rate is that of phases"),
        (
            {"optimizer": {"name": "sgd", "momentum": {}}},
            r"optimizer\.momentum: expected number or boolean .*found \{\}",
        ),
        ({"optimizer": "adamw"}, r"optimizer: expected object or null, found 'adamw'"),
        ({"clip_norm": 0}, r"clip_norm: expected a number above 0, found 0"),
        ({"average": 1}, r"average: expected a number below 1, found 1"),
        ({"schedule": {**SCHEDULE, "shape": "sine"}}, r"schedule\.shape"),
        (
            {"schedule": {**SCHEDULE, "shape": ["cosine"]}},
            r"expected one shape or as many as updates, which are 2, found 1",
        ),
        (
            {"schedule": {**SCHEDULE, "warm_up": 40}},
            r"schedule\.warm_up: .*expected fewer than the 40 updates, found 40",
        ),
        (
            {"phases": [{"updates": 5, "learning_rate": 0.1, "n_samples": 1, "warm_up": 5}]},
            r"training\.phases\.0\.warm_up: .*expected fewer than the 5 updates, found 5",
        ),
    ],
)
def test_wrong_settings_are_named(training, message):
    with pytest.raises(ConfigError, match=rf"budgets\.nade\.adult\.training\.{message}|{message}"):
        resolved(**training)


def test_arguments_that_the_optimiser_refuses_are_named(tmp_path):
    chosen = odd(tmp_path, optimizer={"name": "sgd", "momentum": -1.0})
    with pytest.raises(
        ConfigError, match=r"training\.optimizer: expected arguments that torch\.optim\.SGD takes: .*momentum"
    ):
        train(chosen, patterns(), tmp_path / "run", CPU)


def test_names_and_arguments_read_from_the_text_are_those_of_the_classes():
    import inspect

    assert set(NAMED) == {*NAMED} & {n.lower() for n in dir(torch.optim)}
    for name in NAMED:
        cls, arguments = class_and_arguments(name)
        known = set(inspect.signature(getattr(torch.optim, cls).__init__).parameters)
        assert set(arguments) <= known
        assert known - set(arguments) == {"self", "params", "lr", *known & {"maximize", "capturable", "differentiable"}}


def test_options_are_axes_of_searches():
    search = {"training.clip_norm": [1.0, 2.0], "training.optimizer": [{"name": "sgd", "momentum": 0.5}], "updates": 30}
    budget = {"training": {"schedule": {**SCHEDULE, "shape": "cosine", "warm_up": 20}}}
    settings = {"preset": "smoke", "budgets": {"nade": {"adult": budget}}, "searches": {"nade": {"adult": search}}}
    found = trials(load_settings(settings))
    assert [trial.name for trial in found] == [
        f"training.clip_norm={norm},training.optimizer=0.5xsgd,updates=30".removesuffix(",updates=30")
        for norm in (1.0, 2.0)
    ]
    assert found[0].cell.training.phases == (Phase(20, 0.1, 1, "cosine", 10), Phase(10, 0.01, 1, "cosine"))
    search = {"training.schedule": [{**SCHEDULE, "shape": "cosine", "warm_up": 2}]}
    (trial,) = trials(load_settings({"preset": "smoke", "searches": {"nade": {"adult": search}}}))
    assert trial.name == "training.phases=40x0.1x1xcosinex2-20x0.01x1xcosine"


# -- rows that are drawn from grey levels -----------------------------------------------------------------------------


def grey_patterns(binarize=True):
    data = patterns()
    levels = {split: (200 * getattr(data, split) + 25).astype(np.uint8) for split in ("train", "valid", "test")}
    levels["train"][:, 0], levels["train"][:, 1] = 0, 255
    return replace(data, grey=True, binarize=binarize, **levels)


def test_training_rows_are_drawn_anew_from_grey_levels_in_every_update():
    rows = Rows.of_split(grey_patterns(), "train", CPU)
    batches = TrainingBatches(rows, 200, seed=1, labels=None)  # every update sees all rows, in another order
    drawn = [batches.at(update) for update in range(300)]
    assert all(bool(((each.x == 0) | (each.x == 1)).all()) for each in drawn)
    levels = rows.batch(slice(None)).x
    mean = torch.stack([each.x.mean(0) for each in drawn]).mean(0)
    error = (levels * (1 - levels)).mean(0).sqrt() / math.sqrt(300 * 200)
    assert ((mean - levels.mean(0)).abs() <= 5 * error).all()
    assert not torch.equal(*(each.x.sort(0).values for each in drawn[:2]))
    again = TrainingBatches(Rows.of_split(grey_patterns(), "train", CPU), 200, seed=1, labels=None).at(7)
    assert torch.equal(again.x, drawn[7].x)
    plain = TrainingBatches(Rows.of_split(grey_patterns(False), "train", CPU), 200, seed=1, labels=None).at(7)
    assert len(plain.x.unique()) == 4
    assert torch.equal(plain.y, drawn[7].y)


def test_other_rows_are_drawn_once(tmp_path):
    data = grey_patterns()
    for split in ("valid", "test"):
        found, again = (Rows.of_split(data, split, CPU).batch(slice(None)).x for _ in range(2))
        assert torch.equal(found, again)
        assert set(found.unique().tolist()) == {0.0, 1.0}
        # 25/255 and 225/255 are ten standard errors from other levels
        expected = getattr(data, split) / 255.0
        assert abs((found.numpy() - expected).mean()) < 5 * math.sqrt(
            (expected * (1 - expected)).mean() / expected.size
        )
    chosen = odd(tmp_path)
    undisturbed = trained(tmp_path / "undisturbed", chosen, data)
    train_until(chosen, tmp_path / "run", 33, data)
    assert trained(tmp_path / "run", chosen, data) == undisturbed
    assert undisturbed != trained(tmp_path / "grey", chosen, grey_patterns(False))
