"""Layers that wait until those below are reliable: what decides, what is trained meanwhile, that all of it resumes."""

import copy
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from cells import cell, patterns, train_until
from enumerable import flat_gradient, small_model, z_scores, zero_gradients
from test_gpu_path import EAGER_UPDATES, RecordedOperations

from harness.blocks import exact
from harness.blocks.release import Release, reliability
from harness.blocks.small_layers import one_by_one
from harness.errors import ConfigError
from harness.evaluation.analyses.layer_use import layers_used
from harness.kernels import threads
from harness.method import Batch
from harness.plugins.registry import build, method_class
from harness.settings.config import load_settings, resolve
from harness.settings.parts import Labels, Phase
from harness.storage.runs import OK, RunFolder
from harness.training.optimizers import step_of
from harness.training.state import TrainingState, new_model
from harness.training.step import UpdateStep
from harness.training.train import train
from harness.verify import CHECKS, Subject, run_check

CPU = torch.device("cpu")
N_VISIBLE = 9
LAYERS = [6, 5, 4, 3]
NEVER = 0.999  # no sampled layer is as reliable


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(seed=0, n=20, n_visible=N_VISIBLE, dtype=torch.float32):
    return (torch.rand(n, n_visible, generator=generator(seed)) < 0.5).to(dtype)


def with_released(model, n):
    """The model with so many layers in use, as if their release were in the weights that it loads."""
    state = model.state_dict()
    model.load_state_dict({**state, "release.released": torch.tensor(n)})
    return model


def waiting_model(n=1, name="bihm", layers=LAYERS, dtype=torch.float64, n_visible=N_VISIBLE, scale=0.8):
    model = small_model(name, n_visible=n_visible, scale=scale, layers=layers, release=NEVER).to(dtype)
    return with_released(model, n)


def truncated(model):
    """The lower layers as a model of their own; (the model, its parameters, those that they are copies of)."""
    n = len(model.q_layers)
    layers = [len(bias) for bias in model.q_bias[:n]]
    small = build(model.name, model.n_visible, {"layers": layers}).to(model.prior_bias.dtype)
    theirs = [*model.p_weight[:n], *model.p_bias[:n], *model.q_weight[:n], *model.q_bias[:n]]
    theirs.append(model.p_bias[n] if n < len(model.p_bias) else model.prior_bias)
    ours = [*small.p_weight, *small.p_bias, *small.q_weight, *small.q_bias, small.prior_bias]
    with torch.no_grad():
        for our, their in zip(ours, theirs, strict=True):
            our.copy_(their)
    return small, ours, theirs


# -- what decides -----------------------------------------------------------------------------------------------------


def test_reliability_of_draws_is_the_correlation_of_two():
    """Of draws whose probabilities are known, Var[p(x)] / (m (1 - m)) summed over units, within its standard error."""
    p = torch.rand(4000, 6, generator=generator(1), dtype=torch.float64) ** 2
    p[:, 4], p[:, 5] = 0.3, (p[:, 5] > 0.2).double()  # x decides nothing, and all
    mean = p.mean(0)
    expected = (p.var(0, correction=0).sum() / (mean * (1 - mean)).sum())[None]
    found = []
    for repeat in range(50):
        draws = (torch.rand(3, *p.shape, generator=generator(2 + repeat), dtype=torch.float64) < p).float()
        found.append(reliability(draws.transpose(0, 1).flatten(0, 1), 3)[None])
    assert z_scores(torch.stack(found), expected).abs().max() < 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_reliability_of_what_x_decides_is_one_and_of_what_never_changes_zero(dtype):
    decided = rows(n=30).repeat_interleave(300, dim=0).to(dtype)  # more draws than bfloat16 counts
    assert reliability(decided, 300).item() == 1.0
    assert reliability(torch.ones(40, 7, dtype=dtype), 4).item() == 0.0


def test_one_sample_says_nothing_about_the_others():
    model = waiting_model()
    zero_gradients(model)
    with pytest.raises(ConfigError, match="release: n_samples: expected at least 2, to compare draws, found 1"):
        model.accumulate_gradients(Batch(rows(dtype=torch.float64)), 1, generator())


def test_a_layer_is_released_at_the_next_decision_and_the_average_begins_anew():
    release = Release(3, threshold=0.5, every=4)
    certain = rows(n=10).repeat_interleave(2, dim=0)
    uncertain = torch.cat([torch.ones(10, 3), torch.zeros(10, 3)], dim=1).view(20, 3)
    seen = []
    for draws in [certain] * 9 + [uncertain] * 40:
        seen.append((release.advance(), release.n_released))
        release.see(draws, 2)
    assert [i for i, (advanced, _) in enumerate(seen) if advanced] == [4, 8]
    assert seen[-1] == (False, 3)
    assert release.reliability[0] == 1.0
    assert release.reliability[2] < 0.5
    again = Release(3, threshold=0.5, every=4)
    again.load_state_dict(release.state_dict())
    again.read()
    assert (again.n_released, again.n_updates) == (3, 49)


# -- what is trained meanwhile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, len(LAYERS) + 1))
@pytest.mark.parametrize("name", ["bihm", "rws", "vimco"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_layers_in_use_are_a_model_of_their_own(name, n, dtype):
    """Log-weights, losses, gradients and samples from the same random numbers are equal to the last bit."""
    model = waiting_model(n, name, dtype=dtype)
    small, ours, theirs = truncated(model)
    x = rows(dtype=dtype)
    assert torch.equal(model.log_weights(x, 7, generator(1)), small.log_weights(x, 7, generator(1)))
    losses = []
    for each in (model, small):
        zero_gradients(each)
        losses.append(each.accumulate_gradients(Batch(x), 5, generator(2)))
    assert torch.equal(*losses)
    assert all(torch.equal(our.grad, their.grad) for our, their in zip(ours, theirs, strict=True))
    n_moved = sum(bool(parameter.grad.any()) for parameter in model.parameters())
    assert n_moved == len(ours)
    samples = [each.sample_layers(30, generator(3)) for each in (model, small)]
    assert len(samples[0]) == len(samples[1]) == n + 1
    assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True))
    assert model.waiting_units() == LAYERS[n:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_are_those_of_autograd_on_the_same_samples(n, dtype):
    """By the graph through log p and log q of the truncated model; float32 goes through the kernel of small layers."""
    model = waiting_model(n, dtype=dtype)
    x = rows(dtype=dtype)
    inferred = model.infer(x, 6, generator(2))
    assert (inferred.upper is not None) == (dtype == torch.float32 and n > 1)
    h = [layer.double() for layer in inferred.h]
    p_weights = torch.rand(len(x) * 6, generator=generator(3), dtype=torch.float64)
    q_weights = torch.randn(len(x) * 6, generator=generator(4), dtype=torch.float64)
    zero_gradients(model)
    model.add_p_gradients(inferred, p_weights.to(dtype))
    model.add_prior_gradients(inferred, p_weights.to(dtype))
    model.add_q_gradients(inferred, q_weights.to(dtype))
    found = flat_gradient(model).double()
    model.double()
    zero_gradients(model)
    small, ours, theirs = truncated(model)
    wide = x.double().repeat_interleave(6, dim=0)
    (p_weights * small.log_joint(wide, h) + q_weights * small.log_recognition(wide, h)).sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        their.grad.copy_(our.grad)
    # of float32, the error of a term as test_small_layers has it, times the sum of the factors
    size = max(p_weights.sum().item(), q_weights.abs().sum().item())
    tolerance = 2e-6 * size if dtype == torch.float32 else 1e-12 * size
    assert (found - flat_gradient(model)).abs().max() < tolerance


def test_mean_gradient_is_that_of_the_exact_objective_of_the_layers_in_use():
    model = waiting_model(2, layers=[3, 2, 2], n_visible=5)
    x = exact.all_binary(5)[[3, 10, 12, 29]]
    zero_gradients(model)
    (-exact.log_p_star_unnormalised(model, x).mean()).backward()
    expected, found, draws = flat_gradient(model), [], generator(1)
    for _ in range(100):
        zero_gradients(model)
        model.accumulate_gradients(Batch(x), 3000, draws)
        found.append(flat_gradient(model))
    assert z_scores(torch.stack(found), expected).abs().max() < 4


@pytest.mark.skipif(len(threads.entry_points()) == 0, reason="this PyTorch brings no OpenMP library with GNU's names")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_updates_are_those_of_the_truncated_model(precision, n_threads):
    """With the penalty, by the kernels, wide enough for two threads: the very same weights."""
    torch.set_num_threads(n_threads)
    try:
        model = waiting_model(2, layers=[90, 70, 60, 33], n_visible=300, dtype=torch.float32, scale=0.1)
        small, ours, theirs = truncated(model)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        steps = [UpdateStep(each, precision) for each in (model, small)]
        assert threads.n_threads(len(steps[1].parameters.values)) == n_threads
        for update in range(6):
            batch = Batch(rows(update, 50, 300))
            losses = [step.run(batch, 5, generator(update), 0.01, 1e-5) for step in steps]
            assert torch.equal(*losses)
        assert all(torch.equal(our, their) for our, their in zip(ours, theirs, strict=True))
        moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        assert sum(moved) == len(ours)
    finally:
        torch.set_num_threads(1)


OPTIMIZERS = {"Adam": None, "AdamW": {"name": "adamw", "weight_decay": 0.1}, "SGD": {"name": "sgd", "momentum": 0.9}}


@pytest.mark.parametrize("clip_norm", [None, 0.5], ids=["", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nothing_moves_layers_that_wait(optimizer, clip_norm, dtype):
    """No penalty and no decay reach them, their moments stay zero, and they do not count in the gradient's length."""
    model = waiting_model(2, dtype=dtype)
    step = step_of(model, "float32", optimizer, clip_norm, 0.05)
    small, ours, theirs = truncated(model)
    alone = step_of(small, "float32", optimizer, clip_norm, 0.05)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for update in range(5):
        for each in (step, alone):
            each.run(Batch(rows(update, dtype=dtype)), 4, generator(update), 0.05, 1e-2)
    in_use = {id(parameter) for parameter in theirs}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != (id(parameter) in in_use), name
    for our, their in zip(ours, theirs, strict=True):
        # the length of the longest gradient is a sum in another order
        assert torch.equal(our, their) if clip_norm is None else torch.allclose(our, their, rtol=1e-4, atol=1e-6)
    if optimizer is None:
        for moment in (step.first, step.second):
            for parameter, value, _ in step.parameters._views:
                part = moment[value.storage_offset() : value.storage_offset() + value.numel()]
                assert bool(part.any()) == (id(parameter) in in_use)


def test_a_stack_whose_layers_are_all_released_is_the_one_without_the_option():
    models = [with_released(waiting_model(dtype=torch.float32), len(LAYERS))]
    models.append(build("bihm", N_VISIBLE, {"layers": LAYERS}))
    models[1].load_state_dict({n: v for n, v in models[0].state_dict().items() if not n.startswith("release.")})
    ends = []
    for model in models:
        step = UpdateStep(model, "float32")
        for update in range(5):
            step.run(Batch(rows(update)), 4, generator(update), 0.05, 1e-3)
        ends.append(step.parameters.values)
        assert model.waiting_units() == []
    assert torch.equal(*ends)


def test_without_the_option_a_model_has_no_more_in_it():
    plain = build("bihm", N_VISIBLE, {"layers": LAYERS})
    assert list(plain.buffers()) == []
    assert plain.begin_update() == ()
    with_option = build("bihm", N_VISIBLE, {"layers": LAYERS, "release": 0.1})
    assert set(with_option.state_dict()) - set(plain.state_dict()) == {
        "release.released",
        "release.updates",
        "release.reliability",
    }
    assert "release" not in resolve(load_settings(), "adult", "bihm").model


def test_small_layers_in_use_go_together():
    model = waiting_model(3, dtype=torch.float32)
    together = model.infer(rows(), 5, generator(1))
    assert (together.n_single, len(together.h), len(together.upper.plan)) == (1, 3, 3)
    with one_by_one():
        apart = model.infer(rows(), 5, generator(1))
    assert all(torch.equal(a, b) for a, b in zip(together.h, apart.h, strict=True))
    assert torch.allclose(together.log_p, apart.log_p, atol=1e-4)


def test_a_copy_and_a_moved_model_release_layers_of_their_own():
    model = waiting_model(1, dtype=torch.float32)
    copied = copy.deepcopy(model)
    copied.release.reliability.fill_(1.0)
    assert len(copied.begin_update()) == 8
    assert (len(copied.q_layers), len(model.q_layers)) == (2, 1)
    assert copied.prior.bias is copied.p_bias[2]
    moved = waiting_model(1).to("meta")
    moved.release.n_updates = 1  # it is no time to decide, which needs a number
    assert all(parameter.is_meta for parameter in moved.begin_update())


# -- labels -----------------------------------------------------------------------------------------------------------

LABELLED = {"layers": [3, 2], "gamma": 0.3, "n_classes": 3, "release": NEVER}


@pytest.mark.parametrize("estimator", ["separate", "shared"])
def test_a_label_above_layers_that_wait_is_independent_of_the_row(estimator):
    """B(x, y) = A(x) / n_classes, and gradients of both are exact on average; no parameter of the label gets one."""
    model = small_model("ssl_bihm", **LABELLED, estimator=estimator)
    x = exact.all_binary(5)[[3, 10, 12, 29]]
    batch = Batch(x, torch.tensor([2, -1, 0, -1]))
    log_a = 0.5 * exact.log_p_star_unnormalised(model, x)
    assert torch.allclose(model.exact_label_weights(x), log_a[:, None] - math.log(3))
    zero_gradients(model)
    known = batch.y >= 0
    loss = torch.where(known, 0.3 * log_a - (log_a - math.log(3)), -2 * log_a).mean()
    loss.backward()
    expected, found, draws = flat_gradient(model), [], generator(1)
    for _ in range(100):
        zero_gradients(model)
        model.accumulate_gradients(batch, 3000, draws)
        found.append(flat_gradient(model))
    assert z_scores(torch.stack(found), expected).abs().max() < 4
    waiting = {id(parameter) for parameter in model.begin_update()}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in waiting) == (not parameter.grad.any()), name
        assert id(parameter) in waiting or not name.startswith("label"), name


@pytest.mark.parametrize("method", ["ssl_bihm", "ssl_bihm_low"])
def test_labels_are_learned_in_time_and_training_resumes(method, tmp_path):
    model = {**STAGED, "layers": [6, 4], "gamma": 0.1, "n_classes": 3}
    chosen = cell(method, model, phases=(Phase(100, 0.2, 5),), labels=Labels(rows=30, per_batch=5))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(chosen, patterns(), whole, CPU) == OK
    train_until(chosen, stopped, 40)
    assert train(chosen, patterns(), stopped, CPU) == OK
    assert (whole / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    trained, start = new_model(chosen, 12), new_model(chosen, 12)
    RunFolder(whole).load_model(trained, RunFolder(whole).status()["model_sha256"])
    assert not trained.waits
    label = "label_q_weight" if method == "ssl_bihm" else "head.output.weight"
    ends = [dict(each.named_parameters())[label] for each in (trained, start)]
    assert not torch.equal(*ends)


# -- in training ------------------------------------------------------------------------------------------------------

STAGED = {"layers": [6, 4, 3], "release": 0.05, "release_every": 12}
PHASES = (Phase(120, 0.2, 5), Phase(40, 0.05, 5))


def staged(method="bihm", **training):
    return cell(method, STAGED, **{"phases": PHASES, **training})


def releases(chosen, batches, rate=0.2):
    """(update, layers in use) wherever that changed, and the model at the end."""
    state, found = TrainingState(chosen, 12, CPU), [(0, 1)]
    for update, x in enumerate(batches):
        state.step.run(Batch(x), 5, state.generator, rate, 1e-5)
        if state.model.release.n_released != found[-1][1]:
            found.append((update, state.model.release.n_released))
    return found, state.model


def test_layers_are_released_where_those_below_become_reliable():
    """Rows of three kinds, which a layer can tell; and rows of noise, about which no layer has anything to tell."""
    data = torch.from_numpy(patterns().train).float()
    found, model = releases(staged(), (data[torch.arange(20 * i, 20 * i + 20) % len(data)] for i in range(160)))
    assert [n for _, n in found] == [1, 2, 3]
    assert all(update % 12 == 0 for update, _ in found)
    assert (model.release.reliability[:2] > 0.05).all()
    for seed in range(4):  # Adam's walk of 300 such steps takes the reliability to 0.021, give or take 0.004
        noise = (rows(1000 * seed + i, 20, 12) for i in range(300))
        assert releases(replace(staged(), seed=seed), noise, rate=0.01)[0] == [(0, 1)]


def _n_in_use(path):
    from safetensors.torch import load_file

    return load_file(path)["model.release.released"].item()


@pytest.fixture(scope="module", name="undisturbed")
def _undisturbed(tmp_path_factory):
    """Trainings that were never stopped, by what they are: (cell, folder, updates before the first release)."""
    made = {}

    def train_whole(**training):
        key = str(training)
        if key not in made:
            run = tmp_path_factory.mktemp("undisturbed")
            chosen = staged(checkpoint_every_s=1e9, **training)
            assert train(chosen, patterns(), run, CPU) == OK
            made[key] = chosen, run, _first_release(chosen, tmp_path_factory.mktemp("looked"))
        return made[key]

    return train_whole


def _first_release(chosen, folder):
    """The number of updates after which the next one begins by releasing the second layer."""
    for update in range(12, 120, 12):
        run = folder / str(update)
        train_until(chosen, run, update + 1)
        if _n_in_use(RunFolder(run).checkpoint_file) > 1:
            return update
    raise AssertionError("no layer was released")


@pytest.mark.parametrize("moment", [-1, 0, 1, 2], ids=["before", "at", "after", "long after"])
@pytest.mark.parametrize("training", [{}, {"optimizer": OPTIMIZERS["AdamW"], "average": 0.9, "clip_norm": 1.0}])
def test_stopping_at_a_release_and_going_on_changes_no_byte(undisturbed, moment, training, tmp_path):
    chosen, whole, first = undisturbed(**training)
    run = tmp_path / "stopped"
    train_until(chosen, run, first + moment if moment < 2 else 130)
    assert (_n_in_use(RunFolder(run).checkpoint_file) == 1) == (moment <= 0)
    assert train(chosen, patterns(), run, CPU) == OK
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    curves = [pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (run, whole)]
    pd.testing.assert_frame_equal(*curves)


def test_a_look_is_at_the_layers_that_were_trained():
    """A layer that is due is released by the update that trains it, not before."""
    model = waiting_model(1, dtype=torch.float32)
    model.release.reliability.fill_(1.0)
    step = UpdateStep(model, "float32")
    assert len(model.q_layers) == 1
    step.run(Batch(rows()), 4, generator(), 0.01, 0.0)
    assert len(model.q_layers) == 2


def test_best_weights_say_how_many_layers_they_are_of():
    """The next phase keeps what was released, with a new average; the end of training goes back to all of the best."""
    state = TrainingState(staged(), 12, CPU)
    release = state.model.release
    release.reliability[0] = 0.04
    state.keep_as_best()
    release.n_updates = 24
    release.updates.fill_(24)
    release.reliability[0] = 0.3
    state.model.begin_update()
    release.reliability[1] = 0.9
    assert len(state.model.q_layers) == 2
    state.load_best_weights_alone()
    assert (len(state.model.q_layers), release.n_updates) == (2, 25)
    assert release.reliability.tolist() == [0.04, 0.0, 0.0]
    state.model.begin_update()
    assert len(state.model.q_layers) == 2
    state.load_best()
    assert len(state.model.q_layers) == 1
    assert state.model.prior.bias is state.model.p_bias[1]


@pytest.mark.parametrize("method", ["rws", "vimco"])
def test_other_stacks_may_wait_as_well(method, tmp_path):
    assert train(staged(method), patterns(), tmp_path, CPU) == OK
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve.valid_loss.min() < curve.valid_loss.iloc[0]


def test_layers_that_wait_have_no_live_unit():
    model = waiting_model(2, dtype=torch.float32)
    found = layers_used(model, rows(n=60), 5, generator(1))
    assert [layer.n_units for layer in found] == LAYERS
    assert [(layer.live, layer.reliability, layer.information) for layer in found[2:]] == [(0, 0.0, 0.0)] * 2
    assert all(layer.live > 0 and math.isfinite(layer.information) for layer in found[:2])


def test_updates_are_captured_once_no_layer_waits():
    """As a GPU has it: with a stand-in for CUDA graphs, the same values as without."""
    found = []
    for captured in (True, False):
        model = waiting_model(1)
        step = UpdateStep(model, "float32")
        if captured:
            flat = step.parameters
            persistent = (flat.values, flat.gradients, step.first, step.second, *model.buffers())
            step._graphs = type("Recorded", (RecordedOperations,), {"persistent": persistent})
        draws = generator(1)
        for update in range(24):
            if update in (4, 8, 12):
                model.release.reliability.fill_(1.0)
                model.release.n_updates = 100
            step.run(Batch(rows(update, dtype=torch.float64)), 3, draws, 0.05, 1e-3)
            assert len(model.q_layers) == 1 + min(3, update // 4)
            if captured:
                n_eager = [each.n_eager for each in step._captured.values()]
                assert n_eager == ([] if update < 12 else [min(update - 11, EAGER_UPDATES)])
        found.append(step.parameters.values.detach().clone())
    assert torch.equal(*found)


# -- verified ---------------------------------------------------------------------------------------------------------

# one of two layers in use; layers that come into use in the course of a check; and both below a label
SMALL = {
    "waiting": ("bihm", {"layers": [3, 2], "release": NEVER}),
    "on the way": ("bihm", {"layers": [3, 2], "release": 0.0}),
    "label": ("ssl_bihm", LABELLED),
    "label on the way": ("ssl_bihm", {**LABELLED, "release": 0.0}),
}
# what a label that is independent of the row cannot do: as documented, it is learned from the last release on
IDLE_LABELS = {
    ("labels in learning", "label"): "labels are ignored?",
    ("labels in learning", "label on the way"): "labels are ignored?",  # in a model that no update has changed
    ("learning", "label"): "-log p of their labels: 1.10 before 300 updates, 1.10 after",
}
QUICK = ("interface", "determinism", "checkpoint", "resuming", "loss is a bound", "loss is a mean over rows")


def _verified(check, state):
    method, model = SMALL[state]
    result = run_check(check, Subject(method_class(method), {**model, "release_every": 2}))
    if (check, state) in IDLE_LABELS:
        assert result.verdict == "failed"
        assert IDLE_LABELS[check, state] in result.detail
    else:
        assert result.verdict in ("passed", "not applicable"), result.detail
    return result.verdict


@pytest.mark.parametrize("state", SMALL)
@pytest.mark.parametrize("check", QUICK)
def test_a_model_with_layers_that_wait_is_verified(check, state):
    assert _verified(check, state) == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("state", SMALL)
@pytest.mark.parametrize("check", [check for check in CHECKS if check not in QUICK])
def test_a_model_with_layers_that_wait_passes_the_other_checks(check, state):
    _verified(check, state)
