"""The benchmark: rivals do the same job as ours, the floor holds the right products, and the files keep their form."""

import csv
import importlib
import json
import math
import re
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from enumerable import flat_gradient, small_model, small_stack, z_scores, zero_gradients

from harness.bench import agreement, cases, contenders, floor, memory, plots, report, scaling, timing
from harness.bench import ours as our_part
from harness.bench import run as bench_run
from harness.bench.cases import Case
from harness.bench.contenders import AbsentError, Workload
from harness.bench.findings import CaseFindings, Findings
from harness.bench.labels import labels_of
from harness.bench.rivals import textbook
from harness.bench.timing import Timing
from harness.bench.workloads import Workloads
from harness.blocks.small_layers import one_by_one
from harness.cli import main
from harness.compute import parallel
from harness.data import DataSettings
from harness.errors import ConfigError, HarnessError
from harness.method import Batch

CPU = torch.device("cpu")
CSV_COLUMNS = ["case", "contender", "device", "median_ms", "min_ms", "max_ms", "ours_faster_by", "floor_ms", "peak_mb"]
N_ROWS, K = 6, 5


def tiny_case(method="bihm", job=cases.UPDATE, **changes):
    models = {
        "bihm": {"layers": [8, 4]},
        "rws": {"layers": [8, 4]},
        "nade": {"hidden": 7},
        "vae": {"latent": 3, "hidden": [9, 6]},
        "iwae": {"layers": [4, 2], "hidden": [[9, 6], [5, 3]]},
        "vae_hmc": {"latent": 3, "hidden": [9, 6], "iterations": 2},
        "label_mlp": {"hidden": 9, "n_classes": 3, "dropout": 0.5, "input_dropout": 0.2, "weight_decay": 1e-3},
    }
    values = {
        "key": "bihm12",
        "title": f"tiny {method}",
        "job": job,
        "dataset": "adult",
        "method": method,
        "model": models[method],
        "n_visible": 123,
        "rows": N_ROWS,
        "n_samples": K,
        "contenders": (cases.OURS, cases.TEXTBOOK),
    }
    return Case(**{**values, **changes})


def rows(n, n_visible=5, seed=0):
    return (torch.rand(n, n_visible, generator=torch.Generator().manual_seed(seed)) < 0.4).double()


def nothing_to_find(tmp_path):
    """Data settings with which no data set can be had, so that rows are drawn at random."""
    return DataSettings(cache=tmp_path / "cache", mirrors=(), download=False)


# -- rivals do the same job as ours ------------------------------------------------------------------------------------


@pytest.fixture(params=["bihm", "rws"])
def stack_and_samples(request):
    """A model with K samples for each of some rows, the textbook's network of the same weights, and its layers."""
    model = small_stack(request.param)
    x = rows(N_ROWS)
    inferred = model.infer(x, K, torch.Generator().manual_seed(1))
    layers = [x[:, None].expand(-1, K, -1), *(h.view(N_ROWS, K, -1) for h in inferred.h)]
    return model, inferred, textbook.belief_net_like(model), layers


def test_textbook_scores_samples_as_ours_does(stack_and_samples):
    _, inferred, net, layers = stack_and_samples
    torch.testing.assert_close(net.log_joint(layers), inferred.log_p, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.log_recognition(layers), inferred.log_q, rtol=1e-12, atol=1e-12)


def test_textbook_scores_what_it_draws(stack_and_samples):
    _, _, net, layers = stack_and_samples
    drawn, log_q = net.infer(layers[0][:, 0], K)
    assert [layer.shape for layer in drawn] == [layer.shape for layer in layers]
    torch.testing.assert_close(log_q, net.log_recognition(drawn))


def test_textbook_gradients_are_those_of_ours(stack_and_samples, monkeypatch):
    """The same samples in wake, and in sleep, give the same gradient."""
    model, inferred, net, layers = stack_and_samples
    sleep = model.descend(model.sample_prior(N_ROWS, torch.Generator().manual_seed(2)), torch.Generator())
    log_p, log_q = net.log_joint(layers), net.log_recognition(layers)
    if model.name == "bihm":
        textbook.bihm_loss(log_p, log_q).backward()
    else:
        textbook.rws_loss(log_p, log_q, net.log_recognition([sleep[0], *sleep[1]])).backward()
    monkeypatch.setattr(model, "infer", lambda *_, **__: inferred)
    monkeypatch.setattr(model, "descend", lambda *_, **__: sleep)
    zero_gradients(model)
    model.accumulate_gradients(Batch(inferred.x), K, torch.Generator())
    mine = [*model.p_weight, *model.p_bias, *model.q_weight, *model.q_bias, model.prior_bias]
    theirs = [getattr(linear, part) for side in (net.p, net.q) for part in ("weight", "bias") for linear in side]
    for ours, other in zip(mine, [*theirs, net.prior], strict=True):
        torch.testing.assert_close(other.grad, ours.grad, rtol=1e-9, atol=1e-12)


def test_textbook_nade_is_ours():
    model, x = small_model("nade", hidden=4), rows(N_ROWS)
    net = textbook.NADE(5, 4).double()
    net.load_state_dict(model.state_dict())
    torch.testing.assert_close(net.log_prob(x), model.log_prob(x))
    (-net.log_prob(x).mean()).backward()
    zero_gradients(model)
    model.accumulate_gradients(Batch(x), 1, torch.Generator())
    torch.testing.assert_close(flat_gradient(net), flat_gradient(model))


@pytest.mark.parametrize(
    ("name", "model"),
    [("vae", {"latent": 2, "hidden": [4]}), ("iwae", {"layers": [3, 2], "hidden": [[4], [3]]})],
)
def test_textbook_gaussian_losses_have_the_mean_of_ours(name, model):
    mine, x = small_model(name, scale=0.4, **model), rows(3)
    net = textbook.NETWORKS[name](5, **model).double()
    state = mine.state_dict()
    if name == "vae":
        state = {key.replace("coders.0.", "coder."): value for key, value in state.items()}
    net.load_state_dict(state)
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(4)
    with torch.no_grad():
        differences = torch.stack([net.loss(x, K) - mine.loss(Batch(x), K, generator).to(x.dtype) for _ in range(2000)])
    assert abs(z_scores(differences[:, None], torch.zeros(1).double())).item() < 4


def test_textbook_evaluation_estimates_the_same():
    model, x = small_stack("bihm"), rows(N_ROWS)
    net = textbook.belief_net_like(model)
    torch.manual_seed(1)  # the same seed would give the same draws
    generator = torch.Generator().manual_seed(0)
    repeats = []
    for _ in range(200):
        mine = torch.logsumexp(model.log_weights(x, 20, generator), 1) - math.log(20)
        repeats.append(textbook.log_p(net, x, 20) - mine)
    assert z_scores(torch.stack(repeats), torch.zeros(N_ROWS).double()).abs().max() < 4
    theirs = textbook.log_z2_weights(net, 100_000).exp()
    mine = model.log_z2_weights(100_000, 1, generator).flatten().exp()
    z = (theirs.mean() - mine.mean()) / ((theirs.var() + mine.var()) / 100_000).sqrt()
    assert abs(z) < 4


def test_textbook_transitions_have_the_mean_of_ours():
    """VAE + HMC on the same weights, the textbook's those of each transition by themselves."""
    model = {"latent": 2, "hidden": [4, 3], "iterations": 2, "leapfrog_steps": 2, "reverse_hidden": 3}
    mine, x = small_model("vae_hmc", scale=0.4, **model), rows(3)
    net = textbook.NETWORKS["vae_hmc"](5, **model).double()
    linears = [layer for part in (mine.encoders[0], mine.decoders[0]) for layer in part if hasattr(layer, "weight")]
    theirs = [net.features[0], net.features[2], net.posterior, net.decoder[0], net.decoder[2], net.decoder[4]]
    features, bias = mine.reverse_features.view(2, 3, 3), mine.reverse_bias.view(2, 3)
    with torch.no_grad():
        for linear, other in zip(linears, theirs, strict=True):
            other.load_state_dict(linear.state_dict())
        for t, (reverse, log_step) in enumerate(zip(net.reverse, net.log_step, strict=True)):
            log_step.copy_(mine.log_step.view(2, -1)[t])
            reverse[0].weight.copy_(torch.cat([features[t], mine.reverse_state[t].t()], dim=1))
            reverse[0].bias.copy_(bias[t])
            reverse[2].weight.copy_(mine.reverse_output[t].t())
            reverse[2].bias.copy_(mine.reverse_output_bias.view(2, -1)[t])
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(4)
    differences = [net.loss(x, K).item() - mine.loss(Batch(x), K, generator).item() for _ in range(1000)]
    # the constants of K latent and T K momentum normals, as many above as below, cancel
    assert abs(z_scores(torch.tensor(differences)[:, None], torch.zeros(1))).item() < 4


def test_textbook_label_mlp_has_our_loss_and_decay():
    """Without dropout: the gradient of ours is that of the textbook's loss plus weight_decay times the weights."""
    model = {"hidden": 4, "n_classes": 3, "weight_decay": 0.1}
    mine, x = small_model("label_mlp", **model), rows(N_ROWS)
    net = textbook.NETWORKS["label_mlp"](5, **model).double()
    net.load_state_dict(dict(zip(net.state_dict(), mine.state_dict().values(), strict=True)))
    y = labels_of(x, tiny_case("label_mlp"))
    assert sorted(set(y.tolist())) == [0, 1, 2]
    net.loss(x, y).backward()
    zero_gradients(mine)
    mine.accumulate_gradients(Batch(x, y), 1, torch.Generator())
    for parameter, other in zip(mine.parameters(), net.parameters(), strict=True):
        decay = 0.1 * other.detach() if other.dim() > 1 else 0.0
        torch.testing.assert_close(parameter.grad, other.grad + decay, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["bihm", "rws", "nade", "vae", "iwae", "vae_hmc", "label_mlp"])
@pytest.mark.parametrize("contender", [cases.OURS, cases.TEXTBOOK])
def test_updates_run_on_every_network(method, contender):
    contenders.job(contender, Workload(tiny_case(method), rows(12, 123).float()))()


def test_rivals_train_with_the_penalty():
    network = torch.nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -1.0, 0.5]]))
        network.bias.fill_(1.0)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    no_gradient = textbook.by_backward(lambda x: 0.0 * network(x).sum())
    textbook.adam_update(network, no_gradient, learning_rate=0.1, l1=1e-2)(torch.ones(1, 3))
    torch.testing.assert_close(network.weight, before[0] - 0.1 * before[0].sign())
    torch.testing.assert_close(network.bias, before[1])


# -- rivals that need packages -----------------------------------------------------------------------------------------


PYRO = "pyro-ppl of the extra 'bench' is not installed"


@pytest.mark.parametrize(
    ("contender", "method"),
    [
        (cases.PYRO_RWS, "bihm"),
        (cases.PYRO_RWS, "rws"),
        (cases.PYRO_TRACE_GRAPH, "bihm"),
        (cases.PYRO_MEAN_FIELD, "vae"),
        (cases.PYRO_RENYI, "iwae"),
    ],
)
def test_pyro_updates_train_every_parameter(contender, method, monkeypatch):
    pytest.importorskip("pyro", reason=PYRO)
    networks = []
    network = textbook.NETWORKS[method]
    monkeypatch.setitem(textbook.NETWORKS, method, lambda *a, **k: networks.append(network(*a, **k)) or networks[0])
    job = contenders.job(contender, Workload(tiny_case(method), rows(12, 123).float()))
    before = [parameter.detach().clone() for parameter in networks[0].parameters()]
    job()
    for parameter, old in zip(networks[0].parameters(), before, strict=True):
        assert not torch.equal(parameter, old)


@pytest.mark.parametrize(("method", "objective"), [("vae", "TraceMeanField_ELBO"), ("iwae", "RenyiELBO")])
def test_pyro_programs_are_the_textbooks_models(method, objective):
    pytest.importorskip("pyro", reason=PYRO)
    from harness.bench.rivals import pyro as rival

    case = tiny_case(method, n_visible=5)
    net, x = textbook.NETWORKS[method](5, **case.model).double(), rows(3)
    loss, programs = rival.objective(objective, case), rival.programs(net)
    torch.manual_seed(0)
    with torch.no_grad():
        repeats = [loss.loss(*programs, x) / len(x) - net.loss(x, K).item() for _ in range(1000)]
    assert abs(z_scores(torch.tensor(repeats)[:, None], torch.zeros(1))).item() < 4


def test_pyro_scores_belief_networks_as_the_textbook_does(stack_and_samples):
    """The model's joint and the guide's density at given samples."""
    pyro = pytest.importorskip("pyro", reason=PYRO)
    from harness.bench.rivals import pyro as rival

    _, inferred, net, layers = stack_and_samples
    model, guide = rival.programs(net)
    for k in range(K):
        h = {f"h{level}": layer[:, k] for level, layer in enumerate(layers[1:], start=1)}
        for program, expected in ((model, inferred.log_p), (guide, inferred.log_q)):
            trace = pyro.poutine.trace(pyro.condition(program, h)).get_trace(inferred.x)
            torch.testing.assert_close(trace.log_prob_sum(), expected[:, k].sum())


@pytest.mark.parametrize("method", ["vae", "iwae"])
def test_pythae_makes_no_more_products_than_ours(method):
    pytest.importorskip("pythae", reason="pythae of the extra 'bench' is not installed")
    workload = Workload(tiny_case(method), rows(12, 123).float())

    def multiplications(contender):
        job = contenders.job(contender, workload)
        job()
        return sum(math.prod(product.sizes) for product in floor.record_products(job))

    assert 0 < multiplications(cases.PYTHAE) <= multiplications(cases.OURS)


@pytest.mark.parametrize("contender", [cases.PYRO_RWS, cases.PYTHAE])
def test_a_missing_package_leaves_a_reason(contender, monkeypatch):
    def absent(name, *_):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(AbsentError, match=r"No module named.*pip install -e '\.\[bench\]'"):
        contenders.check_present(contender, CPU)


def test_models_share_a_program_on_a_gpu_alone():
    with pytest.raises(AbsentError, match="on a GPU alone"):
        contenders.check_present(cases.OURS_TOGETHER, CPU)
    assert all((cases.OURS_TOGETHER in case.contenders) == (case.job == cases.UPDATE) for case in cases.cases())


@pytest.mark.parametrize("method", ["bihm", "label_mlp"])
def test_models_at_once_make_an_update_each(method, monkeypatch):
    """By the program, once graphs are warmed up for; with draws of their own, so that no two losses are equal."""
    made = []

    class Program:
        def update(self, parts):
            made.append(len(parts))
            return [part.function() for part in parts.values()]

    class Lone:
        warm_up = staticmethod(lambda function: function())

    monkeypatch.setattr(our_part, "Program", Program)

    class Captured(our_part.UpdateStep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._graphs = Lone

    monkeypatch.setattr(our_part, "UpdateStep", Captured)
    case, x = tiny_case(method), rows(12, 123).float()
    update = our_part.together(case, CPU, 3)
    losses = [[loss.item() for loss in update(x)] for _ in range(6)]
    assert made == [3] * 3
    assert all(len(set(each)) == 3 for each in losses)
    for by_member in zip(*losses, strict=True):
        assert len(set(by_member)) == 6


# -- the floor ---------------------------------------------------------------------------------------------------------


def test_the_floor_of_bihm_holds_the_products_of_its_layers():
    n_visible, layers = 123, [8, 4]
    job = (
        contenders.job(cases.OURS_FLOAT32, Workload(tiny_case(), rows(12, n_visible).float()))
        if (_has_bfloat16())
        else contenders.job(cases.OURS, Workload(tiny_case(), rows(12, n_visible).float()))
    )
    job()
    expected = Counter()
    for level, (below, above) in enumerate(pairwise([n_visible, *layers])):
        # q: value and gradient, in the lowest layer once per row; p: value and gradient, once per sample
        n_q, n_p = N_ROWS if level == 0 else N_ROWS * K, N_ROWS * K
        expected.update(tuple(sorted((n, below, above))) for n in (n_q, n_q, n_p, n_p))
    with one_by_one():
        products = floor.record_products(job)
    assert Counter(tuple(sorted(product.sizes)) for product in products if min(product.sizes) > 1) == expected


def test_products_in_a_kernel_of_ours_count_for_the_floor(monkeypatch):
    """Small layers, which make no product of PyTorch's, have one where the floor is taken, and only there."""
    recorded = []
    monkeypatch.setattr(floor, "floor_of", lambda job: recorded.append(floor.record_products(job)))
    workload = Workload(tiny_case(), rows(12, 123).float())
    assert bench_run._floor(workload) is None
    ours = contenders.job(cases.OURS, workload)
    recorded.append(floor.record_products(ours))
    with_small, without = (sum(sorted(each.sizes)[:2] == [4, 8] for each in products) for products in recorded)
    assert (with_small, without) == (4, 0)


def _has_bfloat16():
    try:
        contenders.check_present(cases.OURS_FLOAT32, CPU)
    except AbsentError:
        return False
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kind_of_product_is_recorded_and_can_be_replayed(dtype):
    a, b, c = torch.rand(3, 4, dtype=dtype), torch.rand(4, 5, dtype=dtype), torch.rand(3, 5, dtype=dtype)
    stacked, out = torch.rand(2, 3, 4, dtype=dtype), torch.empty(3, 5, dtype=dtype)

    def job():
        torch.mm(a, b)
        torch.mm(a, b, out=out)
        c.addmm_(a, b)
        torch.nn.functional.linear(a, b.t(), c[0])
        torch.matmul(stacked, b)
        torch.bmm(stacked, b.expand(2, -1, -1))
        torch.baddbmm(c, stacked, b.expand(2, -1, -1))
        torch.exp(a)
        with torch.inference_mode():
            torch.nn.functional.linear(a, b.t())

    products = floor.record_products(job)
    assert [product.sizes for product in products] == [(3, 4, 5)] * 4 + [(6, 4, 5)] * 3 + [(3, 4, 5)]
    assert {operand.dtype for product in products for operand in product.factors} == {dtype}
    before = [tensor.clone() for tensor in (a, b, c, stacked, out)]
    floor.replay_of(products)()
    for tensor, copy in zip((a, b, c, stacked, out), before, strict=True):
        assert torch.equal(tensor, copy), "a replay must work on memory of its own"


def test_backward_products_are_recorded():
    weight, x = torch.rand(4, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    products = floor.record_products(lambda: torch.nn.functional.linear(x, weight).sum().backward())
    assert sorted(product.sizes for product in products) == [(2, 3, 4), (2, 4, 3), (4, 2, 3)]


@pytest.mark.parametrize("idle", [False, True], ids=["both threads", "the second too late"])
def test_products_of_all_threads_are_in_the_floor(monkeypatch, idle):
    a = torch.rand(8, 8)
    pieces = [lambda: torch.mm(a, a)] * 5
    made = []
    if idle:  # a busy machine: the caller is done with all pieces before the other thread has begun
        monkeypatch.setattr(ThreadPoolExecutor, "submit", _submit_nothing)
    torch.set_num_threads(2)
    try:
        replay = floor.floor_of(lambda: parallel.run_all(pieces))
        monkeypatch.setattr(floor, "run_all", lambda shares: made.extend(floor.record_products(s) for s in shares))
        replay()
    finally:
        torch.set_num_threads(1)
    assert [len(share) for share in made] == [3, 2]
    assert floor.floor_of(a.exp) is None


def _submit_nothing(executor, work):
    nothing = Future()
    nothing.set_result(None)
    return nothing


# -- timing and memory -------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_the_order_turns_around(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "_busy_seconds", lambda: None)
    jobs = {name: lambda name=name: calls.append(name) for name in "abc"}
    found = timing.time_in_turns(jobs, CPU, timing.Effort(rounds=4, block_s=0.0), units=10).timings
    assert "".join(calls[-12:]) == "abccbaabccba"
    assert {len(each.blocks_ms) for each in found.values()} == {4}


def test_a_block_is_long_enough_and_times_are_a_unit():
    found = timing.time_in_turns(
        {"sleep": lambda: timing.time.sleep(0.002)}, CPU, timing.Effort(3, 0.02, total_s=1.0), units=2
    ).timings
    assert 1.0 <= found["sleep"].min_ms <= found["sleep"].median_ms <= found["sleep"].max_ms


def test_disturbed_blocks_are_repeated_and_counted_last(monkeypatch):
    shares = iter([0.5, 0.0, 0.9, 0.0, 0.0])
    monkeypatch.setattr(timing._Others, "disturbance", lambda _: next(shares))
    turns = timing.time_in_turns({"job": int}, CPU, timing.Effort(rounds=3, block_s=0.0))
    assert (len(turns.timings["job"].blocks_ms), turns.disturbance) == (3, 0.0)
    assert next(shares, None) is None
    shares = iter([0.5, 0.0])
    turns = timing.time_in_turns({"job": lambda: timing.time.sleep(0.01)}, CPU, timing.Effort(3, 0.0, total_s=0.03))
    assert (len(turns.timings["job"].blocks_ms), turns.disturbance) == (2, 0.5)


def test_others_disturb_when_no_processor_is_left(monkeypatch):
    n = timing.os.cpu_count() or 1
    for busy, expected in ((0.0, 0.0), (0.2 * n, 1.0)):
        reading = iter([10.0, 10.0 + busy])
        monkeypatch.setattr(timing, "_busy_seconds", lambda reading=reading: next(reading))
        watch = timing._Others()
        timing.time.sleep(0.2)
        assert watch.disturbance() == pytest.approx(expected, abs=0.2)


def test_a_slow_job_is_called_twice_only():
    calls = []
    timing.time_in_turns(
        {"slow": lambda: (timing.time.sleep(0.05), calls.append(1))}, CPU, timing.Effort(9, 0.01, total_s=0.06)
    )
    assert len(calls) == 2


@pytest.mark.skipif(not memory.Path("/proc/self/clear_refs").exists(), reason="needs Linux's high-water mark")
def test_the_peak_is_what_a_block_allocates():
    with memory._Peak(CPU) as peak:
        torch.ones(25_000_000)  # 100 MB, freed again at once
    assert peak.bytes / memory.MEGABYTE == pytest.approx(100, abs=5)


def test_peak_memory_comes_from_a_process_of_its_own(tmp_path):
    workloads = Workloads(nothing_to_find(tmp_path), tmp_path, CPU, training_updates=2)
    workload = workloads.of(tiny_case(job=cases.EVALUATION))
    stored = workloads.stored(workload)
    assert 0 <= memory.peak_mb(cases.OURS, workload, stored) < 100
    assert np.load(stored).shape == (N_ROWS, 123)
    with pytest.raises(HarnessError, match=r"memory of ours: expected a number.*no-such-file"):
        memory.peak_mb(cases.OURS, workload, tmp_path / "no-such-file.npy")


# -- cases, results, files ---------------------------------------------------------------------------------------------


def test_the_cases_are_those_of_the_thesis():
    known = {case.key: case for case in cases.cases()}
    assert known["bihm12"].model == {"layers": [300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10]}
    assert known["bihm4"].model == {"layers": [100, 70, 50, 25]}
    assert known["rws5"].model == {"layers": [400, 300, 200, 100, 10]}
    assert known["nade"].model == {"hidden": 500}
    updates = {key: (case.rows, case.n_samples) for key, case in known.items() if case.job == cases.UPDATE}
    assert updates == {
        "bihm12": (100, 10),
        "bihm4": (100, 10),
        "rws5": (100, 10),
        "nade": (100, 1),
        "vae": (100, 1),
        "vae_hmc": (100, 1),
        "iwae1": (20, 5),
        "iwae2": (20, 5),
        "label_mlp": (100, 1),
    }
    for case in known.values():
        assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case
        assert case.contenders[0] == cases.OURS


def test_cases_are_chosen_by_their_keys():
    assert [case.key for case in cases.chosen(["vae", "nade"], long=False)] == ["vae", "nade"]
    assert not any(case.only_long for case in cases.chosen(None, long=False))
    assert any(case.only_long for case in cases.chosen(None, long=True))
    with pytest.raises(ConfigError, match=r"--cases: expected some of bihm12.* or scaling, found vea"):
        cases.chosen(["vea"], long=False)


def test_scaling_changes_one_thing():
    case = tiny_case()
    assert scaling.varied(case, scaling.K, 50) == replace(case, n_samples=50)
    assert scaling.varied(case, scaling.BATCH, 50) == replace(case, rows=50)
    assert scaling.varied(case, scaling.WIDTH, 0.5).model == {"layers": [4, 2]}
    assert scaling.varied(case, scaling.DEPTH, 1).model == {"layers": [8]}


@pytest.mark.parametrize("job", [cases.EVALUATION, cases.LOG_Z2])
def test_results_are_compared(job, tmp_path, monkeypatch):
    workloads = Workloads(nothing_to_find(tmp_path), tmp_path, CPU, training_updates=50)
    workload = workloads.of(tiny_case(job=job, rows=40, n_samples=3000))
    compare = agreement.of_log_p if job == cases.EVALUATION else agreement.of_log_z2
    agreed = compare(workload)
    assert agreed.holds
    assert agreed.reliable
    assert "equal within the error" in str(agreed)
    for name in ("log_p", "log_z2_weights"):
        right = getattr(textbook, name)
        monkeypatch.setattr(textbook, name, lambda *a, right=right: right(*a) + 1.0)
    assert not compare(workload).holds
    assert "NOT EQUAL" in str(compare(workload))


def findings():
    found = CaseFindings(
        case=tiny_case(),
        timings={cases.OURS: Timing((2.0, 3.0, 4.0), 9.0), cases.TEXTBOOK: Timing((12.0, 11.0, 30.0), 20.0)},
        floor=Timing((1.5, 1.0, 2.0), 1.0),
        peaks_mb={cases.OURS: 12.3456789},
        absences=(contenders_absence(),),
    )
    bare = CaseFindings(tiny_case("nade"), {cases.OURS: Timing((0.012345678,), 1.0)}, None, {}, ())
    return Findings("cpu, 1 thread", ("harness 0", "a processor"), [found, bare], notes=["a note"])


def contenders_absence():
    from harness.bench.findings import Absence

    return Absence(cases.PYTHAE, "pythae cannot be imported")


def test_the_csv_keeps_its_columns(tmp_path):
    report.write(findings(), tmp_path)
    with (tmp_path / "bench.csv").open(newline="") as lines:
        table = list(csv.reader(lines))
    assert table == [
        CSV_COLUMNS,
        ["tiny bihm", "ours", "cpu, 1 thread", "3", "2", "4", "1", "1.5", "12.346"],
        ["tiny bihm", "textbook", "cpu, 1 thread", "12", "11", "30", "4", "1.5", ""],
        ["tiny nade", "ours", "cpu, 1 thread", "0.012346", "0.012346", "0.012346", "1", "", ""],
    ]


def test_growth_alone_can_be_reported(tmp_path):
    points = [scaling.Point(scaling.K, k, name, Timing((2.0 * k,), 1.0)) for k in (1, 2) for name in scaling.CONTENDERS]
    only = Findings("cpu, 1 thread", ("harness 0",), points=points)
    written = [*report.write(only, tmp_path), *plots.write(only, tmp_path)]
    assert {path.name for path in written} == {"scaling.csv", "bench.md", "scaling.png", "scaling.pdf"}
    assert "How cost grows" in (tmp_path / "bench.md").read_text(encoding="utf-8")


def test_the_report_says_ratios_reasons_and_where_it_was_measured():
    text = report.markdown(findings())
    for expected in ("4.0 ×", "2.0 ×", "harness 0; a processor.", "- a note.", "Left out: pythae in tiny bihm. Reason"):
        assert expected in text
    assert text.count("unmeasured") == 2
    several = findings()
    several.cases[0] = replace(several.cases[0], case=tiny_case(contenders=(cases.OURS, cases.OURS_TOGETHER)))
    assert re.search(r"tiny bihm, 4 models at once +\| +\| +unmeasured", report.markdown(several))
    on_gpu = findings()
    on_gpu.device = "cuda"
    assert "unmeasured" not in report.markdown(on_gpu)


def test_the_verb_measures_and_writes_everything(tmp_path, monkeypatch, capsys):
    tiny = (
        tiny_case(contenders=(cases.OURS, cases.TEXTBOOK, "Pyro of the future")),
        tiny_case(job=cases.EVALUATION, key="evaluation", title="tiny evaluation"),
    )
    monkeypatch.setitem(contenders._PACKAGES, "Pyro of the future", ("pyro_of_the_future", "pyro-future"))
    monkeypatch.setattr(cases, "cases", lambda: tiny)
    monkeypatch.setattr(scaling, "VALUES", dict.fromkeys(scaling.VALUES, (1, 2)))
    nowhere = {"data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}}
    output = tmp_path / "bench"
    words = ["bench", "--quick", "--threads", "1", "--device", "cpu", "--output", str(output)]
    assert main([*words, "--settings", json.dumps(nowhere)]) == 0
    files = {f"{name}.{form}" for name in ("bench", "scaling") for form in ("csv", "png", "pdf")} | {"bench.md"}
    assert {path.name for path in output.iterdir()} == files
    with (output / "bench.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert list(table[0]) == CSV_COLUMNS
    assert [(row["case"], row["contender"]) for row in table] == [
        (title, contender) for title in ("tiny bihm", "tiny evaluation") for contender in ("ours", "textbook")
    ]
    assert all(float(row[column]) > 0 for row in table for column in CSV_COLUMNS[3:8])
    text = (output / "bench.md").read_text(encoding="utf-8")
    assert "pyro-future cannot be imported" in text
    assert "adult could not be obtained" in text
    with (output / "scaling.csv").open(newline="") as lines:
        points = list(csv.DictReader(lines))
    assert {row["axis"] for row in points} == {"K", "batch", "width", "depth"}


def test_an_unknown_case_is_named(capsys):
    assert main(["bench", "--cases", "no-such-case"]) == 3
    assert "--cases: expected some of bihm12" in capsys.readouterr().err
